"""Hostile files and values: whatever a reader is given, it answers with the library's own error.

A plain ``pytest`` tries some hundred inputs; ``make fuzz`` many more, and other ones every time.
No input may take long or much memory: a clock and a limit on the address space watch each.
"""

import gzip
import io
import json
import resource
import shutil
import signal
import sys
import threading
import zipfile
from contextlib import ExitStack, chdir, contextmanager, suppress
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import trm
from tests.conftest import TINY, compose, tiny_model
from trm import InputError, evaluate, train
from trm.checkpoints import continuing
from trm.commands import run_command
from trm.compare import main as compare
from trm.data import generated
from trm.data.arc.files import read_subset
from trm.data.files import read_csv
from trm.describe import main as describe
from trm.solve import main as solve
from trm.support.streams import decoded
from trm.tasks import Maze, Sudoku
from trm.tasks.reading import Reader

SECONDS = 20  # of the processor: far more than any input should take, far less than a hang
MOST_SECONDS = 300  # on the clock, where other processes may be in the way
MOST_MEMORY = 1 << 32  # bytes of address space beyond what the process has already
MOST_GROWTH = 1 << 29  # bytes that one input may really take
MENDABLE = (InputError, HydraException, OmegaConfBaseException, MisconfigurationException)


class TooLong(BaseException):
    """Not a TimeoutError: that is an OSError, which readers take for a fault of their file."""


