"""What a model shows of a puzzle after each supervision step, to be drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trm.devices import autocast
from trm.errors import check_at_least
from trm.models.recursion import RecursiveModel, Trained, halting_logit, trajectory
from trm.training.losses import answer_loss


@dataclass(frozen=True)
class Thoughts:
    """The plain trajectories of a batch of puzzles, on the CPU.

    Attributes:
        answers: (steps, batch, cells) uint8 tokens
        certainty: probability of these tokens, (steps, batch, cells) float32
        halting: probability that the model gives to being solved, (steps, batch) float32
        y: embedded answers, (steps, batch, ...) float32
        z: latents, (steps, batch, ...) float32
    """

    answers: Tensor
    certainty: Tensor
    halting: Tensor
    y: Tensor
    z: Tensor

    def __getitem__(self, steps: slice) -> "Thoughts":
        """Select steps."""
        parts = (self.answers, self.certainty, self.halting, self.y, self.z)
        return Thoughts(*(part[steps] for part in parts))


@torch.inference_mode()
def thoughts(
    model: RecursiveModel,
    x_input: Tensor,
    steps: int,
    trained: Trained | None = None,
    puzzle_id: Tensor | None = None,
    precision: str = "auto",
) -> Thoughts:
    """Let a model think and keep everything it shows.

    Args:
        model: in eval mode
        x_input: (batch, cells) tokens
        steps: supervision steps
        trained: how the model was trained; None for the paper's ways
        puzzle_id: (batch,) int64; None for identifier 0
        precision: see ``trm.devices.autocast``

    Raises:
        InputError: fewer than one step
    """
    check_at_least(1, steps=steps)
    trained = Trained(halting=model.halting) if trained is None else trained
    loss = answer_loss(trained.loss)
    device = next(model.parameters()).device
    x_input = x_input.to(device).long()
    ids = x_input.new_zeros(len(x_input)) if puzzle_id is None else puzzle_id.to(device)
    seen: list[tuple[Tensor, ...]] = []
    with autocast(device, precision):
        for step in trajectory(model, x_input, ids, 1 if model.one_pass else steps):
            y = step.y_hat.argmax(-1)
            seen.append(
                (
                    y.to(torch.uint8),
                    torch.exp(-loss(step.y_hat, y)).float(),
                    halting_logit(step, trained.halting).float().sigmoid(),
                    step.state.y.float(),
                    step.state.z.float(),
                )
            )
    return Thoughts(*(torch.stack(part).cpu() for part in zip(*seen, strict=True)))
