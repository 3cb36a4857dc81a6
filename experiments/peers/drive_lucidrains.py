"""Train tiny-recursive-model's model by its own trainer.

``python -m experiments.peers.drive_lucidrains``, in an environment that has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from experiments.peers.turns import Answer, Puzzles, Setting, Turns, drive

_NEVER = 2.0  # a probability of halting that is not reached
_AVERAGED_EVERY = 10  # steps, by its EMA
_MULTIPLE = 256  # to which the others round SwiGLU widths


class _Done(Exception):  # noqa: N818 - it is no error
    """All steps were taken."""


def hidden(width: int, expansion: float) -> int:
    """Return the hidden width at which two products cost as much as the three of a SwiGLU."""
    swiglu = _MULTIPLE * ceil(round(expansion * width * 2 / 3) / _MULTIPLE)
    return 3 * swiglu // 2


def learn(setting: Setting, puzzles: Puzzles, turns: Turns) -> None:
    """Train until all steps are taken: its trainer itself knows epochs only."""
    it: Any = import_module("tiny_recursive_model")
    network = it.MLPMixer1D(
        dim=setting.dim,
        depth=setting.layers,
        seq_len=setting.cells,
        # both are multiples of the width; half a feature more, for the product is rounded down
        expansion_factor=(hidden(setting.cells, setting.expansion) + 0.5) / setting.dim,
        expansion_factor_token=(hidden(setting.dim, setting.expansion) + 0.5) / setting.dim,
    )
    model = it.TinyRecursiveModel(
        dim=setting.dim,
        num_tokens=setting.vocab_size,
        network=network,
        num_refinement_blocks=setting.T,
        num_latent_refinements=setting.n,
        halt_loss_weight=0.5,
    )
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=setting.lr,
        betas=setting.betas,
        weight_decay=setting.weight_decay,
        fused=True,
    )
    trainer = it.Trainer(
        model,
        TensorDataset(puzzles.x_batches.flatten(0, 1), puzzles.y_batches.flatten(0, 1)),
        optim=optimizer,
        batch_size=setting.batch_size,
        epochs=1,
        halt_prob_thres=0.5 if setting.halts else _NEVER,
        max_recurrent_steps=setting.N_sup,
        warmup_steps=setting.warmup_steps,
        ema_decay_rate=setting.ema**_AVERAGED_EVERY,
        accelerate_kwargs={"mixed_precision": "no" if setting.precision == "float32" else "bf16"},
        cpu=True,
    )
    averaged = trainer.ema_model.ema_model

    @contextmanager
    def answering() -> Iterator[Answer]:
        averaged.eval()
        yield answer

    def answer(x_input: Tensor) -> Tensor:
        with setting.autocast():
            best: Tensor
            best, _ = averaged.predict(x_input, _NEVER, setting.N_sup)
            return best

    in_hand = 0

    def look(network: Any, arguments: tuple[Tensor, ...]) -> None:
        nonlocal in_hand
        in_hand = len(arguments[0])

    def stepped(*_: Any) -> None:
        turns.stepped(in_hand)
        if turns.over:
            raise _Done

    # The averaging and the halting behind an optimizer step are clocked with the next one.
    model.network.register_forward_pre_hook(look)
    optimizer.register_step_post_hook(stepped)
    size = sum(p.numel() for p in model.parameters())
    turns.begin(size, answering, ("tiny-recursive-model", "accelerate", "ema-pytorch"))
    with suppress(_Done):
        trainer()


if __name__ == "__main__":
    drive(learn)
