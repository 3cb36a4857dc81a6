"""Run many trajectories of many puzzles in one batch, from which finished puzzles leave."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trm.inference.compute import Compute
from trm.inference.search import Searching, Sought
from trm.inference.selectors import Signals, candidates, select_trajectory
from trm.inference.starts import first_states, views, with_noise
from trm.models.likelihoods import answer_loss, probabilities
from trm.models.recursion import RecursiveModel, Step, Trained, halting_logit
from trm.support import counter_rng
from trm.support.batched import Batched
from trm.support.devices import autocast
from trm.tasks.base import Symmetry, Task


@dataclass(frozen=True)
class RolloutStep:
    """What one supervision step gave, for the puzzles then in the batch and R trajectories of each.

    Attributes:
        index: numbers of the puzzles, (batch,) int64
        steps: that they have taken, this one included, (batch,) int64
        y: answers, views turned back, (batch, R, cells) int64
        signals: of (batch, R) trajectories
        ended: puzzles that leave with this step, (batch,) bool
        choice: number of the trajectory that answers if this is the end, (batch,) int64
        pins: cells that a search has written and not taken back, (batch, R) int64
        guesses: that it has made, those taken back too, (batch, R) int64
        restarts: how often it started anew, (batch, R) int64
    """

    index: Tensor
    steps: Tensor
    y: Tensor
    signals: Signals
    ended: Tensor
    choice: Tensor
    pins: Tensor
    guesses: Tensor
    restarts: Tensor


@dataclass(frozen=True)
class _PuzzlesInHand(Batched):
    """Puzzles in hand, and the R trajectories of each."""

    index: Tensor  # (batch,)
    steps: Tensor  # (batch,)
    question: Tensor  # (batch, cells)
    x_input: Tensor  # (batch, R, cells), turned, with the pins of a search
    puzzle_id: Tensor  # (batch, R)
    state: Batched  # (batch, R, ...)
    wait: Tensor  # (batch, R), steps until a search decides something
    guesses: Tensor  # (batch, R)
    restarts: Tensor  # (batch, R)
    kept: Tensor  # (batch, R, cells), the best valid answer so far, where it is kept
    kept_cost: Tensor  # (batch, R), infinite until there is one


_OF_A_SEARCH = "x_input", "state", "wait", "guesses", "restarts"  # what it may change


@torch.inference_mode()
def rollout(
    model: RecursiveModel,
    task: Task,
    x_input: Tensor,
    puzzle_id: Tensor,
    compute: Compute,
    trained: Trained,
    batch_size: int = 256,
    precision: str = "auto",
) -> Iterator[RolloutStep]:
    """Run trajectories of puzzles and yield what each supervision step gave.

    As puzzles end, waiting ones take their places: the batch stays full, and the cost follows the
    mean number of steps. What comes of a puzzle depends on no other puzzle.

    Args:
        model: in eval mode; its device is where everything happens
        task: turns puzzles and checks answers
        x_input: (puzzles, cells) tokens
        puzzle_id: (puzzles,) int64
        compute: how much to think
        trained: how the model was trained
        batch_size: trajectories at once; a puzzle's own are never torn apart
        precision: see ``trm.support.devices.autocast``

    Raises:
        InputError: more views than the task has, or a choice by validity where there are no rules
    """
    compute = compute.for_model(task, model, trained.N_sup)
    runner = _Runner(model, task, x_input, puzzle_id, compute, trained, precision)
    room, puzzles = max(1, batch_size // compute.trajectories), len(x_input)
    admitted = min(room, puzzles)
    batch = runner.admit(0, admitted)
    while len(batch):
        batch, step = runner.step(batch)
        yield step
        batch = batch[~step.ended] if step.ended.any() else batch
        free = min(room - len(batch), puzzles - admitted)
        if free > 0:
            batch = _PuzzlesInHand.cat([batch, runner.admit(admitted, admitted + free)])
            admitted += free


class _Runner:
    """What stays the same from step to step."""

    def __init__(
        self,
        model: RecursiveModel,
        task: Task,
        x_input: Tensor,
        puzzle_id: Tensor,
        compute: Compute,
        trained: Trained,
        precision: str,
    ) -> None:
        self.model, self.task, self.compute, self.trained = model, task, compute, trained
        self.precision = precision
        self.x_input, self.puzzle_id = x_input, puzzle_id
        self.loss = answer_loss(trained.loss)
        self.device = next(model.parameters()).device
        # Trajectory r · views + v is view v of rollout r.
        numbers = torch.arange(compute.rollouts, device=self.device)
        self.rollouts = numbers.repeat_interleave(compute.views)
        view = views(task, compute.views, compute.seed)
        self.there, self.back = view.to(self.device), view.inverse().to(self.device)
        self.start = first_states(model, compute)[self.rollouts]
        search, R = compute.search, compute.trajectories
        self.searching = None if search is None else Searching(search, task, R, compute.seed)
        self.word = counter_rng.mix(torch.arange(task.cells, device=self.device))

    def admit(self, first: int, last: int) -> _PuzzlesInHand:
        """Prepare puzzles ``first`` to ``last``."""
        shape = last - first, self.compute.trajectories
        question = self.x_input[first:last].to(self.device).long()
        none = torch.zeros(shape, dtype=torch.int64, device=self.device)
        return _PuzzlesInHand(
            torch.arange(first, last, device=self.device),
            torch.zeros(shape[0], dtype=torch.int64, device=self.device),
            question,
            self._shown(question),
            self.puzzle_id[first:last].to(self.device)[:, None].expand(shape),
            self.start.map(lambda h: h.expand(shape[0], *h.shape)),
            torch.full_like(none, self.searching.think if self.searching else 0),
            none,
            none,
            none[..., None].expand(*shape, self.task.cells),
            torch.full(shape, torch.inf, device=self.device),
        )

    def _shown(self, question: Tensor) -> Tensor:
        """Return puzzles as their trajectories see them at first, (batch, R, cells) int64."""
        R = self.compute.trajectories
        return _turned(self.there, question.repeat_interleave(R, 0)).unflatten(0, (-1, R))

    def step(self, batch: _PuzzlesInHand) -> tuple[_PuzzlesInHand, RolloutStep]:
        """Take one supervision step with all puzzles in hand."""
        compute, shape = self.compute, (len(batch), self.compute.trajectories)
        x_input, puzzle_id = batch.x_input.flatten(0, 1), batch.puzzle_id.flatten()
        state = batch.state.map(lambda h: h.flatten(0, 1))
        if compute.noise:
            rollouts = self.rollouts.repeat(len(batch))
            state = with_noise(state, compute, rollouts, batch.steps.repeat_interleave(shape[1]))
        with autocast(self.device, self.precision):
            out = self.model(x_input, puzzle_id, state)
        turned = out.y_hat.argmax(-1)
        y = _turned(self.back, turned)
        valid = torch.zeros(len(y), dtype=torch.bool, device=self.device)
        question = batch.question.repeat_interleave(shape[1], 0)
        if self.task.has_rules:
            valid = self.task.is_valid(question, y)
        cost = self.task.cost(y)
        if compute.stop == "all_valid":
            y, cost = _best(batch, y, valid, cost)
            batch = replace(batch, kept=y.view(*shape, -1), kept_cost=cost.view(shape))
            valid = cost < torch.inf
        signals = Signals(
            halting_logit(out, self.trained.halting).float().view(shape),
            torch.stack(_changes(out.state, state), 1).view(*shape, -1),
            torch.exp(-self.loss(out.y_hat, turned)).float().mean(-1).view(shape),
            valid.view(shape),
            cost.view(shape),
            counter_rng.mix(self.word ^ counter_rng.mix(y)).sum(-1).view(shape),
        )
        steps, among = batch.steps + 1, candidates(compute.stop, compute.sure, signals)
        assert compute.max_steps is not None, "for_model fills it in"
        step = RolloutStep(
            batch.index,
            steps,
            y.view(*shape, -1),
            signals,
            ended=among.any(1) | (steps >= compute.max_steps),
            choice=select_trajectory(compute.select, signals, among),
            pins=self._pins(batch),
            guesses=batch.guesses,
            restarts=batch.restarts,
        )
        state = out.state.map(lambda h: h.unflatten(0, shape))
        batch = replace(batch, steps=steps, state=state, wait=batch.wait - 1)
        if self.searching is not None:
            before, batch = batch, self._searched(self.searching, batch, out)
            step = replace(step, ended=step.ended | self._is_hopeless(before, batch))
            self.searching.forget(self._numbers(batch)[step.ended].flatten().tolist())
        return batch, step

    def _is_hopeless(self, before: _PuzzlesInHand, after: _PuzzlesInHand) -> Tensor:
        """Tell which puzzles have no answer, (batch,) bool: a search that fails first asks."""
        asks = (before.restarts == 0).all(1) & (after.restarts > 0).any(1)
        for row in asks.nonzero()[:, 0].tolist():
            question = after.question[row].cpu().numpy()
            asks[row] = self.task.has_answer(question) is False
        return asks

    def _pins(self, batch: _PuzzlesInHand) -> Tensor:
        """Count what a search has written into the puzzles, (batch, R) int64."""
        if self.searching is None:
            return torch.zeros_like(batch.restarts)
        return (batch.x_input != self._shown(batch.question)).sum(-1)

    def _numbers(self, batch: _PuzzlesInHand) -> Tensor:
        """Number the trajectories of all puzzles, (batch, R) int64."""
        R = self.compute.trajectories
        return batch.index[:, None] * R + torch.arange(R, device=self.device)

    def _searched(self, searching: Searching, batch: _PuzzlesInHand, out: Step) -> _PuzzlesInHand:
        """Let the searches decide that have waited long enough."""
        rows = (batch.wait.flatten() <= 0).nonzero()[:, 0]
        if not len(rows):
            return batch
        sought = Sought(
            self._numbers(batch),
            self._shown(batch.question),
            batch.x_input,
            batch.state,
            batch.wait,
            batch.guesses,
            batch.restarts,
        ).map(lambda h: h.flatten(0, 1))
        chances = probabilities(self.trained.loss, out.y_hat[rows])
        says = None if out.contradiction is None else out.contradiction[rows] > 0
        decided = searching.decide(sought[rows], chances, says)
        sought = sought.map(lambda all, some: all.index_copy(0, rows, some), decided)
        sought = sought.map(lambda h: h.unflatten(0, batch.wait.shape))
        changed = {name: getattr(sought, name) for name in _OF_A_SEARCH}
        return replace(batch, **changed)


def _best(batch: _PuzzlesInHand, y: Tensor, valid: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best valid answers so far, and their costs; where there is none, the last."""
    kept, kept_cost = batch.kept.flatten(0, 1), batch.kept_cost.flatten()
    is_best = valid & (cost <= kept_cost)
    is_shown = is_best | (kept_cost == torch.inf)
    return torch.where(is_shown[:, None], y, kept), torch.where(is_best, cost, kept_cost)


def _changes(new: Batched, old: Batched) -> list[Tensor]:
    """Return the root mean square by which the features of a state changed, (batch,) each."""
    pairs = zip(new.features(), old.features(), strict=True)
    squares = [(one - other).float().flatten(1).square().mean(1) for (_, one), (_, other) in pairs]
    return [each.nan_to_num().sqrt() for each in squares]  # no entries: no change


def _turned(symmetry: Symmetry, grids: Tensor) -> Tensor:
    """Apply the symmetry of each view to (batch · rollouts · views, cells)."""
    times = len(grids) // len(symmetry.cells)
    return Symmetry(symmetry.cells.repeat(times, 1), symmetry.tokens.repeat(times, 1))(grids)
