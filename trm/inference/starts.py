"""Where a puzzle's trajectories start and how they differ: views, initial states, noise."""

import torch
from torch import Tensor

from trm.inference.compute import Compute
from trm.models.recursion import RecursiveModel
from trm.support import counter_rng
from trm.support.batched import Batched, disturbed
from trm.support.errors import InputError
from trm.tasks.base import Symmetry, Task

_NOISE = 1  # streams of random numbers, told apart by these words
_VIEWS = 2
_VIEWS_TRIED = 16  # times as many as wanted, since a small group repeats itself soon


def views(task: Task, count: int, seed: int) -> Symmetry:
    """Return ``count`` different symmetries, the identity first.

    Raises:
        InputError: the task has fewer
    """
    keys = counter_rng.key(seed, _VIEWS, torch.arange(_VIEWS_TRIED * count))
    symmetry = task.symmetries(torch.cat([torch.zeros(1, dtype=torch.int64), keys]))
    both = torch.cat([symmetry.cells, symmetry.tokens], 1)
    _, kind = torch.unique(both, dim=0, return_inverse=True)
    order = torch.arange(len(kind))
    first = torch.full((int(kind.max()) + 1,), len(kind)).scatter_reduce(0, kind, order, "amin")
    if len(first) < count:
        raise InputError(f"views={count}: {task.name} has {len(first)} symmetric views, no more")
    kept = first.sort().values[:count]
    return Symmetry(symmetry.cells[kept], symmetry.tokens[kept])


def first_states(model: RecursiveModel, compute: Compute) -> Batched:
    """Return the state in which each rollout starts, (rollouts, ...) on the model's device.

    The draws depend on seed and rollout alone, so the puzzles of a batch do not matter.
    """
    plain = model.initial_state(1)
    others = [plain] * (compute.rollouts - 1)
    if compute.start == "random":
        for r in range(len(others)):
            word = int(counter_rng.key(compute.seed, r + 1))
            others[r] = model.initial_state(1, torch.Generator().manual_seed(word))
    return Batched.cat([plain, *others])


def with_noise(state: Batched, compute: Compute, rollout: Tensor, step: Tensor) -> Batched:
    """Add Gaussian noise to the rollouts beyond the first.

    Args:
        state: (batch, ...)
        compute: gives scale and seed
        rollout: number of each, (batch,) int64
        step: supervision steps taken before, (batch,) int64
    """
    keys = counter_rng.key(compute.seed, _NOISE, rollout, step)
    return disturbed(state, keys, 1.0, compute.noise * (rollout > 0))
