"""When a run saves, what it adds to a checkpoint, and how the file gets to the disk."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from trm.support import distributed
from trm.support.energy import Meter
from trm.support.errors import InputError, Stopped
from trm.support.files import written_whole
from trm.training.metrics_file import MetricsFile
from trm.training.optimizers import without_moments

# What a scheduler or a person sends; SIGUSR1 is Slurm's usual warning that time is nearly up.
_STOPPING = ("SIGTERM", "SIGINT", "SIGUSR1")
_READ_METER_EVERY_S = 60.0  # a counter goes round


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, sync it, then rename: whole or not at all.

    Args:
        light: leave the carry out
        moments: keep the optimizer's moments even if light

    Attributes:
        saves: checkpoints written
        wall_time_s: seconds spent writing them
        size: of the last one, in bytes
    """

    def __init__(self, light: bool = False, moments: bool = True) -> None:
        super().__init__()
        self.light, self.moments = light, moments
        self.saves, self.wall_time_s, self.size = 0, 0.0, 0

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        start = time.perf_counter()
        path = Path(path)
        if self.light:
            checkpoint = {key: value for key, value in checkpoint.items() if key != "carry"}
        if self.light and not self.moments:
            optimizers = checkpoint["optimizer_states"]
            checkpoint["optimizer_states"] = [without_moments(state) for state in optimizers]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError, InputError) as error:
            # torch's zip writer hides the disk's error behind one of its own.
            hidden = error.__context__ if isinstance(error, RuntimeError) else None
            reason = f"{path} cannot be written: {hidden}" if isinstance(hidden, OSError) else error
            before = (
                f"the one before is whole. Make room, then continue with ckpt_path={path}"
                if path.exists()
                else "there is none before it. Make room, then start again"
            )
            raise InputError(f"checkpoint {reason}; {before}") from None
        self.saves += 1
        self.size = path.stat().st_size
        self.wall_time_s += time.perf_counter() - start

    def report(self) -> dict[str, Any]:
        """Return what saving came to; plain types."""
        return {
            "saves": self.saves,
            "wall_time_s": round(self.wall_time_s, 3),
            "size_bytes": self.size,
            "light": self.light,
        }


class LastCheckpoint(Checkpoint):
    """Keep ``last.ckpt``: after validation, every so many steps, and when told to stop.

    All saves happen between two steps, when everything that belongs to the last one is done: its
    metrics are in the log and its validation, if it was due, is over. SIGTERM, SIGINT and SIGUSR1
    end training after the step (and the validation) in progress; a second one ends it at once.

    A ModelCheckpoint of Lightning's would not do: with ``save_last=True`` it writes only when the
    best improves, and its saves on a batch's end come before the metrics of that batch are logged.

    Args:
        path: of the file
        every_n_steps: saves between validations; None for none
        ask_every_n_steps: how often several processes ask each other whether one was told to stop
        step: optimizer steps in the file, if the run continues from it

    Attributes:
        step: optimizer steps in the file, 0 if this run has not written it yet
    """

    def __init__(
        self, path: Path, every_n_steps: int | None, ask_every_n_steps: int, step: int = 0
    ) -> None:
        self.path, self.step = path, step
        self.every_n_steps, self.ask_every_n_steps = every_n_steps, ask_every_n_steps
        self._signal = 0  # that asked to stop

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            # Lightning's own handlers, which would save or leave in the middle of a step, are
            # replaced; at the end of training it puts back what was there before it.
            for name in _STOPPING:
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), self._on_signal)

    def on_train_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        step = trainer.global_step
        due = self.every_n_steps is not None and step % self.every_n_steps == 0
        asks = distributed.count() == 1 or step % self.ask_every_n_steps == 0
        stops = asks and self._told_to_stop(trainer)
        if (due or stops) and step > self.step:
            self._save(trainer)
        if stops:
            self._stop(f"step {step} of {trainer.max_steps} is saved" if step else "")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._told_to_stop(trainer):
            self._stop("training is complete, and testing was not begun")

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        # The batch of the next step is already counted as ready; a resumed run will make it anew.
        counts = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for count in (counts["total"], counts["current"]):
            count["ready"] = count["completed"]

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        trainer.save_checkpoint(self.path)
        self.step = trainer.global_step

    def _told_to_stop(self, trainer: Trainer) -> bool:
        """Ask all processes; each of them must get here at the same step."""
        if distributed.count() == 1:
            return bool(self._signal)
        told = torch.tensor(float(self._signal), device=trainer.strategy.root_device)
        return bool(distributed.summed(told))

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._signal:
            self._stop(f"step {self.step} is the last that was saved" if self.step else "")
        self._signal = number
        name = signal.Signals(number).name
        # Not print: the signal may have come in the middle of one.
        os.write(2, f"\n{name}: saving after this step; once more to stop at once\n".encode())

    def _stop(self, state: str) -> None:
        number = self._signal or signal.SIGTERM  # another process may have been told
        remedy = f"continue with ckpt_path={self.path}" if state else "nothing was saved yet"
        ending = "; ".join(part for part in (state, remedy) if part)
        raise Stopped(f"stopped by {signal.Signals(number).name}: {ending}", number)


