"""Networks that know the structure of a puzzle: what is alike is treated alike, at any size."""

import pytest
import torch
from torch import Tensor

from trm.models import LocalModel, SymmetricModel
from trm.models.recursion import RecursiveModel, State
from trm.support import counter_rng
from trm.support.errors import InputError
from trm.tasks.base import Symmetry, Task
from trm.tasks.maze import Maze
from trm.tasks.sudoku import Sudoku

SIZES = [(2, 2), (2, 3), (3, 3), (4, 4)]


def symmetric(task: Task, **settings: object) -> SymmetricModel:
    torch.manual_seed(0)
    structure = task.structure
    known = {name: structure[name] for name in ("vocab_size", "grid_shape", "boxes")}
    model = SymmetricModel(**known, dim=8, hidden=12, **settings).double()
    torch.nn.init.normal_(model.halt_head.weight)  # it starts at zero, where nothing could differ
    return model


def local(task: Task, **settings: object) -> LocalModel:
    torch.manual_seed(0)
    model = LocalModel(task.vocab_size, task.grid_shape, dim=8, hidden=12, **settings).double()
    torch.nn.init.normal_(model.halt_head.weight)
    return model


def puzzles(task: Task, count: int = 4) -> Tensor:
    """Some blanks, some symbols; whether they make sense does not matter."""
    keys = counter_rng.key(7, torch.arange(count * task.cells)).view(count, -1)
    token = 1 + counter_rng.below(keys, task.vocab_size - 1)
    return torch.where(counter_rng.below(counter_rng.mix(keys), 2) == 0, 1, token)


def moved_sites(task: Sudoku, symmetry: Symmetry, h: Tensor) -> Tensor:
    """Move the features of (cell, digit) sites as a symmetry moves cells and digits."""
    batch, *shape, dim = h.shape
    sites = h.reshape(batch, task.cells, task.size, dim)
    of_cell = symmetry.cells[:, :, None, None].expand(-1, -1, task.size, dim)
    # The image shows digit tokens[d] where the original shows d.
    digit = symmetry.inverse().tokens[:, 2:] - 2
    of_digit = digit[:, None, :, None].expand(-1, task.cells, -1, dim)
    return sites.gather(1, of_cell).gather(2, of_digit).view(batch, *shape, dim)


@pytest.mark.parametrize("box", SIZES)
@pytest.mark.parametrize("states", [1, 2])
def test_permuted_puzzle_from_permuted_start_gives_permuted_logits(
    box: tuple[int, int], states: int
) -> None:
    task = Sudoku(*box)
    model, x_input = symmetric(task, states=states, n=3, layers=2), puzzles(task)
    symmetry = task.symmetries(counter_rng.key(3, torch.arange(len(x_input))))
    start = model.initial_state(len(x_input), torch.Generator().manual_seed(1))
    moved = State(
        *(moved_sites(task, symmetry, h) if h.dim() > 2 else h for h in vars(start).values())
    )
    ids = torch.zeros(len(x_input), dtype=torch.int64)
    plain, image = model(x_input, ids, start), model(symmetry(x_input), ids, moved)

    of_token = symmetry.inverse().tokens[:, None, :].expand(-1, task.cells, -1)
    of_cell = symmetry.cells[:, :, None].expand(-1, -1, task.vocab_size)
    expected = plain.y_hat.gather(1, of_cell).gather(2, of_token)
    torch.testing.assert_close(image.y_hat, expected, rtol=1e-9, atol=1e-9)
    for name in ("q_hat", "q_continue", "contradiction"):
        torch.testing.assert_close(getattr(image, name), getattr(plain, name))
    assert plain.y_hat.std(dim=(1, 2)).min() > 0.1, "logits that are all alike would prove nothing"


@pytest.mark.parametrize("box", SIZES)
def test_weights_are_those_of_every_sudoku(box: tuple[int, int]) -> None:
    model, task = symmetric(Sudoku(3, 3)), Sudoku(*box)
    here, x_input = model.on(task.structure), puzzles(task)
    own = symmetric(task)
    own.load_state_dict(model.state_dict())
    ids = torch.zeros(len(x_input), dtype=torch.int64)
    step, same = (each(x_input, ids, each.initial_state(len(x_input))) for each in (here, own))
    assert step.y_hat.equal(same.y_hat)
    assert step.y_hat.shape == (len(x_input), task.cells, task.vocab_size)
    assert here.settings() == own.settings()
    assert model.shape == (3, 3, 3, 3, 9), "the model itself stays what it was"


def test_model_on_another_size_shares_its_weights() -> None:
    model = symmetric(Sudoku(3, 3))
    here = model.on(Sudoku(2, 2).structure)
    assert [*here.parameters()] == [*model.parameters()] or all(
        a is b for a, b in zip(here.parameters(), model.parameters(), strict=True)
    )


def test_given_digits_are_answered_as_they_are() -> None:
    task = Sudoku(3, 3)
    model, x_input = symmetric(task), puzzles(task)
    step = model(x_input, x_input[:, 0], model.initial_state(len(x_input)))
    answer = step.y_hat.argmax(-1)
    assert answer[x_input > 1].equal(x_input[x_input > 1])
    assert answer.min() > 1, "neither PAD nor blank is an answer"


def test_local_model_does_not_know_where_it_is() -> None:
    """What stands in a corner of a large maze is answered as in a small one, far from the cut."""
    small, large = Maze(8), Maze(12)
    model = local(small, n=2)
    x_small = puzzles(small, 2).clamp(max=5)
    x_large = torch.ones(2, 12, 12, dtype=torch.int64)
    x_large[:, :8, :8] = x_small.view(2, 8, 8)
    big = model.on(large.structure)
    start = big.initial_state(2)
    near = State(start.y[:, :8, :8], start.z)
    ids = torch.zeros(2, dtype=torch.int64)
    wide = big(x_large.flatten(1), ids, start).y_hat.unflatten(1, (12, 12))
    narrow = model(x_small, ids, near).y_hat.unflatten(1, (8, 8))
    torch.testing.assert_close(wide[:, :6, :6], narrow[:, :6, :6])  # two passes see two cells far
    assert not wide[:, 6:8, 6:8].allclose(narrow[:, 6:, 6:])


@pytest.mark.parametrize("make", [symmetric, local])
def test_state_can_start_anywhere(make: object) -> None:
    task = Sudoku(2, 2)
    model: RecursiveModel = make(task)  # type: ignore[operator]
    fixed = model.initial_state(3).y
    assert fixed[0].equal(fixed[2]), "puzzles of a batch start alike"
    assert abs(fixed.std() - 1) < 0.2
    drawn = model.initial_state(3, torch.Generator().manual_seed(0)).y
    assert not drawn[0].equal(drawn[1])
    assert drawn.equal(model.initial_state(3, torch.Generator().manual_seed(0)).y)


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(InputError, match="needs boxes"):
        symmetric(Maze(6))
    with pytest.raises(InputError, match=r"model\.states=3"):
        symmetric(Sudoku(2, 2), states=3)
    with pytest.raises(InputError, match=r"model\.separate=true"):
        symmetric(Sudoku(2, 2), separate=True)
