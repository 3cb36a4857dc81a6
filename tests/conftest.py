"""What the tests share: one thread, small models, and a way to compose configs."""

import os
from pathlib import Path

import hydra
import pytest
import torch
from hypothesis import settings
from omegaconf import DictConfig

from trm.commands import CONF
from trm.data import PuzzleData, generated
from trm.models import TinyRecursiveModel
from trm.tasks import Sudoku

# The same few inputs whenever the tests run; many, and new ones, with "make fuzz".
settings.register_profile(
    "default", max_examples=60, deadline=None, derandomize=True, database=None
)
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
def sudoku() -> Sudoku:
    return Sudoku(2, 2)


@pytest.fixture(scope="session")
def puzzles() -> PuzzleData:
    return generated(Sudoku(2, 2), train=32, val=12, test=8)


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
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return hydra.compose(name, list(overrides))


def tiny_model(**changes) -> TinyRecursiveModel:
    torch.manual_seed(0)
    settings = {"dim": 16, "heads": 2, "hidden_multiple": 8, "n": 2, "T": 3} | changes
    return TinyRecursiveModel(**{"vocab_size": 6, "seq_len": 16} | settings)


def same(a, b) -> bool:
    """Equal to the last bit, through nested containers."""
    if isinstance(a, torch.Tensor):
        return a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