@contextmanager
def watched():
    """Fail where an input takes too long or too much memory."""

    def too_long(*_):
        raise TooLong("this input takes too long")

    assert threading.current_thread() is threading.main_thread()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, -1))
    before = {
        number: signal.signal(number, too_long) for number in (signal.SIGPROF, signal.SIGALRM)
    }
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(MOST_SECONDS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
        assert growth * 1024 < MOST_GROWTH, "this input takes too much memory"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_hang_is_seen_whatever_the_reader_makes_of_errors(monkeypatch):
    monkeypatch.setattr(f"{__name__}.SECONDS", 0.05)

    def hang():
        try:
            while True:
                pass
        except Exception as error:
            raise InputError("the file is at fault") from error

    with pytest.raises(TooLong):
        survives(hang)


def survives(read, *arguments, allowed=InputError) -> None:
    with watched(), suppress(allowed):
        read(*arguments)


# What trips parsers: separators, numbers at the edges, other encodings, nesting, markup.
TRIPPING = [
    *(b"", b"\x00", b"\n", b"\r", b",", b"\xff\xfe", b"\xc3\x28", "é漢🏖".encode(), b'"', b"'"),
    *(b"-1", b"0", b"1e999", b"nan", b"9" * 40, b"null", b"true", b"[]", b"{}", b"[" * 3000),
    *(
        b"{{",
        b"${x}",
        b"!!python/object:os.system",
        b"&a [*a,*a]",
        b"../" * 9,
        b"%s%n",
        b"A" * 9999,
    ),
]
CUTS = st.tuples(st.floats(0, 1), st.integers(0, 40))
PIECES = st.one_of(st.sampled_from(TRIPPING), st.binary(max_size=12))


@st.composite
def mutated(draw, data: bytes) -> bytes:
    """Cut, repeat, overwrite or insert at a few places."""
    for _ in range(draw(st.integers(1, 4))):
        where, length = draw(CUTS)
        at = int(where * len(data))
        kind = draw(st.sampled_from(("insert", "overwrite", "delete", "repeat", "cut")))
        piece = draw(PIECES)
        if kind == "insert":
            data = data[:at] + piece + data[at:]
        elif kind == "overwrite":
            data = data[:at] + piece + data[at + max(len(piece), 1) :]
        elif kind == "delete":
            data = data[:at] + data[at + length :]
        elif kind == "repeat":
            data = data[:at] + data[at : at + length] * draw(st.integers(2, 9)) + data[at:]
        else:
            data = data[:at]
    return data


ROWS = "source,question,answer,rating\n" + "".join(
    f"x,{question},{answer},{rating}\n"
    for question, answer, rating in [
        ("1..4.4.1.1.34..2", "1234342121434312"[:16], 3),
        ("4....2..2.1....4", "4132324123141423"[:16], 0),
        ("." * 16, "1234341221434321", -1),
    ]
)


@pytest.fixture(scope="module")
def place(tmp_path_factory, trained) -> Path:
    """Good files to start from, and room for bad ones."""
    folder = tmp_path_factory.mktemp("fuzz")
    model = tiny_model(prefix_len=1, identifiers=3, hidden_multiple=256)
    trm.save(model, folder / "model", Sudoku(2, 2))
    trm.save_published(model, folder / "published.pt")
    shutil.copytree(trained[0], folder / "run")
    (folder / "run.ckpt").write_bytes((folder / "run/checkpoints/last.ckpt").read_bytes())
    (folder / "case").mkdir()
    return folder


def put(place: Path, name: str, contents: bytes) -> Path:
    path = place / "case" / name
    path.write_bytes(contents)
    return path


@given(data=st.data())
def test_csv(place, data):
    text = data.draw(mutated(ROWS.encode()))
    survives(read_csv, put(place, "x.csv", text), Sudoku(2, 2))


MAZE = "source,question,answer,rating\n,S    ##  #     G,S   o## o#  oooG,7\n" * 2


@given(data=st.data())
def test_maze_csv(place, data):
    survives(read_csv, put(place, "x.csv", data.draw(mutated(MAZE.encode()))), Maze(4))


ARC_TASK = {"train": [{"input": [[1, 2]], "output": [[3]]}], "test": [{"input": [[0]]}]}


@given(data=st.data())
def test_arc_json(place, data):
    folder = place / "case" / "arc"
    folder.mkdir(exist_ok=True)
    challenges = json.dumps({"a": ARC_TASK, "b": ARC_TASK}).encode()
    solutions = json.dumps({"a": [[[4]]], "b": [[[5]]]}).encode()
    which = data.draw(st.sampled_from((0, 1)))
    both = [challenges, solutions]
    both[which] = data.draw(mutated(both[which]))
    for name, text in zip(("challenges", "solutions"), both, strict=True):
        (folder / f"arc-agi_x_{name}.json").write_bytes(text)
    survives(read_subset, folder, "x")


@given(data=st.data())
def test_arc_contents(place, data):
    (place / "case" / "junk").mkdir(exist_ok=True)
    contents = data.draw(with_junk({"a": ARC_TASK}).map(without_tensors))
    (place / "case" / "arc-agi_junk_challenges.json").write_text(json.dumps(contents))
    survives(read_subset, place / "case", "junk")


def without_tensors(contents):
    if isinstance(contents, dict):
        return {str(key): without_tensors(value) for key, value in contents.items()}
    return "tensor" if isinstance(contents, torch.Tensor) else contents


@given(data=st.data())
def test_csv_in_gzip(place, data):
    packed = data.draw(mutated(gzip.compress(data.draw(mutated(ROWS.encode())))))
    survives(read_csv, put(place, "x.csv.gz", packed), Sudoku(2, 2))


@given(text=st.one_of(st.text(max_size=40), st.text(alphabet="1234.0_ ", min_size=14, max_size=18)))
def test_puzzle_text(text):
    task = Sudoku(2, 2)

    def read():
        tokens = task.encode(text)
        assert len(tokens) == task.cells
        task.explain(tokens)
        task.render(tokens)

    survives(read)


WRITTEN = [  # as people write 4x4 puzzles
    b"# a comment\n[Puzzle]\n1 . | . 4\n. 4 | 1 .\n----+----\n1 . | 3 4\n. . | 2 .\n",
    b"puzzle,solution\n1..4.4.1.1.34..2,1234342121434312\n4....2..2.1....4,4132324123141423\n",
    b"1..4.4.1.1.34..2:1:1234342121434312\n\n4***_2__2x1????4\n\xef\xbb\xbf0,0,0,1\r\n",
]


@given(data=st.data())
def test_puzzles_as_people_write_them(data):
    written = data.draw(mutated(data.draw(st.sampled_from(WRITTEN))))
    reader = Reader(Sudoku(2, 2), {16: Sudoku(2, 2), 36: Sudoku(2, 3)}.get)

    def read():
        for reading in reader.read(decoded(io.BufferedReader(io.BytesIO(written)))):
            assert (reading.tokens is None) == (reading.problem is not None)

    survives(read)
    survives(reader.read_one, written.decode(errors="replace"), "the puzzle")


@pytest.mark.parametrize("name", ["run.ckpt", "published.pt"])
@given(data=st.data())
def test_checkpoint_bytes(place, name, data):
    survives(trm.load, put(place, name, data.draw(mutated((place / name).read_bytes()))))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["os.system", "trm.models.TinyRecursiveModel", "trm.tasks.Sudoku"]),
    st.integers(0, 4).map(lambda size: torch.zeros([size] * 2)),
    st.just(torch.zeros(1, dtype=torch.complex64)),
)


