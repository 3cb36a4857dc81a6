"""Train this library's model, as ``trm.train`` does: ``python -m experiments.peers.drive_ours``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from experiments.peers.turns import Answer, Puzzles, Setting, Turns, drive
from experiments.table import compose
from trm.checkpoints.native import build_model
from trm.commands import quiet_lightning
from trm.data import PuzzleData
from trm.data.puzzles import PuzzleSet
from trm.data.sampler import Batch
from trm.inference.evaluation import answers
from trm.support.build import build
from trm.tasks.base import Task
from trm.training.assembly import averaging, data_module, training_module
from trm.training.ema import EMA

EXPERIMENT = "experiment=sudoku_6x6"


def recipe(setting: Setting) -> dict[str, Any]:
    """Return the experiment's config, with the numbers of the setting."""
    return compose(
        (
            EXPERIMENT,
            f"seed={setting.seed}",
            f"model.dim={setting.dim}",
            f"model.layers={setting.layers}",
            f"model.expansion={setting.expansion}",
            f"model.hidden_multiple={setting.hidden_multiple}",
            f"recursion.n={setting.n}",
            f"recursion.T={setting.T}",
            f"train.N_sup={setting.N_sup}",
            f"train.batch_size={setting.batch_size}",
            f"train.halt_exploration={setting.halt_exploration}",
            f"train.warmup_steps={setting.warmup_steps}",
            f"optimizer.lr={setting.lr}",
            f"optimizer.betas={[*setting.betas]}",
            f"optimizer.weight_decay={setting.weight_decay}",
            f"ema.decay={setting.ema}",
            f"trainer.max_steps={setting.max_steps}",
        )
    )


def learn(setting: Setting, puzzles: Puzzles, turns: Turns) -> None:
    """Train; the sampler draws the very batches that the others are given."""
    quiet_lightning(None)
    config = recipe(setting)
    task = build(config["task"], Task, "task")
    with np.load(setting.puzzles) as arrays:
        train = PuzzleSet.of(arrays["x_train"], arrays["y_train"])
    data = PuzzleData({"train": train}, config["data"]["augmentations"], {})
    module = training_module(config, task, build_model(config["model"], task))
    (ema,) = averaging(config)
    assert isinstance(ema, EMA), "the recipe averages weights"

    @contextmanager
    def answering() -> Iterator[Answer]:
        assert ema._average_model is not None, "training began"
        averaged: Any = ema._average_model.module
        model = averaged.model.eval()

        def answer(x_input: Tensor) -> Tensor:
            batch = Batch(x_input, x_input, x_input.new_zeros(len(x_input)))
            with setting.autocast():
                return answers(model, batch, setting.N_sup)[-1].long()

        yield answer

    turns.begin(module.model.size, answering, ("lightning",))
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        precision="32-true" if setting.precision == "float32" else "bf16-mixed",
        max_steps=setting.max_steps,
        limit_val_batches=0,
        callbacks=[ema, _Stepped(turns)],  # in this order: averaging belongs to the step
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data_module(config, task, data))


class _Stepped(Callback):
    """Tells the turns of every step."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.turns.stepped(self.turns.setting.batch_size)


if __name__ == "__main__":
    drive(learn)