class Clock(NamedTuple):
    """Seconds on the wall and of all threads of this process, and joules if they are counted."""

    wall_time_s: float = 0.0
    cpu_time_s: float = 0.0
    energy_j: float = 0.0


class RunCard(Callback):
    """Say in the run folder and in every checkpoint what the run is, and keep its clock.

    Args:
        text: the resolved config as YAML
        metadata: what goes under ``trm`` in a checkpoint
        folder: of the run
        before: clock of a resumed checkpoint
    """

    def __init__(self, text: str, metadata: dict[str, Any], folder: Path, before: Clock) -> None:
        self.text, self.metadata, self.folder = text, metadata, folder
        self.before = before
        self.begun = False
        self.meter: Meter | None = None
        self._start: Clock | None = None
        self._read_at_s = 0.0
        self._rng_states: dict[str, Any] | None = None

    @property
    def clock(self) -> Clock:
        """What training took, before a resume included."""
        if self._start is None:
            return self.before
        spans = zip(self.before, self._now(), self._start, strict=True)
        return Clock(*(before + now - start for before, now, start in spans))

    def _now(self) -> Clock:
        joules = self.meter.joules() if self.meter is not None else 0.0
        self._read_at_s = time.perf_counter()
        return Clock(self._read_at_s, time.process_time(), joules)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.meter = Meter(trainer.strategy.root_device)
        self._start = self._now()
        if trainer.is_global_zero:
            with written_whole(self.folder / "config.yaml") as file:
                file.write(self.text.encode())
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.keep_until(trainer.global_step)
            logger.log_hyperparams(self.metadata["config"])

    def on_train_batch_start(self, *arguments: Any) -> None:
        # Only now have all loaders been made, which draw from the global generators.
        if self._rng_states is not None:
            set_rng_states(self._rng_states)
            self._rng_states = None

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.begun = True
        if time.perf_counter() - self._read_at_s > _READ_METER_EVERY_S:
            self._now()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["trm"] = self.metadata | self.clock._asdict()
        checkpoint["rng_states"] = rng_states()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._rng_states = checkpoint.get("rng_states")
        here = (self.folder / "checkpoints").resolve()
        if (here / "best.ckpt").is_file():  # and, if the run was moved, not where the file says
            for state in checkpoint["callbacks"].values():
                if isinstance(state, dict) and "dirpath" in state:
                    _relocate(state, state["dirpath"], str(here))


def _relocate(state: dict[str, Any], there: str, here: str) -> None:
    """Replace a folder in the paths of a ModelCheckpoint's state."""
    for key, value in state.items():
        if isinstance(value, str):
            state[key] = value.replace(there, here)
    scores = state.get("best_k_models", {})
    state["best_k_models"] = {path.replace(there, here): scores[path] for path in scores}


def rng_states() -> dict[str, Any]:
    """Return the states of torch's global generators.

    Nothing of this library draws from them, but a model of your own (with dropout, say) may.
    """
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_rng_states(states: dict[str, Any]) -> None:
    """Put back what ``rng_states`` returned, as far as the devices are here."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