@st.composite
def with_junk(draw, contents):
    """Replace, remove or add something, somewhere deep inside."""
    if not isinstance(contents, dict) or not contents or draw(st.integers(0, 5)) == 0:
        return draw(JUNK)
    changed = dict(contents)
    key = draw(st.sampled_from(list(contents)))
    kind = draw(st.sampled_from(("deeper", "deeper", "deeper", "remove", "add")))
    if kind == "remove":
        del changed[key]
    elif kind == "add":
        changed[draw(st.one_of(st.text(max_size=6), st.integers()))] = draw(JUNK)
    else:
        changed[key] = draw(with_junk(contents[key]))
    return changed


@pytest.mark.parametrize("name", ["run.ckpt", "published.pt"])
@given(data=st.data())
def test_checkpoint_contents(place, name, data):
    contents = data.draw(with_junk(torch.load(place / name)))
    path = place / "case" / name
    torch.save(contents, path)
    survives(trm.load, path)


@given(data=st.data())
def test_checkpoint_config(place, data):
    contents = torch.load(place / "run.ckpt")
    contents["trm"] = data.draw(with_junk(contents["trm"]))
    path = place / "case" / "run.ckpt"
    torch.save(contents, path)
    survives(trm.load, path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "identifiers.safetensors"])
@given(data=st.data())
def test_safetensors_folder(place, name, data):
    folder = place / "case" / "model"
    folder.mkdir(exist_ok=True)
    for file in (place / "model").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / name).write_bytes(data.draw(mutated((folder / name).read_bytes())))
    survives(trm.load, folder)


@given(data=st.data())
def test_files_beside_a_published_one(place, data):
    folder = place / "case" / "published"
    folder.mkdir(exist_ok=True)
    (folder / "step_1").write_bytes((place / "published.pt").read_bytes())
    told = yaml.safe_dump({"arch": {"H_cycles": 3, "L_cycles": 2, "num_heads": 2}}).encode()
    (folder / "all_config.yaml").write_bytes(data.draw(mutated(told)))
    names = json.dumps(["<blank>", "a", "b"]).encode()
    (folder / "identifiers.json").write_bytes(data.draw(mutated(names)))
    survives(lambda: trm.load(folder / "step_1", identifiers=["a"], task=Sudoku(2, 2)))


@given(data=st.data())
def test_results(place, data):
    result = (place / "run" / "result.json").read_bytes()
    path = put(place, "result.json", data.draw(mutated(result)))
    with watched():
        assert compare([str(path)]) in (0, 2)


VALUES = st.one_of(
    st.sampled_from(["null", "-1", "0", "1", "1e400", "nan", "inf", "[]", "{}", "???", "''", "é"]),
    st.sampled_from(["true", "9999999999", "[1,2]", "{a:1}", "${seed}", "${nothing}", "x", "2.5"]),
    st.text(max_size=6),
)


def keys_of(config, prefix="") -> list[str]:
    items = config.items() if isinstance(config, dict) else ()
    return [key for k, v in items for key in (prefix + k, *keys_of(v, f"{prefix}{k}."))]


@cache
def all_keys() -> list[str]:
    return keys_of(OmegaConf.to_container(compose("train")))


