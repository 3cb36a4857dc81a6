"""Train the released code's model on a CPU: ``python -m experiments.peers.drive_released``.

Its trainer needs CUDA; this loop drives its model, loss and EMA, imported from a checkout, with our
AdamATan2 in place of the CUDA kernel.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.peers.turns import Answer, Puzzles, Setting, Turns, drive
from trm.support.errors import InputError
from trm.training.optimizers import AdamATan2, lr_scale

COMMIT = "e7b6871"
_FILES = (
    "models/common.py",
    "models/ema.py",
    "models/layers.py",
    "models/losses.py",
    "models/recursive_reasoning/trm.py",
    "models/sparse_embedding.py",
)
# Of these files, one after the other.
_SHA256 = "d85a3a5a65200b7a0f2ba598de016d8a08629bde5cfd00d774e1dd4f54419f9b"


def check_checkout(folder: Path) -> None:
    """Refuse a folder that does not hold the released code at the commit compared.

    Raises:
        InputError: files are missing or differ
    """
    remedy = f"check out commit {COMMIT} of SamsungSAILMontreal/TinyRecursiveModels and name it"
    digest = hashlib.sha256()
    for name in _FILES:
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise InputError(
                f"--released={folder} holds no {name} ({error.strerror}); {remedy}"
            ) from None
    if digest.hexdigest() != _SHA256:
        raise InputError(f"--released={folder} is not at commit {COMMIT}; {remedy}")


def learn(setting: Setting, puzzles: Puzzles, turns: Turns) -> None:
    """Train."""
    assert setting.checkout is not None, "checked before"
    sys.path.insert(0, setting.checkout)
    its_model: Any = import_module("models.recursive_reasoning.trm")
    its_losses: Any = import_module("models.losses")
    its_ema: Any = import_module("models.ema")
    settings = {
        "batch_size": setting.batch_size,
        "seq_len": setting.cells,
        "puzzle_emb_ndim": 0,
        "puzzle_emb_len": 0,
        "num_puzzle_identifiers": 1,
        "vocab_size": setting.vocab_size,
        "H_cycles": setting.T,
        "L_cycles": setting.n,
        "H_layers": 0,
        "L_layers": setting.layers,
        "hidden_size": setting.dim,
        "expansion": setting.expansion,
        "num_heads": 8,
        "pos_encodings": "none",
        "halt_max_steps": setting.N_sup,
        "halt_exploration_prob": setting.halt_exploration,
        "forward_dtype": setting.precision,
        "mlp_t": True,
    }
    model = its_losses.ACTLossHead(
        its_model.TinyRecursiveReasoningModel_ACTV1(settings), "stablemax_cross_entropy"
    )
    optimizer = AdamATan2(
        model.parameters(), lr=setting.lr, betas=setting.betas, weight_decay=setting.weight_decay
    )
    ema = its_ema.EMAHelper(mu=setting.ema)
    ema.register(model)

    @contextmanager
    def answering() -> Iterator[Answer]:
        averaged = ema.ema_copy(model).eval().model

        def answer(x_input: Tensor) -> Tensor:
            batch = _batch(x_input, x_input)
            carry = averaged.initial_carry(batch)
            for _ in range(setting.N_sup):
                carry, outputs = averaged(carry=carry, batch=batch)
            best: Tensor = outputs["logits"].argmax(-1)
            return best

        yield answer

    turns.begin(sum(p.numel() for p in model.parameters()), answering, ("pydantic",))
    carry = None
    for step, (x_input, y_true) in enumerate(
        zip(puzzles.x_batches, puzzles.y_batches, strict=True)
    ):
        batch = _batch(x_input, y_true)
        carry = carry or model.initial_carry(batch)
        carry, loss, *_ = model(carry=carry, batch=batch, return_keys=[])
        (loss / setting.batch_size).backward()
        for group in optimizer.param_groups:
            group["lr"] = setting.lr * lr_scale(step, setting.warmup_steps, setting.max_steps, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model)
        turns.stepped(setting.batch_size)


def _batch(x_input: Tensor, y_true: Tensor) -> dict[str, Tensor]:
    ids = torch.zeros(len(x_input), dtype=torch.int32)
    return {"inputs": x_input, "labels": y_true, "puzzle_identifiers": ids}


if __name__ == "__main__":
    drive(learn)
