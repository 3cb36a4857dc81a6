"""What the tests share: one thread, small models, and a way to compose configs."""

import json
import os
import subprocess
from copy import deepcopy
from functools import wraps
from pathlib import Path

import hydra
import pytest
import torch
from hypothesis import settings
from omegaconf import DictConfig

from tests import processes
from trm.data import PuzzleData, generated
from trm.models import TinyRecursiveModel
from trm.support.files import CONF
from trm.tasks import Sudoku
from trm.train import run_training
from trm.training.saving import Clock

# The same inputs whenever the tests run, so that what turns red is what was changed: few of them
# with "make test", more in .ci/run, which fuzzes as well. Many, and new ones every time, with
# "make fuzz".
fixed = {"deadline": None, "derandomize": True, "database": None}
settings.register_profile("default", max_examples=20, **fixed)
settings.register_profile("ci", max_examples=300, **fixed)
settings.register_profile("fuzz", max_examples=1000, deadline=None, database=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# The tests run in as many processes as there are cores; commands that they start run like them,
# since only at an equal number of threads are two runs equal to the bit.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

TINY = [
    "task.box_rows=2",
    "task.box_cols=2",
    "data.train=32",
    "data.val=12",
    "data.test=8",
    "model.dim=16",
    "model.hidden_multiple=8",
    "recursion.n=1",
    "recursion.T=2",
    "train.N_sup=3",
    "train.batch_size=8",
    "trainer.accelerator=cpu",
    "trainer.val_check_interval=3",
    "trainer.max_steps=6",
]


@pytest.fixture
def preloaded(monkeypatch):
    """Let the commands that a test starts fork from a process that has the library imported."""
    monkeypatch.setattr(subprocess, "Popen", processes.start)


@pytest.fixture(scope="session", autouse=True)
def puzzles_made_once():
    """Make the puzzles of a config once, not for each of some hundred runs.

    That they are a function of the config is a test of its own, in data/test_generated.py.
    """
    known = {}

    @wraps(generated)
    def remembered(task, *counts, **settings):
        if type(task) is not Sudoku:
            return generated(task, *counts, **settings)
        key = task.box_rows, task.box_cols, repr((counts, sorted(settings.items())))
        if key not in known:
            known[key] = generated(task, *counts, **settings)
        return deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trm.data.generated", remembered)
        yield


@pytest.fixture
def sudoku() -> Sudoku:
    return Sudoku(2, 2)


@pytest.fixture(scope="session")
def puzzles() -> PuzzleData:
    return generated(Sudoku(2, 2), train=32, val=12, test=8)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> tuple[Path, dict]:
    """Folder and result of one finished run, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, run_training(compose("train", *TINY, f"run_dir={folder}"))


@pytest.fixture
def tiny_config(tmp_path: Path):
    """Compose the config of a training run that takes a second."""
    return lambda *overrides: compose(
        "train",
        *TINY,
        *(() if _names_run(overrides) else (f"run_dir={tmp_path / 'run'}",)),
        *overrides,
    )


def _names_run(overrides: tuple[str, ...]) -> bool:
    return any(text.startswith(("run_dir=", "ckpt_path=")) for text in overrides)


def compose(name: str, *overrides: str) -> DictConfig:
    """Compose a config; an evaluation keeps nothing unless it is told where."""
    if name == "evaluate" and not any(text.startswith("output=") for text in overrides):
        overrides = ("output=null", *overrides)
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return hydra.compose(name, list(overrides))


def tiny_model(**changes) -> TinyRecursiveModel:
    torch.manual_seed(0)
    settings = {"dim": 16, "heads": 2, "hidden_multiple": 8, "n": 2, "T": 3} | changes
    return TinyRecursiveModel(**{"vocab_size": 6, "seq_len": 16} | settings)


# What a run measures and two equal runs need not share, by the names it has in a checkpoint or in
# result.json. Everything else is equal to the bit, or the runs are not equal.
MEASURED = {
    *Clock._fields,
    *("training_wall_time_s", "training_cpu_time_s", "test_wall_time_s"),
    *("device_hours", "energy_kwh", "estimated_kwh", "co2_g"),  # of the footprint
    *("saves", "size_bytes"),  # of the last process alone; of a file that names its folder
}


def comparable(record, folder: Path):
    """Put a word in the place of every measurement, and of the folder of the run."""
    if isinstance(record, dict):
        return {
            comparable(key, folder): "measured" if key in MEASURED else comparable(value, folder)
            for key, value in record.items()
        }
    if isinstance(record, list | tuple):
        return [comparable(value, folder) for value in record]
    return record.replace(str(folder), "RUN") if isinstance(record, str) else record


def differences(one, other, name: str = "") -> list[str]:
    """Name what is in one of two records alone, or not equal to the last bit."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if same(one, other) else [name]
    found = [f"{name}.{key} (in one alone)" for key in one.keys() ^ other.keys()]
    for key in one.keys() & other.keys():
        found += differences(one[key], other[key], f"{name}.{key}")
    return sorted(found)


def records(run: Path) -> dict:
    """All that a run leaves behind, measurements apart."""
    files = {"result.json": json.loads((run / "result.json").read_text())}
    for name in ("last.ckpt", "best.ckpt"):
        files[name] = torch.load(run / "checkpoints" / name, weights_only=True)
    metrics = (run / "csv" / "metrics.csv").read_text()
    return {"metrics.csv": metrics, **{k: comparable(v, run) for k, v in files.items()}}


def assert_equal_runs(one: Path, other: Path) -> None:
    found = differences(records(one), records(other), "run")
    assert not found, f"not equal: {', '.join(found)}; what is a measurement is named in MEASURED"


def same(a, b) -> bool:
    """Equal to the last bit, through nested containers."""
    if isinstance(a, torch.Tensor):
        return a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