@given(data=st.data())
def test_overrides(place, data):
    """Everything up to the first training step; the data stays small."""
    keys = st.sampled_from(all_keys())
    chosen = data.draw(st.lists(keys, min_size=1, max_size=3))
    overrides = [f"{key}={data.draw(VALUES)}" for key in chosen]
    steps = [mock.patch.object(train, name) for name in ("fit", "outcome", "_test_and_report")]

    def prepare():
        try:
            cfg = compose("train", *TINY, f"run_dir={place / 'case' / 'new'}", *overrides)
        except Exception:  # Hydra's own; run_command says it in one line
            return
        train.run_training(cfg)

    with ExitStack() as stack:
        for step in steps:
            stack.enter_context(step)
        puzzles = generated(Sudoku(2, 2), train=8, val=2, test=2)
        stack.enter_context(mock.patch.object(train, "load_data", return_value=puzzles))
        survives(prepare, allowed=MENDABLE)


# A good command line of each kind; a word is "MODEL" or "RUN" for those of ``place``.
COMMAND_LINES = [
    ("solve", "MODEL 1..4.4.1.1.34..2 --max-steps 2 --json"),
    ("solve", "MODEL --rollouts 2 --noise 0.1 --seed 1 --select halting 1..4.4.1.1.34..2"),
    ("solve", "PUBLISHED 1..4.4.1.1.34..2 --task sudoku_4x4 --heads 2 --n 1 --T 1 --max-steps 1"),
    ("solve", "MODEL --file PUZZLES --batch-size 2 --max-steps 1 --no-search"),
    ("compare", "RUN RUN"),
    ("describe", "RUN"),
    ("evaluate", "checkpoint=RUN limit=2 batch_size=2 split=val compute.max_steps=1"),
    ("evaluate", "checkpoint=MODEL task=sudoku_4x4 data=as_trained compute=one_pass limit=1"),
    ("train", "experiment=sudoku_6x6 data.train=8 trainer.max_steps=2 --cfg job"),
    ("train", "experiment=sudoku_4x4 ablation=[no_ema] train.N_sup=2 model=hrm --help"),
]
_TEXT = st.one_of(st.sampled_from(["'", '"', "$", "=", ",", "(", "]", "{a", "--", "é", ""]), VALUES)


@st.composite
def mistyped(draw, words: list[str]) -> list[str]:
    """Drop, double, swap, cut or overwrite words, as fingers do."""
    words = list(words)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(words) - 1, 0)))
        word = words[at] if words else ""
        cut = draw(st.integers(0, len(word)))
        kind = draw(st.sampled_from(("drop", "double", "swap", "insert", "cut", "replace")))
        instead = {
            "drop": [],
            "double": [word, word],
            "insert": [word[:cut] + draw(_TEXT) + word[cut:]],
            "cut": [word[:cut]],
            "replace": [word[:cut] + draw(_TEXT)],
            "swap": [word[::-1] if cut else word, *words[:1]],
        }[kind]
        words[at : at + 1] = instead
    return [word.replace("\0", "") for word in words]


