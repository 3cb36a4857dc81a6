"""Pictures of a puzzle's answer as it changes from step to step: PNG and GIF."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

from trm.inference.evaluation import doubling
from trm.inference.frames import Story
from trm.support.colours import BLACK
from trm.support.errors import InputError
from trm.support.files import written_whole
from trm.tasks.base import Task
from trm.tasks.looks import THIN, WRONG, Look, lines

_MOST_PANELS = 8  # a longer trajectory is shown at steps 1, 2, 4, ... and the last
_LEGEND = "yellow: unsure   framed, with a corner: wrong"
_DPI = 110
_MOST_FRAMES = 24  # of a GIF; of a longer trajectory, steps that changed the answer
_FRAME_MS, _LAST_FRAME_MS = 900, 3000


def draw(story: Story, path: Path) -> None:
    """Draw a story: as a GIF, the puzzle first, or as a PNG with the steps in a row.

    Raises:
        InputError: another ending, or a file that cannot be written
    """
    kind = path.suffix.lower()
    if kind not in (".gif", ".png"):
        raise InputError(f"{path} must end in .png or .gif")
    told = [None, *story.told(_MOST_FRAMES)]  # the puzzle, and the steps that it is told by
    frames = [_strip(story)] if kind == ".png" else [_frame(story, step) for step in told]
    with written_whole(path) as file:
        if kind == ".png":
            frames[0].save(file, format="PNG", optimize=True)
            return
        still = [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS]
        frames[0].save(
            file, format="GIF", save_all=True, append_images=frames[1:], duration=still, loop=0
        )


def _strip(story: Story) -> Image.Image:
    """Draw the puzzle and its answers beside each other."""
    count = len(story.answers)
    steps = range(count) if count <= _MOST_PANELS else [k - 1 for k in doubling(count)]
    rows, columns = story.window
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
    rows, columns = story.window
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
    task, (rows, columns) = story.task, story.window
    looks, font_size = story.looks(step), 90 / max(task.grid_shape)
    shown = [(row, column) for row in range(rows) for column in range(columns)]
    for row, column in shown:
        _draw_cell(axes, looks[row * task.grid_shape[1] + column], row, column, font_size)
    for row, column in shown:  # on top of all cells
        if looks[row * task.grid_shape[1] + column].wrong:
            _mark(axes, row, column)
    _draw_lines(axes, task, rows, columns)


def _draw_cell(axes: Axes, look: Look, row: int, column: int, font_size: float) -> None:
    """Draw a cell: the less sure, the yellower, and the smaller the square of a coloured one."""
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=look.ground, linewidth=0))
    if look.colour is not None:
        corner = column + (1 - look.side) / 2, row + (1 - look.side) / 2
        square = Rectangle(corner, look.side, look.side, facecolor=look.colour, linewidth=0)
        axes.add_patch(square)
    if look.symbol:
        weight = "bold" if look.clue else "normal"
        place = column + 0.5, row + 0.53
        axes.text(
            *place, look.symbol, ha="center", va="center", fontsize=font_size, fontweight=weight
        )


def _mark(axes: Axes, row: int, column: int) -> None:
    """Frame a wrong cell and cut its corner."""
    frame = Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, fill=False, edgecolor=WRONG)
    frame.set_linewidth(1.6)
    axes.add_patch(frame)
    corner = [(column + 0.6, row + 0.06), (column + 0.94, row + 0.06), (column + 0.94, row + 0.4)]
    axes.add_patch(Polygon(corner, facecolor=WRONG, linewidth=0))


def _draw_lines(axes: Axes, task: Task, rows: int, columns: int) -> None:
    tall, wide = task.boxes or (None, None)
    for count, every, line in ((rows, tall, axes.axhline), (columns, wide, axes.axvline)):
        for k, thick in enumerate(lines(count, every)):
            line(k, color=BLACK if thick else THIN, linewidth=1.4 if thick else 0.4)
    axes.set_xlim(-0.02, columns + 0.02)
    axes.set_ylim(rows + 0.02, -0.02)
    axes.set_aspect("equal")
    axes.set_axis_off()
