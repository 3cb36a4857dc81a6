"""One puzzle's answer after each supervision step, for the terminal."""

import torch
from rich.columns import Columns
from rich.console import Group
from rich.text import Text

from trm.data.puzzles import PuzzleSet
from trm.data.sampler import Batch
from trm.models.recursion import RecursiveModel, trajectory
from trm.tasks.base import PAD, Task

_TRIED = 256  # puzzles among which the most telling one is looked for


@torch.inference_mode()
def thinking(model: RecursiveModel, task: Task, puzzles: PuzzleSet, steps: int) -> Group:
    """Draw the held-out puzzle that takes the model longest to solve, step by step.

    Looks at the first 256 puzzles. If none is solved, draws the one that comes closest.
    """
    batch = Batch.of(puzzles[:_TRIED], next(model.parameters()).device)
    answers = torch.stack(
        [step.y_hat.argmax(-1) for step in trajectory(model, batch.x_input, batch.puzzle_id, steps)]
    )
    wrong = ((answers != batch.y_true) & (batch.y_true != PAD)).sum(2)
    steps_with_errors = (wrong > 0).sum(0)
    telling = steps_with_errors * task.cells + wrong[0]
    chosen = int(torch.where(wrong[-1] == 0, telling, -wrong[-1]).argmax())
    x_input, y_true = batch.x_input[chosen].cpu().numpy(), batch.y_true[chosen].cpu().numpy()
    pictures = [Text("puzzle\n").append_text(task.render(x_input))]
    for k in range(steps):
        count = int(wrong[k, chosen])
        said = "solved" if count == 0 else f"{count} wrong"
        answer = task.render(x_input, answers[k, chosen].cpu().numpy(), y_true)
        pictures.append(Text(f"step {k + 1}: {said}\n").append_text(answer))
        if not wrong[k:, chosen].any():
            break  # solved for good: the remaining steps repeat the picture
    title = Text("One held-out puzzle, drawn after each supervision step (! marks a wrong cell)")
    title.stylize("bold")
    return Group(title, Columns(pictures, padding=(1, 3)))
