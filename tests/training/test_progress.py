"""The progress of a run on terminals of several widths."""

import io
import re
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from trm.training.progress import TrainingProgress, as_many_as_fit


@pytest.mark.parametrize(
    ("width", "said"),
    [(40, ""), (60, "loss 0.495  exact 0.696"), (80, "held-out exact 56.0 %"), (120, "puzzles/s")],
)
def test_the_bar_keeps_step_and_time_left(width, said):
    page = io.StringIO()
    progress = TrainingProgress(batch_size=16)
    progress._console = Console(file=page, width=width, force_terminal=True, color_system=None)
    metrics = {"train/loss": 0.495, "train/exact_accuracy": 0.696, "val/exact_accuracy": 0.56}
    trainer = SimpleNamespace(
        global_step=1200,
        max_steps=64000,
        sanity_checking=False,
        callback_metrics={name: torch.tensor(value) for name, value in metrics.items()},
    )
    progress.on_train_start(trainer, None)
    progress.on_validation_end(trainer, None)
    progress._stop()
    line = next(line for line in reversed(page.getvalue().split("\n")) if "1200/64000 " in line)
    assert said in line
    assert "…" not in line
    assert len(re.sub(r".*\r|\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line)) <= width


def test_what_is_said_gives_way_from_the_end():
    assert as_many_as_fit(["loss 1", "exact 0"], 15) == "loss 1  exact 0"
    assert as_many_as_fit(["loss 1", "exact 0"], 14) == "loss 1"
    assert as_many_as_fit(["loss 1", "exact 0"], 3) == ""
