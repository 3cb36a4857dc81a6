"""Results of training and evaluations brought into one form, in which they can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trm.checkpoints.continuing import CAME_LATER, flat
from trm.inference.compute import Compute
from trm.results.files import from_bits, read_result
from trm.results.statistics import mcnemar
from trm.support.errors import InputError

ABSENT = "–"  # a key that a config does not have
# Of a config, what is only about where it ran, or what was printed.
_SAYS_NOTHING = (
    *("run_dir", "ckpt_path", "logger", "footprint"),
    *("train.log_every_n_steps", "trainer.profiler"),
)
_DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Score:
    """What was solved.

    Attributes:
        measure: ``exact`` after the last supervision step, or ``pass@2`` of ARC
        percent: puzzles solved
        interval: its 95 % interval, in percent
        valid: share of answers that obey the rules in percent, if the task has any
        n: puzzles, or tasks
    """

    measure: str
    percent: float
    interval: tuple[float, float]
    valid: float | None
    n: int


@dataclass(frozen=True)
class Subject:
    """A run, or the evaluation of a model.

    Attributes:
        name: of the run's folder, or of the file; for people
        path: as it was given
        seed: of training, if it is known
        task: name
        model: class, if it is known
        parameters: of the model
        score: None if it was not tested
        steps: of the optimizer
        minutes: that training took; None of an evaluation
        solved: which puzzles are solved, (puzzles,) bool; None if that was not kept
        puzzles: checksums by which puzzles are known, the best first; equal ones say equal puzzles
        config: of training, by dotted keys
        asked: of the evaluation, likewise
        is_evaluation: and not the result of training
    """

    name: str
    path: str
    seed: int | None
    task: str
    model: str
    parameters: int
    score: Score | None
    steps: int | None
    minutes: float | None
    solved: np.ndarray | None
    puzzles: tuple[str | None, str]
    config: dict[str, Any]
    asked: dict[str, Any]
    is_evaluation: bool

    @classmethod
    def read(cls, path: Path) -> "Subject":
        """Read the folder of a run, its ``result.json``, or a file of ``trm.evaluate``.

        Raises:
            InputError: it is none of these, or damaged
        """
        evaluation = path / "evaluation.json"  # of a job of a multirun
        only = path.is_dir() and evaluation.is_file() and not (path / "result.json").is_file()
        result = read_result(evaluation if only else path)
        try:
            return _subject(path, result)
        except RecursionError:
            raise InputError(f"{path} is no result of a run (it is nested too deep)") from None
        except _DAMAGE as error:
            raise InputError(
                f"no result of training or evaluation ({type(error).__name__} at {error})"
            ) from None


def _subject(path: Path, result: dict[str, Any]) -> Subject:
    is_evaluation = "trained_with" in result
    config = result["trained_with" if is_evaluation else "config"]
    rows = result.get("evaluation" if is_evaluation else "test")
    score = _score(rows, result.get("pass_at"))
    solved = result.get("solved" if is_evaluation else "test_solved")
    steps = result["trained_steps" if is_evaluation else "steps"]
    seed = result.get("seed", config.get("seed"))
    split = str(result.get("split", "test"))
    known_by = (result.get("puzzles_sha256"), f"{result['manifest']['sha256']} {split}")
    return Subject(
        _name(path, result, is_evaluation),
        str(path),
        None if seed is None else int(seed),
        str(result["task"]),
        str(config.get("model", {}).get("_target_", "")).rpartition(".")[2],
        int(result["parameters"]),
        score,
        None if steps is None else int(steps),
        None if is_evaluation else float(result["training_wall_time_s"]) / 60,
        _solved(solved, score.n) if score is not None and solved else None,
        known_by,
        (CAME_LATER if "model" in config else {}) | flat(config),
        {"split": split, "checkpoint": result.get("checkpoint"), **_compute(result, rows)},
        is_evaluation,
    )


def _name(path: Path, result: Mapping[str, Any], is_evaluation: bool) -> str:
    is_named_by_folder = path.is_dir() or path.name in ("result.json", "evaluation.json")
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    own = folder.name if is_named_by_folder else path.stem
    if not is_evaluation:
        return own
    model = Path(str(result["checkpoint"]))
    inside = model.parent.name == "checkpoints"
    return f"{(model.parent.parent if inside else model).name}: {own}"


def _score(rows: Any, pass_at: Any) -> Score | None:
    if pass_at is not None:
        (row,) = (row for row in pass_at if row["k"] == 2)
        return _row_score("pass@2", row, row["accuracy"], row["interval"])
    if rows is None:
        return None
    return _row_score("exact", rows[-1], rows[-1]["exact_accuracy"], rows[-1]["exact_interval"])


def _row_score(measure: str, row: Mapping[str, Any], share: Any, interval: Any) -> Score:
    low, high = interval
    valid = row.get("valid_accuracy")
    valid = None if valid is None else 100 * float(valid)
    bounds = 100 * float(low), 100 * float(high)
    return Score(measure, 100 * float(share), bounds, valid, int(row["n"]))


def _solved(digits: str, n: int) -> np.ndarray:
    if len(digits) != 2 * -(-n // 8):
        raise ValueError(f"{len(digits)} digits for {n} puzzles")
    return from_bits(digits, n)


def _compute(result: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """Return how much was computed; training tests one trajectory through all its steps."""
    given = result.get("compute", {"max_steps": None if rows is None else len(rows)})
    return flat({"compute": asdict(Compute()) | given})


def differences(subjects: Sequence[Subject]) -> dict[str, list[Any]]:
    """Return the config keys in which subjects differ, each with the value of every one.

    Where a file does not know a whole section, its keys are left out: nothing is known of them.
    How much was computed is compared if there is an evaluation among them.
    """
    configs = [subject.config for subject in subjects]
    if any(subject.is_evaluation for subject in subjects):
        configs = [subject.config | subject.asked for subject in subjects]
    sections = [{key.partition(".")[0] for key in config} for config in configs]
    found: dict[str, list[Any]] = {}
    for key in sorted(set().union(*configs)):
        known = all(key.partition(".")[0] in its for its in sections)
        values = [config.get(key, ABSENT) for config in configs]
        if known and not _says_nothing(key) and any(value != values[0] for value in values):
            found[key] = values
    return found


def _says_nothing(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in _SAYS_NOTHING)


@dataclass(frozen=True)
class Pairing:
    """A subject and the first one, puzzle by puzzle.

    Attributes:
        points: by which its share is higher
        alone: puzzles that it solves and the first does not
        first_alone: the other way round
        p: of McNemar's exact test
    """

    points: float
    alone: int
    first_alone: int
    p: float


def paired(first: Subject, subject: Subject) -> Pairing | str:
    """Compare two subjects over the puzzles that both were given, or say why that cannot be."""
    if first.score is None or subject.score is None:
        return "not tested"
    same = [a == b for a, b in zip(first.puzzles, subject.puzzles, strict=True) if a and b]
    if not same[0] or first.score.n != subject.score.n or first.task != subject.task:
        return "other puzzles"
    if first.solved is None or subject.solved is None:
        return "no record of each puzzle"
    alone = int((subject.solved & ~first.solved).sum())
    first_alone = int((first.solved & ~subject.solved).sum())
    points = 100 * (alone - first_alone) / subject.score.n
    return Pairing(points, alone, first_alone, mcnemar(alone, first_alone))
