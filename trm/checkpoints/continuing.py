"""Continue a run: find its checkpoint, and refuse what would be another run."""

import functools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from trm.checkpoints import native
from trm.checkpoints.native import Checkpoint
from trm.support.errors import InputError

_log = logging.getLogger(__name__)
_warn_once = functools.cache(_log.warning)  # a command looks for its checkpoint more than once

# Config keys, or whole sections, that a continued run may set anew. The data's place may change
# because its checksum may not.
MAY_CHANGE = (
    *("trainer", "logger", "callbacks", "checkpoint", "test", "run_dir", "ckpt_path", "init_from"),
    *("train.micro_batch", "train.eval_batch_size", "train.log_every_n_steps"),
    *("data.path", "data.train_file", "data.test_file"),
)
# Keys that came after checkpoints and results were written, as what these were made with.
CAME_LATER: dict[str, Any] = {
    "objective._target_": "trm.training.objectives.Objective",
    "objective.unroll": 1,
    "objective.start": "fixed",
    "objective.halt_weight": 0.5,
    "objective.contradiction_weight": 0.0,
    "objective.consistency_weight": 0.0,
    "model.qk_norm": False,
    "model.inner_norm": False,
    "model.group_tables": False,
    "model.random_start": False,
    "train.filling.untouched": 1.0,
    "train.filling.wrong": 0.0,
    "train.small_first": False,
    "sizes": None,
    "data.train_file": None,
    "data.test_file": None,
    "data.test_tasks": None,
    "data.walls_to": None,
    "data.winding": 0.0,
}
_ONCE_EXPERIMENTS = (  # ablations, before these had a group of their own
    *("act_continue", "fewer_recursions", "four_layers", "multi_scale_z", "no_ema"),
    *("one_step_gradient", "self_attention", "separate_networks", "single_z"),
)
_OF_ONE_COMMAND = ("ckpt_path", "run_dir")  # overrides that a continued run does not inherit


def find(ckpt_path: str | None, run_dir: str | None) -> Checkpoint | None:
    """Open the checkpoint to continue from.

    Args:
        ckpt_path: a file; the folder of a run; ``last`` for the run that saved last, in ``run_dir``
            or else under ``logs``; ``auto`` for the run in ``run_dir`` if it has saved, and else
            none; or None
        run_dir: of the config

    Raises:
        InputError: there is none, or none that is whole
    """
    if ckpt_path is None:
        return None
    if ckpt_path == "auto":
        if run_dir is None:
            raise InputError(
                "ckpt_path=auto continues the run in run_dir; name it with run_dir=..."
            )
        return newest_whole(Path(run_dir)) if _checkpoints(Path(run_dir)) else None
    if ckpt_path == "last":
        root = Path(run_dir or "logs")
        runs = {path.parents[1] for path in root.glob("**/checkpoints/*.ckpt")}
        if not runs:
            raise InputError(f"ckpt_path=last: no checkpoints/*.ckpt under {root}; give its path")
        return newest_whole(max(runs, key=lambda run: _checkpoints(run)[0].stat().st_mtime_ns))
    path = Path(ckpt_path).expanduser()
    return newest_whole(path) if path.is_dir() else native.read(path.resolve())


def newest_whole(run: Path) -> Checkpoint:
    """Open ``last.ckpt`` of a run or, if it is damaged, the newest other one that is whole.

    Raises:
        InputError: what is wrong with ``last.ckpt``
    """
    problems: list[InputError] = []
    for path in sorted(_checkpoints(run), key=lambda path: path.name != "last.ckpt"):
        try:
            checkpoint = native.read(path.resolve())
        except InputError as error:
            problems.append(error)
        else:
            for problem in problems:
                _warn_once(f"warning: {problem}; continuing from {path.name} instead")
            return checkpoint
    raise problems[0] if problems else InputError(f"{run} is no run: no checkpoints/*.ckpt in it")


def home(checkpoint: Checkpoint, run_dir: str | None) -> Path | None:
    """Return the folder of a checkpoint's run if a run with ``run_dir`` goes on in it."""
    folder = checkpoint.path.parent.parent
    named = run_dir and Path(run_dir).resolve()
    if (folder / "config.yaml").is_file() and named in (None, folder):
        return folder
    if named is None:
        raise InputError(
            f"{checkpoint.path} does not lie in the checkpoints/ of a run; name the folder of "
            f"the continued run with run_dir"
        )
    return None


