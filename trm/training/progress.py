"""Progress of a run: a bar on a terminal, a line now and then in a log file."""

import time
from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 30.0  # between two lines where there is no terminal
_BAR_EVERY_S = 0.25
_TIME_AND_BAR = 20  # columns that are kept for the time left and some of the bar


class TrainingProgress(ProgressBar):
    """Show loss, exact accuracy, puzzles per second and time left.

    Reads only what was logged, so it never makes the device wait.

    Args:
        batch_size: puzzles per step, over all processes
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self._bar: Progress | None = None
        self._enabled = True
        self._console = Console(stderr=True)
        self._start_time = self._last_line = 0.0
        self._start_step = 0

    def disable(self) -> None:
        """Show nothing (Lightning calls it on all processes but the first)."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start_time = self._last_line = time.perf_counter()
        self._start_step = trainer.global_step
        if self._enabled and self._console.is_terminal:
            self._bar = Progress(
                # What must be seen comes first, and what is said gives way: see _said.
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[said]}"),
                console=self._console,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task(
                "", total=trainer.max_steps, completed=trainer.global_step, said=""
            )
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._bar is not None:
            if time.perf_counter() - self._last_line > _BAR_EVERY_S:
                self._last_line = time.perf_counter()
                self._bar.update(
                    self._task, completed=trainer.global_step, said=self._said(trainer)
                )
        elif self._enabled and time.perf_counter() - self._last_line > _LINE_EVERY_S:
            self._print_line(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self._bar is not None:
            self._bar.update(self._task, said=self._said(trainer))
        elif self._enabled and not trainer.sanity_checking:
            self._print_line(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print_line(self, trainer: Trainer) -> None:
        self._last_line = time.perf_counter()
        steps = f"step {trainer.global_step}/{trainer.max_steps}"
        self._console.print(
            "  ".join([steps, *self._summary(trainer), self._left(trainer)]),
            highlight=False,
            soft_wrap=True,
        )

    def _said(self, trainer: Trainer) -> str:
        """Say as much beside the bar as the terminal has room for."""
        room = self._console.width - _TIME_AND_BAR - 2 * len(f"{trainer.max_steps} ")
        return as_many_as_fit(self._summary(trainer), room)

    def _summary(self, trainer: Trainer) -> list[str]:
        metrics = trainer.callback_metrics
        parts = []
        for name, label in (("train/loss", "loss"), ("train/exact_accuracy", "exact")):
            if name in metrics:
                parts.append(f"{label} {float(metrics[name]):.3f}")
        if "val/exact_accuracy" in metrics:
            parts.append(f"held-out exact {100 * float(metrics['val/exact_accuracy']):.1f} %")
        parts.append(f"{self._speed(trainer) * self.batch_size:.0f} puzzles/s")
        return parts

    def _speed(self, trainer: Trainer) -> float:
        """Training steps per second since the start, validation included."""
        elapsed = time.perf_counter() - self._start_time
        return (trainer.global_step - self._start_step) / max(elapsed, 1e-9)

    def _left(self, trainer: Trainer) -> str:
        left = (trainer.max_steps - trainer.global_step) / max(self._speed(trainer), 1e-9)
        return f"{left / 60:.1f} min left" if left >= 60 else f"{left:.0f} s left"


def as_many_as_fit(parts: Sequence[str], room: int) -> str:
    """Join as many of the first parts as fit into so many columns."""
    lines = ("  ".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((line for line in lines if len(line) <= room), "")
