"""One puzzle's answer after each supervision step, for the terminal."""

import torch
from rich.columns import Columns
from rich.console import Group
from rich.text import Text

from trm.data.puzzles import PuzzleSet
from trm.data.sampler import Batch
from trm.models.recursion import RecursiveModel, trajectory
from trm.tasks.base import PAD, Task

_TRIED = 64  # puzzles among which the most telling one is looked for


@torch.inference_mode()
def thinking(model: RecursiveModel, task: Task, puzzles: PuzzleSet, steps: int) -> Group:
    """Draw a held-out puzzle that the model solves late, step by step.

    Among the first 64 puzzles, takes the one solved at the last step whose first answer had the
    most errors; a puzzle never solved only if none is.
    """
    batch = Batch.of(puzzles[:_TRIED], next(model.parameters()).device)
    answers = torch.stack(
        [step.y_hat.argmax(-1) for step in trajectory(model, batch.x_input, batch.puzzle_id, steps)]
    )
    wrong = ((answers != batch.y_true) & (batch.y_true != PAD)).sum(2)
    errors_repaired = torch.where(wrong[-1] == 0, wrong[0], -wrong[-1])
    chosen = int(errors_repaired.argmax())
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
