"""ARC data as it lies around: layouts, formats, and what cannot be read."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.test_from_arc import read, task_of, write
from trm import Arc, InputError
from trm.data import from_arc
from trm.data.arc.files import choose, read_subset, subsets_of
from trm.tasks.arc import END, FIRST_COLOUR, SIDE, augmented, augmented_name, crop

TASK = task_of(1)
PAIRS = [*TASK["train"], *TASK["test"]]


def put(path, contents) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = contents if isinstance(contents, str) else json.dumps(contents)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def put_tasks(folder, count: int, first: int = 0) -> None:
    for k in range(first, first + count):
        put(folder / f"t{k}.json", task_of(k))


def of_default(path, **settings):
    return from_arc(Arc(), str(path), **{"augmentations": 2, "val_tasks": 1} | settings)


def asked(data) -> list[str]:
    return list(data.votes.questions)


def without_tests(task: dict) -> dict:
    return task | {"test": [{"input": pair["input"], "output": None} for pair in task["test"]]}


def test_the_defaults_fit_kaggles_folder_and_the_repositories(tmp_path, caplog):
    kaggle, repository = tmp_path / "kaggle", tmp_path / "ARC-AGI"
    kaggle.mkdir()
    training, evaluation = ({f"t{k}": task_of(k) for k in ks} for ks in (range(4), range(4, 6)))
    for name, tasks in (("training", training), ("evaluation", evaluation), ("test", evaluation)):
        write(kaggle, name, tasks)
    (kaggle / "arc-agi_test_solutions.json").unlink()
    put(kaggle / "sample_submission.json", {"t4": [{"attempt_1": [[0]], "attempt_2": [[0]]}]})
    for name, tasks in (("training", training), ("evaluation", evaluation)):
        for task, contents in tasks.items():
            put(repository / "data" / name / f"{task}.json", contents)
    put(repository / "package.json", {"name": "no task"})
    first, second = of_default(kaggle), of_default(repository)
    assert first.manifest["sha256"] == second.manifest["sha256"]
    assert first.manifest["source"] == (
        "folder kaggle: training, evaluation; tested on evaluation"
    ), "what is not there is not named"
    assert f"{kaggle} has no subset concept: it is not trained on" in caplog.text
    assert subsets_of(kaggle) == ["training", "evaluation", "test"]
    tested = of_default(kaggle, train=["training", "evaluation", "test"], test="test")
    assert asked(tested) == ["t4", "t5"]


def test_subsets_of_other_names_are_listed_with_the_override_to_type(tmp_path):
    for name in ("training", "evaluation", "test"):
        put_tasks(tmp_path / name, 2)
    wanted = {"train": ["training2", "evaluation2", "concept"], "test": "evaluation2"}
    with pytest.raises(InputError) as refused:
        of_default(tmp_path, **wanted)
    assert str(refused.value).endswith(
        "it has the subsets training, evaluation, test: type data.train=[training,evaluation] "
        "data.test=evaluation"
    )
    assert "holds neither arc-agi_training2_challenges.json" in str(refused.value)
    put_tasks(tmp_path / "other" / "MiniARC", 4)
    misspelt = {"train": ["MinARC"], "test": "MinARC"}
    with pytest.raises(InputError, match=r"type data.train=\[MiniARC\] data.test=MiniARC"):
        of_default(tmp_path / "other", **misspelt)


@pytest.mark.parametrize("layout", ["one folder", "beside nothing", "a folder a concept", "nested"])
def test_a_single_subset_is_split_with_the_seed_and_the_manifest_says_so(tmp_path, layout):
    inner = {"one folder": "Tasks", "nested": "corpus/Copy"}.get(layout, "")
    put_tasks(tmp_path / inner if layout != "a folder a concept" else tmp_path / "Copy", 7)
    if layout in ("a folder a concept", "nested"):
        put_tasks((tmp_path / inner / "../Count").resolve() if inner else tmp_path / "Count", 5, 7)
    data = of_default(tmp_path)
    count = 12 if layout in ("a folder a concept", "nested") else 7
    assert data.manifest["symmetry_classes"] == {"train": count - 2, "val": 1, "test": 1}
    name = "Tasks" if layout == "one folder" else "the whole folder"
    expected = f": {name} alone; tested on 1 of its {count} tasks, drawn with seed 0"
    assert data.manifest["source"].endswith(expected)
    assert asked(of_default(tmp_path)) == asked(data)
    some = [asked(of_default(tmp_path, seed=seed, test_tasks=3)) for seed in range(3)]
    assert all(len(names) == 3 for names in some)
    assert len({tuple(names) for names in some}) == 3


def test_a_subset_alone_may_be_named_and_is_split_as_well(tmp_path):
    for name in ("training", "evaluation"):
        put_tasks(tmp_path / name, 5)
    data = of_default(tmp_path, train=["training"], test="training")
    assert "training alone; tested on 1 of its 5 tasks" in data.manifest["source"]
    with pytest.raises(InputError, match="data.test_tasks=2 is of a single subset"):
        of_default(tmp_path, test_tasks=2)
    for count in (0, 5):
        with pytest.raises(InputError, match=f"data.test_tasks={count} of a single subset with 5"):
            of_default(tmp_path, train=["training"], test="training", test_tasks=count)


def test_unknown_outputs_are_unknown(tmp_path):
    put_tasks(tmp_path / "training", 3)
    put(tmp_path / "evaluation" / "known.json", task_of(8))
    put(tmp_path / "evaluation" / "null.json", without_tests(task_of(9, tests=2)))
    data = read(tmp_path)
    assert data.votes.questions["null"][1] == []
    assert len(data.votes.questions["null"][0]) == 2, "it is asked nevertheless"
    assert data.manifest["counts"]["test"] == 1, "nothing is compared with it"
    put(tmp_path / "evaluation" / "known.json", without_tests(task_of(8)))
    assert not read(tmp_path).splits["test"].y_true.any()
    write(tmp_path, "evaluation", {"a": task_of(8)})
    put(tmp_path / "arc-agi_evaluation_solutions.json", {"a": [None]})
    assert read_subset(tmp_path, "evaluation")["a"].solutions == []


def test_pairs_without_a_test_are_training_pairs(tmp_path):
    put_tasks(tmp_path / "evaluation", 2)
    put_tasks(tmp_path / "training", 3, 2)
    put(tmp_path / "re_arc" / "tasks" / "list.json", PAIRS)
    put(tmp_path / "re_arc" / "tasks" / "object.json", {"train": TASK["train"]})
    data = read(tmp_path, train=["training", "evaluation", "re_arc"], augmentations=0)
    assert data.manifest["symmetry_classes"] == {"train": 4, "val": 1, "test": 2}
    assert len(data.splits["train"]) == 2 * 2 + (2 * 3 + 2) + 3 + 2
    assert read_subset(tmp_path, "re_arc")["list"].questions == []


def test_of_pairs_alone_one_is_drawn_to_be_the_test(tmp_path):
    for k in range(4):
        contents = task_of(k)
        put(tmp_path / "tasks" / f"t{k}.json", contents["train"] + contents["test"])
    put(tmp_path / "metadata.json", {"t0": {"generated": 3}})
    data = of_default(tmp_path, augmentations=0)
    assert data.manifest["source"].endswith("of 4 without a test one pair, drawn, is the test")
    assert data.manifest["counts"] == {"train": 2 * 3 + 2 * 2, "val": 1, "test": 1}
    (question,), (solution,) = data.votes.questions[asked(data)[0]]
    train = replace(data.splits["train"], moves=None)
    rows = zip(train.x_input, train.y_true, strict=True)
    trained = {(crop(x).tobytes(), crop(y).tobytes()) for x, y in rows}
    assert len(trained) == len(train)
    assert (question.tobytes(), solution.tobytes()) not in trained
    put(tmp_path / "evaluation" / "one.json", PAIRS[:1])
    with pytest.raises(InputError, match="task one has one pair and no test"):
        read(tmp_path, train=["tasks", "evaluation"])


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.json"])
def test_a_file_of_many_tasks_is_a_subset(tmp_path, name):
    tasks = [task_of(k) | {"id": f"t{k}"} for k in range(5)]
    lines = "\ufeff" + "\r\n\r\n".join(json.dumps(task) for task in tasks)
    put(tmp_path / name, lines if "jsonl" in name else {task["id"]: task for task in tasks})
    data = of_default(tmp_path / name)
    assert data.manifest["source"].startswith(f"file {name}: {name} alone; tested on 1 of its 5")
    beside = tmp_path / "training" if name == "x.json" else tmp_path
    assert list(read_subset(tmp_path, "x")) == [f"t{k}" for k in range(5)]
    put_tasks(beside, 1)
    put(tmp_path / "evaluation.json", [task_of(7), task_of(8) | {"name": "eight"}])
    assert list(read_subset(tmp_path, "evaluation")) == ["evaluation-1", "eight"]
    assert "evaluation" in subsets_of(tmp_path)


def test_challenges_are_read_with_their_solutions_when_named_as_a_file(tmp_path):
    write(tmp_path, "training", {f"t{k}": task_of(k) for k in range(4)})
    data = of_default(tmp_path / "arc-agi_training_challenges.json")
    assert data.splits["test"].y_true.any()


def test_a_folder_with_a_subset_that_is_named_needs_no_search(tmp_path):
    put_tasks(tmp_path / "evaluation", 1)
    put_tasks(tmp_path / "training" / "deeper", 2)
    put_tasks(tmp_path / "data" / "evaluation", 9)
    put(tmp_path / "training" / ".hidden.json", "no JSON")
    put(tmp_path / "__MACOSX" / "x.json", "no JSON")
    assert choose(tmp_path, ["training", "evaluation"], "evaluation").folder == tmp_path
    assert sorted(read_subset(tmp_path, "training")) == ["t0", "t1"]


def test_what_is_no_arc_data_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    put(tmp_path / "tasks.zip", "PK")
    put(tmp_path / "odd" / "a.json", ["a", "b"])
    put(tmp_path / "one" / "a.json", TASK)
    put(tmp_path / "same" / "training" / "x" / "a.json", TASK)
    put(tmp_path / "same" / "training" / "y" / "a.json", TASK)
    put_tasks(tmp_path / "same" / "evaluation", 1)
    for name, said in (
        ("nowhere", "does not exist; give the folder with the ARC tasks"),
        ("empty", "nor any JSON file 3 folders deep; give the folder"),
        ("tasks.zip", "tasks.zip is no .json, .json.gz, .jsonl, .jsonl.gz file; give one"),
        ("odd", "a.json, task a: 'a list' is no ARC task; that needs the lists 'train' and 'test'"),
        ("one", "data.test_tasks=1 of a single subset with 1 tasks"),
        ("same", r"y/a.json: task a is here and in .*x/a.json; .*rename one"),
    ):
        with pytest.raises(InputError, match=said) as refused:
            of_default(tmp_path / name)
        assert "\n" not in str(refused.value)


LONG = "x" * 300


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", "{", "x.json cannot be read as JSON: .*; mend it or take it out"),
        ("x.json", "", "x.json cannot be read as JSON"),
        ("x.json", "[" * 100_000, "x.json cannot be read as JSON"),
        ("x.json", '{"a": 1, "a": 2}', "'a' occurs twice in one object; mend it"),
        ("x.jsonl", json.dumps(TASK) + "\n{", "x.jsonl cannot be read as JSON: line 2: "),
        ("x.jsonl", (json.dumps(TASK | {"id": "a"}) + "\n") * 2, "task a is here twice; .*rename"),
        ("x.json", json.dumps({"a|||t1": TASK}), r"task name 'a\|\|\|t1' must have .*; rename"),
        ("x.json", json.dumps({"a\nb": TASK}), "task name 'a.*nb' must have 1 to 200 printable"),
        ("x.json", json.dumps({"\ud800": TASK}), "task name .* must have 1 to 200 printable"),
        ("x.json", json.dumps({LONG: TASK}), "task name 'xxx.*' must have 1 to 200 printable"),
        ("x.json", json.dumps({"a": TASK, "b": 5}), "task b: '5' is no ARC task"),
        ("x.json", json.dumps(PAIRS[:1] * 10_001), "10001 pairs; a task may have 10000"),
        ("x.json", json.dumps([{"input": [[1]]}]), "task x, demonstration 1: has no 'output'"),
        ("x.json", json.dumps([{"input": 3, "output": [[1]]}]), "'3' is no grid; a grid is a list"),
        ("x.json", json.dumps([{"input": [[]], "output": [[1]]}]), r"rows have \[0\] cells; all"),
        ("x.json", json.dumps([{"input": [[-1]], "output": []}]), "'-1' must be 0 ... 9, so mend"),
        ("x.json", json.dumps([{"input": [[[1]]], "output": []}]), "'a list' must be 0 ... 9"),
        ("x.json", json.dumps(TASK | {"test": [{"input": [[1]], "output": []}]}), "test 1, output"),
    ],
)
def test_bad_files_are_named_with_value_rule_and_remedy(tmp_path, name, text, said):
    put(tmp_path / name, text)
    with pytest.raises(InputError, match=said) as refused:
        read_subset(tmp_path, "x")
    assert str(tmp_path / name) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < len(str(tmp_path)) + 250


AUGMENTATIONS = [(0, np.arange(10)), (3, np.array([0, 2, 1, 3, 4, 5, 6, 7, 9, 8]))]


def released_row(grid: np.ndarray, row: int, column: int) -> np.ndarray:
    canvas = np.zeros((SIDE + 1, SIDE + 1), dtype=np.uint8)
    rows, columns = grid.shape
    canvas[row : row + rows, column : column + columns] = grid + FIRST_COLOUR
    canvas[row + rows, column : column + columns] = END
    canvas[row : row + rows, column + columns] = END
    return canvas[:SIDE, :SIDE].ravel()


def build(folder, tasks: dict[str, dict], test: set[str], **about) -> None:
    """What ``build_arc_dataset.py`` writes."""
    names = ["<blank>"]
    names += [augmented_name(task, *drawn) for task in tasks for drawn in AUGMENTATIONS]
    put(folder / "identifiers.json", names)
    for split in ("train", "test"):
        rows, identifiers, ends, groups = [], [], [0], [0]
        for task, contents in tasks.items():
            pairs = contents["test"] if split == "test" else contents["train"]
            pairs = pairs + (contents["test"] if split == "train" and task not in test else [])
            if split == "test" and task not in test:
                continue
            for which, colours in AUGMENTATIONS:
                for number, pair in enumerate(pairs):
                    grids = (np.array(pair[side], dtype=np.uint8) for side in ("input", "output"))
                    at = (number, SIDE - 4) if split == "train" else (0, 0)  # to the very edge
                    rows.append([released_row(augmented(g, which, colours), *at) for g in grids])
                identifiers.append(names.index(augmented_name(task, which, colours)))
                ends.append(len(rows))
            groups.append(len(identifiers))
        sides = np.array(rows).transpose(1, 0, 2)
        arrays = {"puzzle_identifiers": identifiers, "puzzle_indices": ends}
        arrays |= {"group_indices": groups, "inputs": sides[0], "labels": sides[1]}
        known = {"vocab_size": 12, "seq_len": 900, "pad_id": 0, "blank_identifier_id": 0}
        put(folder / split / "dataset.json", known | {"sets": ["all"]} | about)
        for kind, array in arrays.items():
            dtype = np.uint8 if kind in ("inputs", "labels") else np.int32
            np.save(folder / split / f"all__{kind}.npy", np.asarray(array, dtype=dtype))


@pytest.fixture
def built(tmp_path):
    folder = tmp_path / "arc-aug-1"
    build(folder, {f"t{k}": task_of(k, tests=k % 2 + 1) for k in range(5)}, test={"t1", "t3"})
    return folder


def test_a_folder_that_the_released_code_built_keeps_splits_and_identifiers(built, caplog):
    data = of_default(built)
    names = json.loads((built / "identifiers.json").read_text())
    assert list(data.votes.names) == names
    assert data.manifest["symmetry_classes"] == {"train": 2, "val": 1, "test": 2}
    assert "built by build_arc_dataset.py" in data.manifest["source"]
    assert "data.train and data.test have no effect" in caplog.text
    for name in ("t1", "t3"):
        questions, solutions = data.votes.questions[name]
        expected = task_of(int(name[1]), tests=2)["test"]
        assert [grid.tolist() for grid in questions] == [pair["input"] for pair in expected]
        assert [grid.tolist() for grid in solutions] == [pair["output"] for pair in expected]
    rows = np.load(built / "test" / "all__inputs.npy")
    identifiers = np.load(built / "test" / "all__puzzle_identifiers.npy").repeat(2)
    ours, _, number = data.votes.puzzles.on("cpu")(torch.arange(len(data.votes.puzzles)))
    theirs = {(int(k), row.tobytes()) for k, row in zip(identifiers, rows, strict=True)}
    assert {(int(k), x.numpy().tobytes()) for k, x in zip(number, ours, strict=True)} == theirs
    # 3 demonstrations or tests each of t0, t2, t4, one of which validates; 2 each of t1 and t3.
    assert data.manifest["counts"] == {"train": 2 * (3 * 3 - 1 + 2 * 2), "val": 1, "test": 4}
    few = of_default(built, tasks=2, augmentations=0)
    assert few.manifest["symmetry_classes"] == {"train": 1, "val": 1, "test": 2}
    assert few.identifiers == 1 + 4


def test_outputs_that_the_released_code_made_up_are_unknown(tmp_path):
    tasks = {f"t{k}": task_of(k) for k in range(4)}
    for pair in tasks["t3"]["test"]:
        pair["output"] = [[0]]
    build(tmp_path, tasks, test={"t3"})
    assert of_default(tmp_path).votes.questions["t3"][1] == []


@pytest.mark.parametrize(
    ("split", "kind", "change", "said"),
    [
        ("train", "inputs", lambda a: a + 1, "train, row 0 has no grid of colours 2 ... 11"),
        ("test", "labels", lambda a: a * 0, "test, row 0 has no grid of colours"),
        (
            "train",
            "inputs",
            lambda a: a[:, :81],
            r"of shape \(26, 81\), not integers of shape \(rows",
        ),
        ("train", "puzzle_identifiers", lambda a: a + 1, "begins a group and is no task itself"),
        ("train", "puzzle_indices", lambda a: a * 9, "rows 0 to 27 are not there"),
        ("train", "puzzle_indices", lambda a: a[:1], "begins a group and is no task itself"),
        ("train", "group_indices", lambda a: a[2:], "no demonstrations of task t0"),
        ("test", "group_indices", lambda a: a[:1], "has no test tasks"),
        ("train", "labels", None, "labels.npy cannot be read"),
    ],
)
def test_a_built_folder_of_another_program_is_refused(built, split, kind, change, said):
    path = built / split / f"all__{kind}.npy"
    if change is None:
        path.write_bytes(b"no array")
    else:
        np.save(path, change(np.load(path)))
    with pytest.raises(InputError, match=f"{said}.*give the folder with the JSON files") as refused:
        of_default(built)
    assert "\n" not in str(refused.value)


def test_a_built_folder_of_another_puzzle_or_order_is_refused(built):
    about = built / "train" / "dataset.json"
    contents = json.loads(about.read_text())
    names = json.loads((built / "identifiers.json").read_text())
    for changed, said in (
        (contents | {"vocab_size": 11}, "vocab_size=11, while build_arc_dataset.py writes 12"),
        ([], "vocab_size=None"),
        (contents | {"sets": "all"}, "'sets' is no list of names"),
    ):
        put(about, changed)
        with pytest.raises(InputError, match=said):
            of_default(built)
    put(about, contents)
    for changed, said in (
        ({}, "is no list of names"),
        (names[:1] + names[2:], "'t0.*' is number 1; the augmentations of a task follow"),
        ([*names, "t0"], "'t0' is number 11"),
        ([*names, "t9|||x"], "is no augmented task"),
    ):
        put(built / "identifiers.json", changed)
        with pytest.raises(InputError, match=said):
            of_default(built)
