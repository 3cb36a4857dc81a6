import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tiny_model
from tests.data.test_from_arc import folder, read
from trm.inference.arc_voting import PASS_AT, Ballot, score, submission, vote
from trm.tasks.arc import to_canvas

__all__ = ["folder"]  # a fixture

ARRAYS = np.load(Path(__file__).parents[1] / "parity" / "arc_voting.npz")


def grid(rows) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)


def published() -> tuple[Ballot, dict]:
    ballot = Ballot(json.loads(str(ARRAYS["identifiers"])))
    for rows in np.array_split(np.arange(len(ARRAYS["preds"])), 5):  # in batches, as they come
        names = ("inputs", "preds", "q_halt_logits", "puzzle_identifiers")
        ballot.add(*(ARRAYS[name][rows] for name in names))
    puzzles = json.loads(str(ARRAYS["test_puzzles"]))
    sides = ("input", "output")
    tasks = {
        name: tuple([grid(pair[side]) for pair in puzzle["test"]] for side in sides)
        for name, puzzle in puzzles.items()
    }
    return ballot, tasks


def test_votes_and_submission_are_those_of_the_published_code():
    ballot, tasks = published()
    result = {f"ARC/pass@{k}": share for k, share in score(ballot, tasks).pass_at.items()}
    assert result == json.loads(str(ARRAYS["result"]))
    questions = {name: inputs for name, (inputs, _) in tasks.items()}
    expected = json.loads(str(ARRAYS["submission"]))
    assert submission(ballot, questions, keep_empty=True) == expected
    # Ours: an answer without a cell does not take one of the two attempts.
    for name, attempts in submission(ballot, questions).items():
        for mine, theirs in zip(attempts, expected[name], strict=True):
            assert all(attempt for attempt in mine.values())
            assert mine == theirs or [] in theirs.values()


def ballot_of(*votes: tuple[int, float]) -> Ballot:
    ballot = Ballot(["<blank>", "a"])
    question = to_canvas(grid([[1]]))[None]
    for colour, q_hat in votes:
        answer = to_canvas(grid([[colour]]))[None]
        ballot.add(question, answer, np.array([q_hat], dtype=np.float32), np.array([1]))
    return ballot


@pytest.mark.parametrize(
    ("votes", "ranked"),
    [
        ([(5, 0.0), (6, 9.0), (5, 0.0)], [5, 6]),  # more votes win
        ([(5, 0.0), (6, 9.0)], [6, 5]),  # then confidence
        ([(5, 1.0), (6, 1.0), (4, 1.0)], [5, 6, 4]),  # then who came first
    ],
)
def test_answers_are_ranked(votes, ranked):
    answers = ballot_of(*votes).ranked("a", grid([[1]]))
    assert [int(answer[0, 0]) for answer in answers] == ranked


def test_memory_grows_with_answers_not_with_votes():
    ballot = ballot_of(*[(5, 0.0)] * 500)
    assert len(ballot.ranked("a", grid([[1]]))) == 1
    (answers,) = ballot._answers.values()
    assert next(iter(answers.values())).count == 500


def test_an_unanswered_question_is_submitted_all_the_same():
    questions = {"a": [grid([[1]]), grid([[2]])]}
    attempts = submission(ballot_of((5, 0.0)), questions)["a"]
    assert attempts[0] == {"attempt_1": [[5]], "attempt_2": [[5]]}, "the first is repeated"
    assert attempts[1] == {"attempt_1": [[0]], "attempt_2": [[0]]}
    solved = score(ballot_of((5, 0.0)), {"a": ([*questions["a"]], [grid([[5]]), grid([[5]])])})
    assert solved.pass_at[1] == 0.5


def test_a_model_votes_on_every_augmentation(folder):
    data = read(folder, augmentations=3)
    model = tiny_model(
        vocab_size=12,
        seq_len=900,
        mixing="attention",
        positions="rotary",
        prefix_len=1,
        identifiers=data.identifiers,
        n=1,
        T=1,
    )
    votes = data.votes.narrowed(2, 3)
    assert list(votes.questions) == ["eval0", "eval1"]
    assert len(votes.puzzles) == 2 * 2 * 3
    done = []
    ballot = vote(model, votes, 2, 5, "cpu", done.append)
    assert done == [5, 10, 12]
    counts = [sum(v.count for v in answers.values()) for answers in ballot._answers.values()]
    assert counts == [3] * 4, "each test input got its three votes, whatever they were"
    result = score(ballot, votes.questions)
    assert set(result.pass_at) == set(PASS_AT)
    assert result.tasks == 2
