"""One puzzle's answer after each supervision step, for the terminal."""

import torch
from rich.columns import Columns
from rich.console import Group
from rich.text import Text

from trm.data.puzzles import Puzzles
from trm.inference.evaluation import Evaluation
from trm.tasks.base import PAD, Task

_MOST_PICTURES = 8  # a longer trajectory is shown at steps 1, 2, 4, ...


def thinking(task: Task, puzzles: Puzzles, evaluation: Evaluation) -> Group:
    """Draw the puzzle that took the model longest to solve, step by step.

    Looks at the first batch of an evaluation. If none is solved, draws the one that comes closest.
    """
    answers = evaluation.first_answers
    batch = puzzles[: answers.shape[1]]
    y_true = torch.from_numpy(batch.y_true)
    wrong = ((answers != y_true) & (y_true != PAD)).sum(2)
    steps_with_errors = (wrong > 0).sum(0)
    telling = steps_with_errors * task.cells + wrong[0]
    chosen = int(torch.where(wrong[-1] == 0, telling, -wrong[-1]).argmax())
    x_input, solution = batch.x_input[chosen], batch.y_true[chosen]
    pictures = [Text("puzzle\n").append_text(task.render(x_input))]
    many = len(answers) > _MOST_PICTURES
    for k in (step - 1 for step in evaluation.shown_steps) if many else range(len(answers)):
        count = int(wrong[k, chosen])
        state = "solved" if count == 0 else f"{count} wrong"
        picture = task.render(x_input, answers[k, chosen].numpy(), solution)
        pictures.append(Text(f"step {k + 1}: {state}\n").append_text(picture))
        if not wrong[k:, chosen].any():
            break  # solved for good: the remaining steps repeat the picture
    title = Text("One of these puzzles, drawn after each supervision step (! marks a wrong cell)")
    title.stylize("bold")
    return Group(title, Columns(pictures, padding=(1, 3)))
