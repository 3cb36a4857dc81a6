import pytest
import torch

from tests.conftest import tiny_model
from trm.data import Batch
from trm.inference.evaluation import answers, answers_until_halted, evaluate
from trm.models import trajectory


@pytest.fixture
def model():
    """A model whose puzzles halt at different steps, some of them never."""
    model = tiny_model().eval()
    torch.manual_seed(1)
    torch.nn.init.normal_(model.halt_head.weight, std=0.3)
    torch.nn.init.constant_(model.halt_head.bias, -0.5)
    return model


def test_puzzles_that_halted_keep_their_answers(model, puzzles):
    batch = Batch.of(puzzles.splits["train"])
    y, taken = answers_until_halted(model, batch, 6, "solved")
    full = answers(model, batch, 6)
    with torch.inference_mode():
        steps = trajectory(model, batch.x_input, batch.puzzle_id, 6)
        says_stop = torch.stack([step.q_hat > 0 for step in steps])
    halted_at = torch.where(says_stop.any(0), says_stop.int().argmax(0), 5)
    assert len(halted_at.unique()) > 1
    for k in range(6):
        expected = full[torch.minimum(halted_at, torch.tensor(k)), torch.arange(len(batch))]
        assert y[k].equal(expected)
    assert taken == (halted_at + 1).sum()


def test_early_exit_computes_fewer_steps_and_changes_no_answer_before(model, puzzles, sudoku):
    every = evaluate(model, sudoku, puzzles.splits["train"], 6, batch_size=7)
    early = evaluate(model, sudoku, puzzles.splits["train"], 6, batch_size=7, early_exit="solved")
    assert every.taken == 6 * every.n
    assert early.taken < every.taken
    assert early.n == every.n
    assert early.cell[0] == pytest.approx(every.cell[0])
    assert early.hits["exact"][0] == every.hits["exact"][0]


def test_the_batch_size_does_not_matter(model, puzzles, sudoku):
    one, other = (
        evaluate(model, sudoku, puzzles.splits["test"], 3, batch_size, early_exit="solved")
        for batch_size in (1, 100)
    )
    assert one.hits == other.hits
    assert one.cell == pytest.approx(other.cell)
    assert one.taken == other.taken
