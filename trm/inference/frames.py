"""What a trajectory shows after each supervision step, to be drawn."""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from trm.models.likelihoods import answer_loss
from trm.models.recursion import RecursiveModel, Trained, halting_logit, trajectory
from trm.support.devices import autocast
from trm.support.errors import check_at_least


@dataclass(frozen=True)
class TrajectoryFrames:
    """The plain trajectories of a batch of puzzles, on the CPU.

    Attributes:
        answers: (steps, batch, cells) uint8 tokens
        certainty: probability of these tokens, (steps, batch, cells) float32
        halting: probability that the model gives to being solved, (steps, batch) float32
        states: the parts of the state by name, such as ``y`` and ``z``, (steps, batch, ...) float32
    """

    answers: Tensor
    certainty: Tensor
    halting: Tensor
    states: dict[str, Tensor]

    def __getitem__(self, steps: slice) -> "TrajectoryFrames":
        """Select steps."""
        states = {name: part[steps] for name, part in self.states.items()}
        answers, certainty, halting = (
            self.answers[steps],
            self.certainty[steps],
            self.halting[steps],
        )
        return TrajectoryFrames(answers, certainty, halting, states)


@torch.inference_mode()
def trajectory_frames(
    model: RecursiveModel,
    x_input: Tensor,
    steps: int,
    trained: Trained | None = None,
    puzzle_id: Tensor | None = None,
    precision: str = "auto",
) -> TrajectoryFrames:
    """Run the plain trajectories of some puzzles and keep everything they show.

    Args:
        model: in eval mode
        x_input: (batch, cells) tokens
        steps: supervision steps
        trained: how the model was trained; None for the paper's ways
        puzzle_id: (batch,) int64; None for identifier 0
        precision: see ``trm.support.devices.autocast``

    Raises:
        InputError: fewer than one step
    """
    check_at_least(1, steps=steps)
    trained = Trained(halting=model.halting) if trained is None else trained
    loss = answer_loss(trained.loss)
    device = next(model.parameters()).device
    x_input = x_input.to(device).long()
    ids = x_input.new_zeros(len(x_input)) if puzzle_id is None else puzzle_id.to(device)
    frames = defaultdict[str, list[Tensor]](list)
    states = defaultdict[str, list[Tensor]](list)
    with autocast(device, precision):
        for step in trajectory(model, x_input, ids, 1 if model.one_pass else steps):
            y = step.y_hat.argmax(-1)
            frames["answers"].append(y.to(torch.uint8))
            frames["certainty"].append(torch.exp(-loss(step.y_hat, y)).float())
            frames["halting"].append(halting_logit(step, trained.halting).float().sigmoid())
            for name, part in step.state.features():
                states[name].append(part.float().cpu())
    stacked = {name: torch.stack(parts).cpu() for name, parts in frames.items()}
    return TrajectoryFrames(
        **stacked, states={name: torch.stack(parts) for name, parts in states.items()}
    )
