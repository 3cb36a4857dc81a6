"""Pictures of a puzzle's answer as it changes from step to step: PNG and GIF."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

from trm.inference.evaluation import doubling
from trm.inference.frames import TrajectoryFrames
from trm.support.errors import InputError
from trm.support.files import written_whole
from trm.tasks.base import PAD, Task

_UNSURE = np.array([0.94, 0.78, 0.20])  # yellow, told from white by all eyes
_WRONG = "#D55E00"  # vermilion; the corner says it again without colour
_CLUE = "#E6E6E6"
_MOST_PANELS = 8  # a longer trajectory is shown at steps 1, 2, 4, ... and the last
_LEGEND = "yellow: unsure   framed, with a corner: wrong"
_DPI = 110
_MOST_FRAMES = 24  # of a GIF; of a longer trajectory, steps that changed the answer
_FRAME_MS, _LAST_FRAME_MS = 900, 3000


@dataclass(frozen=True)
class Story:
    """One puzzle and how its answer came to be.

    Attributes:
        task: whose puzzle it is
        x_input: (cells,) uint8 tokens
        answers: after each step, (steps, cells) uint8 tokens
        certainty: probability of these tokens, (steps, cells)
        halting: probability that the model gives to being solved, (steps,)
        y_true: the solution, (cells,) uint8, or None if it is not known; then nothing is wrong
    """

    task: Task
    x_input: np.ndarray
    answers: np.ndarray
    certainty: np.ndarray
    halting: np.ndarray
    y_true: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        task: Task,
        x_input: np.ndarray,
        frames: TrajectoryFrames,
        number: int = 0,
        y_true: np.ndarray | None = None,
    ) -> "Story":
        """Take one puzzle out of a batch."""
        return cls(
            task,
            x_input,
            frames.answers[:, number].numpy(),
            frames.certainty[:, number].numpy(),
            frames.halting[:, number].numpy(),
            y_true,
        )

    def wrong(self, step: int) -> np.ndarray:
        """Mark, as (cells,) bool, the cells that are not as in the solution."""
        if self.y_true is None:
            return np.zeros(len(self.x_input), dtype=bool)
        return (self.answers[step] != self.y_true) & (self.y_true != PAD)

    def title(self, step: int) -> str:
        """Say in two lines how far it is."""
        count, known = int(self.wrong(step).sum()), self.y_true is not None
        state = "" if not known else ": solved" if count == 0 else f": {count} wrong"
        return f"step {step + 1}{state}\nsays solved: {100 * self.halting[step]:.0f} %"


def draw(story: Story, path: Path) -> None:
    """Draw a story: as a GIF, the puzzle first, or as a PNG with the steps in a row.

    Raises:
        InputError: another ending, or a file that cannot be written
    """
    kind = path.suffix.lower()
    if kind not in (".gif", ".png"):
        raise InputError(f"{path} must end in .png or .gif")
    frames = [_strip(story)] if kind == ".png" else [_frame(story, step) for step in _told(story)]
    with written_whole(path) as file:
        if kind == ".png":
            frames[0].save(file, format="PNG", optimize=True)
            return
        still = [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS]
        frames[0].save(
            file, format="GIF", save_all=True, append_images=frames[1:], duration=still, loop=0
        )


def _told(story: Story) -> list[int | None]:
    """Choose the frames of a GIF: the puzzle (None), and the steps that it is told by."""
    steps = list(range(len(story.answers)))
    if len(steps) > _MOST_FRAMES:
        changed = (story.answers[1:] != story.answers[:-1]).any(1)
        steps = [0, *(np.flatnonzero(changed) + 1).tolist()]
    if len(steps) > _MOST_FRAMES:
        chosen = np.unique(np.linspace(0, len(steps) - 1, _MOST_FRAMES).round().astype(int))
        steps = [steps[place] for place in chosen]
    return [None, *steps]


def _strip(story: Story) -> Image.Image:
    """Draw the puzzle and its answers beside each other."""
    count = len(story.answers)
    steps = range(count) if count <= _MOST_PANELS else [k - 1 for k in doubling(count)]
    rows, columns = _window(story)
    panels = len(steps) + 1
    across = min(panels, 5)
    down = -(-panels // across)
    width, height = 2.4, 2.4 * rows / columns + 0.4
    figure = Figure(figsize=(width * across, height * down + 0.25), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    _draw_grid(axes[0], story, None)
    axes[0].set_title("puzzle\n", fontsize=9)
    for place, step in zip(axes[1:], steps, strict=False):
        _draw_grid(place, story, step)
        place.set_title(story.title(step), fontsize=9)
    for place in axes[panels:]:
        place.set_axis_off()
    figure.supxlabel(_LEGEND, fontsize=8)
    return _image(figure)


def _frame(story: Story, step: int | None) -> Image.Image:
    """Draw one frame of the GIF: the puzzle, or the answer after a step."""
    rows, columns = _window(story)
    figure = Figure(figsize=(3.6, 3.6 * rows / columns + 0.9), layout="constrained")
    axes = figure.subplots()
    _draw_grid(axes, story, step)
    axes.set_title("puzzle\n" if step is None else story.title(step), fontsize=10)
    figure.supxlabel(_LEGEND, fontsize=8)
    return _image(figure).quantize(64)


def _image(figure: Figure) -> Image.Image:
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _draw_grid(axes: Axes, story: Story, step: int | None) -> None:
    """Draw the answer after a step, or the puzzle if it is None."""
    task, (rows, columns) = story.task, _window(story)
    tokens = story.x_input if step is None else story.answers[step]
    clues = task.given(story.x_input) & (tokens == story.x_input)
    wrong = np.zeros_like(clues) if step is None else story.wrong(step)
    for row in range(rows):
        for column in range(columns):
            cell = row * task.grid_shape[1] + column
            sure = 1.0 if step is None or clues[cell] else float(story.certainty[step, cell])
            _draw_cell(axes, task, int(tokens[cell]), row, column, sure, bool(clues[cell]))
    for number in np.flatnonzero(wrong).tolist():
        row, column = divmod(number, task.grid_shape[1])
        if row < rows and column < columns:
            _mark(axes, row, column)
    _draw_lines(axes, task, rows, columns)


def _draw_cell(
    axes: Axes, task: Task, token: int, row: int, column: int, sure: float, clue: bool
) -> None:
    """Draw a cell: the less sure, the yellower, and the smaller the square of a coloured one."""
    symbol, colour = task.face(token)
    ground = tuple(1 - (1 - sure) * (1 - _UNSURE))
    plain = _CLUE if clue and colour is None else ground
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=plain, linewidth=0))
    if colour is not None:
        side = max(sure, 0.0) ** 0.5
        corner = column + (1 - side) / 2, row + (1 - side) / 2
        axes.add_patch(Rectangle(corner, side, side, facecolor=colour, linewidth=0))
    if symbol:
        weight = "bold" if clue else "normal"
        size = 90 / max(task.grid_shape)
        place = column + 0.5, row + 0.53
        axes.text(*place, symbol, ha="center", va="center", fontsize=size, fontweight=weight)


def _mark(axes: Axes, row: int, column: int) -> None:
    """Frame a wrong cell and cut its corner."""
    frame = Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, fill=False, edgecolor=_WRONG)
    frame.set_linewidth(1.6)
    axes.add_patch(frame)
    corner = [(column + 0.6, row + 0.06), (column + 0.94, row + 0.06), (column + 0.94, row + 0.4)]
    axes.add_patch(Polygon(corner, facecolor=_WRONG, linewidth=0))


def _draw_lines(axes: Axes, task: Task, rows: int, columns: int) -> None:
    boxes = task.boxes or (rows, columns)
    for count, every, line in ((rows, boxes[0], axes.axhline), (columns, boxes[1], axes.axvline)):
        for k in range(count + 1):
            thick = k % every == 0 or k == count
            line(k, color="black" if thick else "#AAAAAA", linewidth=1.4 if thick else 0.4)
    axes.set_xlim(-0.02, columns + 0.02)
    axes.set_ylim(rows + 0.02, -0.02)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _window(story: Story) -> tuple[int, int]:
    """Return the rows and columns worth showing."""
    shown: Sequence[np.ndarray] = [story.x_input, *story.answers]
    shown = shown if story.y_true is None else [*shown, story.y_true]
    sizes = [story.task.extent(tokens) for tokens in shown]
    return max(rows for rows, _ in sizes), max(columns for _, columns in sizes)
