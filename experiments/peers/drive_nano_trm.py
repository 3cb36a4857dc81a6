"""Train nano-trm's model with Lightning, as it does itself.

``python -m experiments.peers.drive_nano_trm``, in an environment that has nano-trm.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from math import isqrt
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.peers.turns import Answer, Puzzles, Setting, Turns, drive


def learn(setting: Setting, puzzles: Puzzles, turns: Turns) -> None:
    """Train its LightningModule under its EMA callback."""
    its_model: Any = import_module("src.nn.models.trm")
    its_ema: Any = import_module("src.nn.callbacks.ema")
    module = its_model.TRMModule(
        hidden_size=setting.dim,
        num_layers=setting.layers,
        max_grid_size=isqrt(setting.cells),
        H_cycles=setting.T,
        L_cycles=setting.n,
        N_supervision=setting.N_sup,
        N_supervision_val=setting.N_sup,
        ffn_expansion=setting.expansion,
        learning_rate=setting.lr,
        weight_decay=setting.weight_decay,
        warmup_steps=setting.warmup_steps,
        halt_exploration_prob=setting.halt_exploration,
        puzzle_emb_dim=0,
        puzzle_emb_len=0,
        pos_emb_type=None,
        use_mlp_t=True,
        vocab_size=setting.vocab_size,
        num_puzzles=1,
        batch_size=setting.batch_size,
        seq_len=setting.cells,
        forward_dtype=setting.dtype,
    )
    ema = its_ema.EMACallback(decay=setting.ema)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[ema, _Stepped(turns)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )

    @contextmanager
    def answering() -> Iterator[Answer]:
        ema.on_validation_epoch_start(trainer, module)  # puts the averaged weights in
        module.eval()
        yield answer
        module.train()
        ema.on_validation_epoch_end(trainer, module)

    def answer(x_input: Tensor) -> Tensor:
        batch = _batch(x_input, x_input)
        carry = module.initial_carry(batch)
        for _ in range(setting.N_sup):
            carry, outputs = module(carry, batch)
        best: Tensor = outputs["logits"].argmax(-1)
        return best

    size = sum(p.numel() for p in module.parameters())
    turns.begin(size, answering, ("nano-trm", "lightning"))
    trainer.fit(module, _Batches(puzzles))


def _batch(x_input: Tensor, y_true: Tensor) -> dict[str, Tensor]:
    ids = torch.zeros(len(x_input), dtype=torch.int32)
    return {"input": x_input, "output": y_true, "puzzle_identifiers": ids}


class _Batches(LightningDataModule):
    """Hands out the batches that all share; the module asks for their number and size."""

    def __init__(self, puzzles: Puzzles) -> None:
        super().__init__()
        self.puzzles = puzzles
        steps, self.batch_size = puzzles.x_batches.shape[:2]
        self.train_dataset = range(steps * self.batch_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """Yield one batch per training step."""
        pairs = zip(self.puzzles.x_batches, self.puzzles.y_batches, strict=True)
        batches: Any = [_batch(x_input, y_true) for x_input, y_true in pairs]
        return DataLoader(batches, batch_size=None)


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
