"""ARC evaluation: undo the augmentations, let the answers vote, and write a submission."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trm.data.arc.tables import ArcVotes
from trm.data.sampler import Batch
from trm.models.recursion import RecursiveModel, trajectory
from trm.support.devices import autocast
from trm.tasks.arc import crop, parsed_name, undone

PASS_AT = (1, 2, 5, 10, 100, 1000)
_ATTEMPTS = 2  # answers per test input in a submission


@dataclass
class _Votes:
    """Votes for one answer."""

    count: int = 0
    confidence: float = 0.0  # sum of the halting probabilities

    @property
    def rank(self) -> tuple[int, float]:
        return self.count, self.confidence / self.count


@dataclass
class Ballot:
    """Answers to the questions of tasks, counted as they come.

    Memory grows with the number of different answers, not of votes.

    Args:
        names: of the identifiers, ``task|||tK|||permutation`` or a bare task; number 0 is blank
    """

    names: Sequence[str]
    _answers: dict[tuple[str, bytes], dict[bytes, _Votes]] = field(default_factory=dict)

    def add(
        self, x_input: np.ndarray, y: np.ndarray, q_hat: np.ndarray, puzzle_id: np.ndarray
    ) -> None:
        """Undo and count a batch.

        Args:
            x_input: canvases of the augmented test inputs, (batch, 900) uint8
            y: answers to them, (batch, 900) uint8
            q_hat: halting logits, (batch,) float32
            puzzle_id: identifiers, (batch,); rows of identifier 0 are padding
        """
        probability = 1 / (1 + np.exp(-q_hat.astype(np.float64)))
        for row in np.flatnonzero(puzzle_id):
            task, which, colours = parsed_name(self.names[int(puzzle_id[row])])
            question, answer = (
                undone(crop(tokens[row]), which, colours) for tokens in (x_input, y)
            )
            answers = self._answers.setdefault((task, _key(question)), {})
            votes = answers.setdefault(_key(answer), _Votes())
            votes.count += 1
            votes.confidence += float(probability[row])

    def ranked(self, task: str, question: np.ndarray) -> list[np.ndarray]:
        """Return the answers to a test input, the best first: by votes, then by mean confidence.

        Answers that tie stay in the order in which they first came.
        """
        answers = self._answers.get((task, _key(question)), {})
        order = sorted(answers, key=lambda key: answers[key].rank, reverse=True)
        return [_grid(key) for key in order]


@torch.inference_mode()
def vote(
    model: RecursiveModel,
    votes: ArcVotes,
    steps: int,
    batch_size: int,
    device: torch.device | str,
    on_batch: Callable[[int], None] = lambda done: None,
    precision: str = "auto",
) -> Ballot:
    """Let a model answer every test input under every augmentation.

    Args:
        model: put into eval mode and onto ``device``
        votes: the augmented test inputs
        steps: supervision steps for each; the last one votes
        batch_size: of them at once
        device: where to run
        on_batch: told how many are done
        precision: see ``trm.support.devices.autocast``
    """
    model = model.to(device).eval()
    ballot = Ballot(votes.names)
    for first in range(0, len(votes.puzzles), batch_size):
        batch = Batch.of(votes.puzzles[first : first + batch_size], device)
        with autocast(device, precision):
            for step in trajectory(model, batch.x_input, batch.puzzle_id, steps):
                last = step
        ballot.add(
            batch.x_input.to(torch.uint8).cpu().numpy(),
            last.y_hat.argmax(-1).to(torch.uint8).cpu().numpy(),
            last.q_hat.float().cpu().numpy(),
            batch.puzzle_id.cpu().numpy(),
        )
        on_batch(min(first + batch_size, len(votes.puzzles)))
    return ballot


@dataclass(frozen=True)
class Score:
    """What a ballot comes to.

    Attributes:
        tasks: with solutions
        pass_at: K to the mean over tasks of the share of test inputs solved within K answers
    """

    tasks: int
    pass_at: dict[int, float]


def score(ballot: Ballot, tasks: Mapping[str, tuple[list[np.ndarray], list[np.ndarray]]]) -> Score:
    """Compare with the solutions.

    Args:
        ballot: the votes
        tasks: name to test inputs and solutions, (rows, columns) colours each
    """
    shares: dict[int, list[float]] = {k: [] for k in PASS_AT}
    for name, (questions, solutions) in tasks.items():
        places = [
            _place(ballot.ranked(name, question), solution)
            for question, solution in zip(questions, solutions, strict=True)
        ]
        for k in PASS_AT:
            shares[k].append(sum(place < k for place in places) / len(places))
    pass_at = {k: sum(values) / len(values) for k, values in shares.items()}
    return Score(len(tasks), pass_at)


def submission(
    ballot: Ballot, questions: Mapping[str, list[np.ndarray]], keep_empty: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Return a Kaggle ``submission.json``: two attempts for every test input.

    A missing second attempt repeats the first; without any answer both are one black cell.

    Args:
        ballot: the votes
        questions: name of a task to its test inputs
        keep_empty: submit answers without a single cell, as the published code does, although they
            waste an attempt; else the next best takes their place
    """
    contents = {}
    for name, inputs in questions.items():
        attempts = []
        for question in inputs:
            best = [
                grid.tolist() for grid in ballot.ranked(name, question) if keep_empty or grid.size
            ]
            best = (best or [[[0]]])[:_ATTEMPTS]
            best += best[:1] * (_ATTEMPTS - len(best))
            attempts.append({f"attempt_{k}": grid for k, grid in enumerate(best, start=1)})
        contents[name] = attempts
    return contents


def _place(answers: list[np.ndarray], solution: np.ndarray) -> float:
    for place, answer in enumerate(answers):
        if np.array_equal(answer, solution):
            return place
    return float("inf")


def _key(grid: np.ndarray) -> bytes:
    return bytes(grid.shape) + grid.tobytes()


def _grid(key: bytes) -> np.ndarray:
    rows, columns = key[:2]
    return np.frombuffer(key[2:], dtype=np.uint8).reshape(rows, columns)