def merged_overrides(earlier: Sequence[str], now: Sequence[str]) -> list[str]:
    """Put the overrides of this command behind those of the run; the later of two wins.

    Raises:
        InputError: the run's name code to call, which no file may choose
    """
    for text in earlier:
        if "_target_" in text and text not in now:
            raise InputError(
                f"the run's command line names what to call ({text}), which is not taken from a "
                f"file; give it again if you trust it"
            )
    earlier = [part for text in earlier for part in _of_today(text)]
    merged = {_key(text): text for text in earlier if _key(text) not in _OF_ONE_COMMAND}
    for text in now:
        merged.pop(_key(text), None)  # and not in its old place: the order of groups matters
        merged[_key(text)] = text
    return list(merged.values())


def completed(words: Sequence[str]) -> list[str]:
    """Put the overrides of the run that a command line continues before its own.

    So ``ckpt_path=RUN data.path=FOLDER`` may name a key that only the run's experiment has. A
    multirun composes first, and each job completes its own.

    Raises:
        InputError: as ``find`` and ``merged_overrides`` do
    """
    if {"-m", "--multirun"} & {*words}:
        return list(words)
    own = [word for word in words if "=" in word and not word.startswith("-")]
    parser = OverridesParser.create()
    values = {_key(word): parser.parse_override(word).value() for word in own}
    given = {name: values.get(name) for name in _OF_ONE_COMMAND}
    resumed = find(**{name: None if it is None else str(it) for name, it in given.items()})
    if resumed is None or not resumed.overrides:
        return list(words)
    flags = [word for word in words if word not in own]
    return [*flags, *merged_overrides(resumed.overrides, own)]


def is_finished(checkpoint: Checkpoint, max_steps: int) -> bool:
    """Tell whether a run has both trained, to its end or until it was stopped early, and tested."""
    try:
        text = (checkpoint.path.parent.parent / "result.json").read_text(encoding="utf-8")
        result = json.loads(text)
        steps, max_before = result["steps"], result["config"]["trainer"]["max_steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(steps == checkpoint.step and (steps >= max_steps or max_before == max_steps))


def check_continues(checkpoint: Checkpoint, config: dict[str, Any], data_sha256: str) -> None:
    """Refuse to continue a run with another task, model, recipe or data.

    Keys of ``MAY_CHANGE`` may differ.

    Raises:
        InputError: naming the differences, or a run that has nothing left to do
    """
    max_steps = config["trainer"]["max_steps"]
    if checkpoint.step > max_steps or is_finished(checkpoint, max_steps):
        raise InputError(
            f"{checkpoint.path} has its {checkpoint.step} steps behind it; to go on, set "
            f"trainer.max_steps above {max(max_steps, checkpoint.step)}"
        )
    old, new = (CAME_LATER | flat(c) for c in (checkpoint.config, config))
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    bends_schedule = config["train"]["lr_min_ratio"] != 1
    refused = [
        name
        for name in sorted(changed)
        if not any(name == key or name.startswith(f"{key}.") for key in MAY_CHANGE)
        or (name == "trainer.max_steps" and bends_schedule)
    ]
    if refused:
        was, now = (
            ", ".join(f"{name}={values.get(name)}" for name in refused) for values in (old, new)
        )
        raise InputError(
            f"{checkpoint.path} was trained with {was}, not {now}; continue with the same "
            f"settings, or start anew from its weights with init_from"
        )
    if checkpoint.contents["trm"]["manifest"].get("sha256") != data_sha256:
        was = str(checkpoint.contents["trm"]["manifest"].get("sha256"))
        raise InputError(
            f"{checkpoint.path} was trained on other data (checksum {was[:12]}, now "
            f"{data_sha256[:12]}); name the folder with the same files, or start with init_from"
        )


def _checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    paths = run.glob("checkpoints/*.ckpt")
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _of_today(override: str) -> list[str]:
    """Translate ``experiment=[base,ablation]``: ablations had no group of their own once."""
    key, _, value = override.partition("=")
    names = value.strip("[]").split(",")
    ablations = [name for name in names if name in _ONCE_EXPERIMENTS]
    if key != "experiment" or not ablations:
        return [override]
    bases = ",".join(name for name in names if name not in ablations)
    return [f"experiment=[{bases}]", f"ablation=[{','.join(ablations)}]"]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Name every value of a config by its path, such as ``train.batch_size``."""
    if not isinstance(config, dict):
        return {prefix: config}
    items = [flat(value, f"{prefix}.{name}" if prefix else name) for name, value in config.items()]
    return {name: value for item in items for name, value in item.items()}
