"""A run from its first step to its last, and what came of it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from trm.checkpoints import native
from trm.data.module import PuzzleDataModule
from trm.results.files import FORMAT, birth_certificate
from trm.support import distributed
from trm.support.energy import declared_watts, footprint
from trm.support.errors import InputError
from trm.training.assembly import KeptFiles
from trm.training.config import TrainingConfig
from trm.training.guards import DivergenceError
from trm.training.module import DeepSupervision
from trm.training.saving import AtomicCheckpointIO, Clock, RunCard


@dataclass(frozen=True)
class TrainingRun:
    """What a run is made of, ready to begin.

    Attributes:
        config: that says so
        module: what learns
        puzzles: what it learns from
        resumed: checkpoint that it goes on from, if any
        card: what its checkpoints say of it; knows its folder
        files: its checkpoints
        trainer: Lightning's
    """

    config: TrainingConfig
    module: DeepSupervision
    puzzles: PuzzleDataModule
    resumed: native.Checkpoint | None
    card: RunCard
    files: KeptFiles
    trainer: Trainer


def fit(training: TrainingRun) -> None:
    """Train to the end, and put the best weights into the model.

    Raises:
        InputError: training diverged, or another process is gone
        Stopped: a signal ended training; it can be continued
    """
    trainer, files, resumed = training.trainer, training.files, training.resumed
    path = resumed.path if resumed else None
    try:
        trainer.fit(training.module, training.puzzles, ckpt_path=path)
    except DivergenceError as error:
        kept = files.last
        good = f"{kept.path} (step {kept.step})" if kept.step else "none, it was too early"
        raise InputError(f"{error}. The last good checkpoint: {good}") from None
    except RuntimeError as error:
        if trainer.world_size > 1 and distributed.is_loss_of_contact(error):
            reason = str(error).partition("\n")[0][:120]
            raise InputError(
                f"process {trainer.global_rank} of {trainer.world_size} lost contact ({reason}): "
                f"another one ended, and what it said stands above or in its log; continue with "
                f"ckpt_path={Path(str(files.best.dirpath)) / 'last.ckpt'}"
            ) from None
        raise
    if files.best.best_model_path:
        native.load_weights(training.module.model, native.read(files.best.best_model_path))


def outcome(training: TrainingRun) -> dict[str, Any]:
    """Gather what ``result.json`` says of training."""
    config, module, trainer = training.config, training.module, training.trainer
    best, device, mine = training.files.best, trainer.strategy.root_device, training.card.clock
    spent = Clock(*distributed.summed(torch.tensor(mine, dtype=torch.float64)).tolist())
    score, folder = best.best_model_score, training.card.folder
    saving = trainer.strategy.checkpoint_io
    assert isinstance(saving, AtomicCheckpointIO), "the trainer was given it"
    return {
        "format": FORMAT,
        "task": module.task.name,
        "parameters": module.model.size,
        "steps": trainer.global_step,
        "N_sup": module.N_sup,
        "training_wall_time_s": round(mine.wall_time_s, 3),
        "training_cpu_time_s": round(spent.cpu_time_s, 3),  # of all processes
        "footprint": _footprint(training, spent),
        "saving": saving.report(),
        "processes": trainer.world_size,
        "device": str(device),
        "precision": str(trainer.precision),
        "checkpoint": best.best_model_path and os.path.relpath(best.best_model_path, folder),
        "val_exact_accuracy": None if score is None else float(score),
        "seed": config.seed,
        "manifest": training.puzzles.data.manifest,
        "certificate": birth_certificate(device),
        "config": config.plain,
    }


def _footprint(training: TrainingRun, spent: Clock) -> dict[str, Any]:
    """Say what training took: of GPUs by the clock, of a CPU by the cores it kept busy."""
    settings, meter = training.config.footprint, training.card.meter
    device = training.trainer.strategy.root_device
    device_s = spent.wall_time_s if device.type == "cuda" else spent.cpu_time_s
    watts = declared_watts(device, settings.watts)
    source = meter.source if meter is not None else None
    return footprint(device, device_s, spent.energy_j, source, watts, settings.co2_g_per_kwh)
