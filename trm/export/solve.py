"""Solve puzzles with an export: ``python -m trm.export.solve FOLDER ..6...2.…``."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from trm.export.runner import Exported
from trm.support.command_line import command


@command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Print an answer per line; 0 if all are valid, 1 if one is not, 2 if nothing was tried."""
    parser = argparse.ArgumentParser(
        prog="python -m trm.export.solve",
        description="Solve puzzles with an export. Answers are checked against the task's rules.",
    )
    parser.add_argument("folder", help="written by python -m trm.export")
    parser.add_argument("puzzle", nargs="+", help="row by row, without separators")
    parser.add_argument("--steps", type=int, help="supervision steps (as in training)")
    parser.add_argument("--id", type=int, default=0, help="puzzle identifier, for ARC (0)")
    options = parser.parse_args(arguments)
    exported = Exported.load(options.folder)
    task = exported.task
    x_input = np.stack([task.encode("".join(text.splitlines())) for text in options.puzzle])
    answers = exported.answers(x_input, options.steps, options.id)
    verdicts = [_best(task, grid, answers[:, i]) for i, grid in enumerate(x_input)]
    for answer, step, valid in verdicts:
        verdict = "not checked: no rules" if valid is None else "valid" if valid else "not valid"
        print(task.decode(answer), f"{verdict}; {step} step{'s' if step > 1 else ''}", sep="\t")
    return 1 if any(valid is False for *_, valid in verdicts) else 0


def _best(
    task: Any, x_input: np.ndarray, answers: np.ndarray
) -> tuple[np.ndarray, int, bool | None]:
    """Return the first valid of (steps, cells) answers, else the last; its step; if it is valid."""
    import torch

    last = len(answers) - 1
    if not task.has_rules:
        return answers[last], last + 1, None
    questions = torch.from_numpy(x_input).long().expand(len(answers), -1)
    valid = task.is_valid(questions, torch.from_numpy(answers).long())
    first = int(valid.int().argmax()) if valid.any() else last
    return answers[first], first + 1, bool(valid[first])


if __name__ == "__main__":
    sys.exit(main())
