"""A training step stays on its device and waits for no value: checked on tensors without values."""

import numpy as np
import pytest
import torch

from trm.data import Batch
from trm.data.arc.builder import ArcBuilder
from trm.data.arc.files import ArcTask
from trm.models import TinyRecursiveModel
from trm.models.likelihoods import stablemax_cross_entropy
from trm.support import counter_rng
from trm.tasks import Maze, Sudoku
from trm.training.carry import Carry, steps_to_take
from trm.training.losses import continue_target, step_loss
from trm.training.optimizers import AdamATan2, CompositeOptimizer, SignSGD


def test_a_training_step_stays_on_its_device_and_never_waits():
    # On the device "meta" there are no values: reading one raises, as does mixing devices.
    task = Sudoku(2, 2)
    with torch.device("meta"):
        model = TinyRecursiveModel(6, 16, dim=16, n=1, T=2, prefix_len=2, identifiers=3)
    network = AdamATan2(model.parameters())
    optimizer = CompositeOptimizer(network, SignSGD(model.identifiers, 0.1, 0.1))
    slots = torch.arange(8, device="meta")
    keys = counter_rng.key(3, 5, slots)
    grids = torch.ones(8, 16, dtype=torch.uint8, device="meta")
    grids = task.symmetries(keys)(grids)
    batch = Batch(grids, grids, counter_rng.below(keys, 3))
    initial = model.initial_state(8)
    carry = Carry.empty(batch, initial).admit(batch, initial)
    step = model(batch.x_input, batch.puzzle_id, carry.state)
    target = continue_target(model, batch, step.state.detach(), carry.steps > 2)
    loss = step_loss(step, batch.y_true, stablemax_cross_entropy, target)
    loss.total.sum().backward()
    optimizer.step()
    must_take = steps_to_take(0, 5, slots, 3, 0.1)
    carry = carry.advance(step.state, step.q_hat, 3, must_take)
    everything = [*carry.state_dict().values(), model.identifiers.weights, loss.exact, loss.total]
    assert {tensor.device.type for tensor in everything} == {"meta"}


def test_examples_of_mazes_and_arc_are_made_on_the_device():
    keys = torch.arange(5, device="meta")
    grids = torch.ones(5, 36, dtype=torch.uint8, device="meta")
    assert Maze(6).symmetries(keys)(grids).device.type == "meta"
    grid = np.ones((2, 3), dtype=np.uint8)
    tasks = [ArcTask(name, [(grid, grid)], [grid], [grid]) for name in "abcd"]
    builder = ArcBuilder(augmentations=2, seed=0)
    for task, role in zip(tasks, ("train", "train", "val", "test"), strict=True):
        builder.add(task, role)
    puzzles = builder.data("here", shared=0).splits["train"]
    for tensor in puzzles.on("meta")(keys):
        assert tensor.device.type == "meta"


def test_reading_a_value_would_have_raised():
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(3, device="meta").unique()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(3, device="meta") + torch.ones(3)