@settings(max_examples=settings().max_examples // 4)  # each composes a config or loads a model
@given(data=st.data())
def test_command_lines(place, data):
    """Whatever is mistyped ends with a status and without a traceback."""
    command, line = data.draw(st.sampled_from(COMMAND_LINES))
    names = {"MODEL": place / "model", "RUN": place / "run", "PUBLISHED": place / "published.pt"}
    names["PUZZLES"] = put(place, "puzzles.txt", WRITTEN[0])
    for name, path in names.items():
        line = line.replace(name, str(path))
    words = data.draw(mistyped(line.split()))
    if command in ("train", "evaluate"):  # nothing is written, whatever else is said
        words.append(
            {"train": f"run_dir={place / 'case' / 'new'}", "evaluate": "output=null"}[command]
        )
    with ExitStack() as stack:
        for name in ("fit", "outcome", "_test_and_report"):
            stack.enter_context(mock.patch.object(train, name))
        stack.enter_context(chdir(place / "case"))
        stack.enter_context(mock.patch.object(sys, "argv", [f"trm.{command}", *words]))
        stack.enter_context(watched())
        assert status_of(command, words) in (0, 1, 2), words
        GlobalHydra.instance().clear()


def status_of(command: str, words: list[str]) -> int:
    try:
        if command == "train":
            run_command(train._main, "train", continuing.completed)
        elif command == "evaluate":
            run_command(evaluate._main, "evaluate")
        else:
            return {"solve": solve, "compare": compare, "describe": describe}[command](words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


# ---------------------------------------------------------------- too big


def test_a_gigabyte_in_one_line_is_refused_at_once(tmp_path):
    path = tmp_path / "x.csv"
    with open(path, "wb") as file:
        file.write(ROWS.encode())
        file.truncate(1 << 30)  # zeros without an end of line, and without blocks on the disk
    with watched(), pytest.raises(InputError, match="line 5 is longer than"):
        read_csv(path, Sudoku(2, 2))


HEADER, ROW = ROWS.splitlines(keepends=True)[:2]


@pytest.mark.parametrize(
    ("row", "megabytes", "said"),
    [
        ("\0" * 100, 600, "is longer than"),
        ("\n", 600, "1 fields instead of the 4 .* more bad rows"),
        (ROW, 100, "unpacks to more than 50 times its size"),  # so many times it is read
    ],
    ids=["one line", "bad rows", "good rows"],
)
def test_a_gzip_bomb_is_refused_early(tmp_path, row, megabytes, said):
    path = tmp_path / "x.csv.gz"
    member = gzip.compress((row * (1_000_000 // len(row))).encode())
    with open(path, "wb") as file:
        file.write(gzip.compress(HEADER.encode()))
        for _ in range(megabytes):  # 600 MB in 1 to 2 MB
            file.write(member)
    with watched(), pytest.raises(InputError, match=said):
        read_csv(path, Sudoku(2, 2))


def test_a_checkpoint_bomb_is_refused(place, tmp_path):
    """A deflated entry of a torch file would unpack in memory; torch itself only stores."""
    path = tmp_path / "bomb.ckpt"
    with (
        zipfile.ZipFile(place / "run.ckpt") as good,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in good.infolist():
            data = good.read(entry)
            bomb.writestr(
                entry.filename, data + b"\0" * (1 << 28) if "data/0" in entry.filename else data
            )
    with watched(), pytest.raises(InputError, match="compressed"):
        trm.load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("dim", 10**7), ("dim", 10**18), ("layers", 10**9)],
)
def test_a_checkpoint_whose_config_promises_too_much_is_refused(place, tmp_path, key, value):
    contents = torch.load(place / "run.ckpt")
    contents["trm"]["config"]["model"][key] = value
    path = tmp_path / "run.ckpt"
    torch.save(contents, path)
    with watched(), pytest.raises(InputError):
        trm.load(path)


@pytest.mark.parametrize("override", ["model.dim=3000000", "model.layers=1000000000"])
def test_a_model_larger_than_the_memory_is_refused(tmp_path, override):
    cfg = compose("train", *TINY, f"run_dir={tmp_path / 'run'}", override)
    with watched(), pytest.raises(InputError, match=r"model needs|model.layers"):
        train.run_training(cfg)


def test_an_arc_grid_of_a_million_cells_is_refused(tmp_path):
    task = {"train": [{"input": [[0] * 1000] * 1000, "output": [[1]]}], "test": [{"input": [[1]]}]}
    (tmp_path / "arc-agi_x_challenges.json").write_text(json.dumps({"a": task}))
    with watched(), pytest.raises(InputError, match="1000 x 1000 cells; a side has at most 30"):
        read_subset(tmp_path, "x")
    packed = gzip.compress(b"[" * 1_000_000)
    (tmp_path / "arc-agi_y_challenges.json.gz").write_bytes(packed * 400)
    with watched(), pytest.raises(InputError, match="unpacks to more than 256 MB"):
        read_subset(tmp_path, "y")


@pytest.mark.parametrize("rows", [10**5, 10**30])
def test_a_task_of_absurd_size_is_refused(rows):
    with watched(), pytest.raises(InputError):
        Sudoku(rows, 3)
