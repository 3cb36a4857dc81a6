"""What a trajectory shows after each supervision step, to be drawn."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trm.models.likelihoods import answer_loss
from trm.models.recursion import RecursiveModel, Trained, halting_logit, trajectory
from trm.support.devices import autocast
from trm.support.errors import check_at_least
from trm.tasks.base import Task
from trm.tasks.html import most_panels, panels, table
from trm.tasks.looks import Look, looks, window, wrong_cells


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


@dataclass(frozen=True, eq=False)
class Story:
    """One puzzle and how its answer came to be; in a notebook it draws itself, step by step.

    Attributes:
        task: whose puzzle it is
        x_input: (cells,) uint8 tokens
        answers: after each step, (steps, cells) uint8 tokens
        certainty: probability of these tokens, (steps, cells)
        halting: probability that the model gives to being solved, (steps,)
        y_true: the solution, (cells,) uint8, or None if it is not known; then nothing is wrong
    """

    task: Task
    x_input: np.ndarray
    answers: np.ndarray
    certainty: np.ndarray
    halting: np.ndarray
    y_true: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        task: Task,
        x_input: np.ndarray,
        frames: TrajectoryFrames,
        number: int = 0,
        y_true: np.ndarray | None = None,
    ) -> "Story":
        """Take one puzzle out of a batch."""
        return cls(
            task,
            x_input,
            frames.answers[:, number].numpy(),
            frames.certainty[:, number].numpy(),
            frames.halting[:, number].numpy(),
            y_true,
        )

    def __repr__(self) -> str:
        return f"Story({self.task!r}, {len(self.answers)} steps)"

    def _repr_html_(self) -> str:
        size = self.window
        drawn = [("puzzle", table(self.task, self.looks(None), size))]
        for step in self.told(most_panels(self.task) - 1):
            drawn.append((self.title(step), table(self.task, self.looks(step), size)))
        return panels(drawn)

    @property
    def window(self) -> tuple[int, int]:
        """The rows and columns worth showing."""
        known = [] if self.y_true is None else [self.y_true]
        return window(self.task, self.x_input, *self.answers, *known)

    def looks(self, step: int | None) -> list[Look]:
        """Return how the cells look after a step, or those of the puzzle if it is None."""
        if step is None:
            return looks(self.task, self.x_input)
        certainty, wrong = self.certainty[step], self.wrong(step)
        return looks(self.task, self.x_input, self.answers[step], certainty, wrong)

    def told(self, most: int) -> list[int]:
        """Choose at most so many steps that it is told by: all, or those that changed the answer.

        The first and the last of these are among them.
        """
        steps = list(range(len(self.answers)))
        if len(steps) > most:
            changed = (self.answers[1:] != self.answers[:-1]).any(1)
            steps = [0, *(np.flatnonzero(changed) + 1).tolist()]
        if len(steps) > most:
            chosen = np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))
            steps = [steps[place] for place in chosen]
        return steps

    def wrong(self, step: int) -> np.ndarray:
        """Mark, as (cells,) bool, the cells that are not as in the solution."""
        return wrong_cells(self.answers[step], self.y_true)

    def title(self, step: int) -> str:
        """Say in two lines how far it is."""
        count, known = int(self.wrong(step).sum()), self.y_true is not None
        state = "" if not known else ": solved" if count == 0 else f": {count} wrong"
        return f"step {step + 1}{state}\nsays solved: {100 * self.halting[step]:.0f} %"
