"""Mazes: the shortest way from S to G on a square grid."""

from itertools import count
from math import isqrt

import numpy as np
import torch
from rich.text import Text
from torch import Tensor

from trm.support import counter_rng
from trm.support.errors import InputError, check_between
from trm.tasks.base import MakePuzzles, Symmetry, Task

WALL, SPACE, START, GOAL, PATH = 1, 2, 3, 4, 5
_MOST = 1000  # rows and columns
_TRIED_AT_ONCE = 4096  # random mazes, of which few have a path that is long enough
_CELLS_AT_ONCE = 4_000_000  # of them together
_MOST_TRIES = 50  # times that many in a row without success before giving up
_WINDING_AT_ONCE = 1024  # random mazes that are to have winding paths
_WINDING_SIDES = 1.8, 3.5  # the least shortest path of a winding maze, in sides of the grid
_NEAR_THE_FARTHEST = 0.85  # of the longest way from one end is the least for the other
_LOOKS = {WALL: "██", SPACE: "  ", START: "S ", GOAL: "G ", PATH: "· "}


class Maze(Task):
    """Mark a shortest path from ``S`` to ``G`` over open cells.

    Text is row-major: ``#`` wall, space open, ``S``, ``G``, ``o`` path. The vocabulary is the
    released one, in this order from 1, with PAD 0. There is no outer wall.

    A maze has many shortest paths (every published one does), and the label is one of them: the
    one that a first-in-first-out breadth-first search from ``S`` finds with neighbours in the order
    down, left, right, up. So ``exact`` asks for that very path, ``valid`` for any unbroken one
    without stray marks, and ``optimal`` for one that is valid and as short as the shortest.

    Args:
        side: rows and columns

    Raises:
        InputError: a side below 2 or above 1,000
    """

    measures = ("exact", "valid", "optimal")

    def __init__(self, side: int = 30) -> None:
        check_between(2, _MOST, "task.", side=side)
        self.side = side
        self.name = f"maze_{side}x{side}"
        self.grid_shape = (side, side)
        self.vocab_size = 6
        self.symbols = {"#": WALL, " ": SPACE, "S": START, "G": GOAL, "o": PATH}

    def symmetries(self, keys: Tensor) -> Symmetry:
        """Rotate and reflect; a turned label is a shortest path, but maybe not the labelled one."""
        which = torch.where(keys == 0, 0, counter_rng.below(keys, 8))
        tokens = torch.arange(self.vocab_size, device=keys.device).expand(len(keys), -1)
        return Symmetry(self._turned(which), tokens)

    def symmetry_class(self, x_input: np.ndarray) -> np.ndarray:
        """Hash the eight forms of a maze and take the least: equal only for equivalent mazes."""
        grids = torch.from_numpy(np.ascontiguousarray(x_input)).long()
        place = counter_rng.mix(torch.arange(self.cells))
        turned = self._turned(torch.arange(8))
        forms = [counter_rng.mix(place ^ grids[:, form]).sum(1) for form in turned]
        return torch.stack(forms).min(0).values.numpy().view(np.uint64)

    def is_valid(self, x_input: Tensor, y: Tensor) -> Tensor:
        """Mark answers that keep the maze and mark one path, unbroken and without branches."""
        kept = ((y == x_input) | ((x_input == SPACE) & (y == PATH))).all(1)
        has_ends = ((x_input == START).sum(1) == 1) & ((x_input == GOAL).sum(1) == 1)
        has_ends &= ((x_input >= WALL) & (x_input <= GOAL)).all(1)  # and no path drawn in
        marked = self._grid((y == START) | (y == GOAL) | (y == PATH))
        neighbours = sum(side.int() for side in _neighbours(marked))
        expected = torch.where(self._grid(y == PATH), 2, 1)
        unbranched = (~marked | (neighbours == expected)).flatten(1).all(1)
        valid = kept & has_ends & unbranched
        rows = valid.nonzero()[:, 0]  # to follow a path takes as long as it is
        reached = distances(marked[rows], self._grid(y[rows] == START)) >= 0
        valid[rows] = (reached == marked[rows]).flatten(1).all(1)
        return valid

    def judge(self, x_input: Tensor, y: Tensor, y_true: Tensor) -> dict[str, Tensor]:
        """Add ``optimal``: valid, and as short as the shortest."""
        judged = super().judge(x_input, y, y_true)
        optimal = judged["valid"].clone()
        rows = optimal.nonzero()[:, 0]
        length = (y[rows] == PATH).sum(1) + 2
        optimal[rows] = length == self.path_cells(x_input[rows])
        return judged | {"optimal": optimal}

    def cost(self, y: Tensor) -> Tensor:
        """Count the marked cells of paths."""
        return (y == PATH).sum(1).float()

    def path_cells(self, x_input: Tensor) -> Tensor:
        """Count the cells of a shortest path, both ends included: (batch,) int64; 0 if none."""
        far = distances(self._grid(x_input != WALL), self._grid(x_input == START))
        return (torch.where(x_input == GOAL, far.flatten(1) + 1, 0)).amax(1).long()

    def has_one_shortest_path(self, x_input: Tensor) -> Tensor:
        """Mark, as (batch,) bool, the mazes in which no other path is as short as the shortest."""
        is_open, ends = self._grid(x_input != WALL), (START, GOAL)
        from_start, from_goal = (distances(is_open, self._grid(x_input == end)) for end in ends)
        length = self.path_cells(x_input)
        on_some = (from_start + from_goal).flatten(1) == length[:, None] - 1
        on_some &= (from_start >= 0).flatten(1)
        return (length > 0) & (on_some.sum(1) == length)  # one cell at each distance

    def shortest_path(self, x_input: Tensor) -> Tensor:
        """Return the label of (batch, cells) mazes that have a path, as int64 tokens.

        Breadth-first search with a queue reaches the cells of each distance in the order of their
        first paths, direction by direction; so its path is the first of all shortest ones, and a
        walk from S that takes the first direction closer to G finds it.
        """
        far = distances(self._grid(x_input != WALL), self._grid(x_input == GOAL))
        padded = torch.nn.functional.pad(far, (1, 1, 1, 1), value=-1).flatten(1)
        width = self.side + 2
        inner = torch.arange(width * width).view(width, width)[1:-1, 1:-1].flatten()
        here = inner.to(x_input.device)[(x_input == START).int().argmax(1)]
        steps = torch.tensor([width, -1, 1, -width], device=x_input.device)  # down left right up
        walked = torch.zeros_like(padded, dtype=torch.bool)
        left = padded.gather(1, here[:, None])
        for _ in range(int(left.max()) - 1):
            around = here[:, None] + steps
            closer = padded.gather(1, around) == left - 1
            there = around.gather(1, closer.int().argmax(1, keepdim=True))
            arrived = left <= 1
            here = torch.where(arrived[:, 0], here, there[:, 0])
            left = torch.where(arrived, left, left - 1)
            walked.scatter_(1, here[:, None], True)
        on_path = walked[:, inner.to(x_input.device)] & (x_input == SPACE)
        return torch.where(on_path, PATH, x_input.long())

    @property
    def aliases(self) -> dict[str, int]:
        """Take E for the goal, a dot for open, small letters and blocks as people draw them."""
        return {"E": GOAL, "e": GOAL, "s": START, "g": GOAL, ".": SPACE, "█": WALL}

    def can_be_puzzle(self, tokens: np.ndarray) -> bool:
        """Ask for one start and one goal; a row alone has hardly both."""
        return bool((tokens == START).sum() == 1 and (tokens == GOAL).sum() == 1)

    def undrawn(self, line: str) -> str:
        """Take every other sign of a drawing, whose cells are two signs wide, without the path."""
        if "██" not in line and "· " not in line:
            return line
        return line[::2].replace("·", " ")

    def of_size(self, cells: int) -> "Maze | None":
        """Return the maze with so many cells."""
        side = isqrt(cells)
        return Maze(side) if side * side == cells and 1 < side <= _MOST else None

    def explain(self, x_input: np.ndarray, y: np.ndarray | None = None) -> str | None:
        """Say which rule is broken first."""
        maze = torch.from_numpy(np.ascontiguousarray(x_input)).long()[None]
        for token, symbol in ((START, "S"), (GOAL, "G")):
            if (ends := int((maze == token).sum())) != 1:
                return f"the maze has {ends} cells {symbol} instead of one"
        if y is None:
            if (marked := np.flatnonzero((x_input == PATH) | (x_input == 0))).size:
                return f"{self.cell_name(int(marked[0]))} of the maze is neither wall nor open"
            return None if self.path_cells(maze) else "there is no path from S to G"
        for cell in np.flatnonzero(x_input != y).tolist():
            if x_input[cell] != SPACE or y[cell] != PATH:
                was, now = self.decode(x_input[[cell]]), self.decode(y[[cell]])
                return f"{self.cell_name(cell)} is {was!r} in the maze but {now!r} in the answer"
        answer = torch.from_numpy(np.ascontiguousarray(y)).long()[None]
        valid = bool(self.is_valid(maze, answer))
        return None if valid else "the marks are not one unbroken path from S to G without strays"

    def given(self, x_input: np.ndarray) -> np.ndarray:
        """Mark everything but open cells."""
        return x_input != SPACE

    def face(self, token: int) -> tuple[str, str | None]:
        """Return walls as dark cells and the path as dots."""
        symbol = "●" if token == PATH else super().face(token)[0]
        return ("", "#404040") if token == WALL else (symbol, None)

    def difficulty(self, x_input: np.ndarray) -> tuple[str, np.ndarray]:
        """Count the cells of a shortest path."""
        return "path cells", self.path_cells(torch.from_numpy(x_input).long()).numpy()

    def generator(
        self,
        seed: int,
        min_path: int = 18,
        walls: float = 0.35,
        walls_to: float | None = None,
        winding: float = 0.0,
        unique: bool = False,
    ) -> MakePuzzles:
        """Return a function that makes any number of random mazes, labelled as the published ones.

        Args:
            seed: the mazes are a function of it and the settings
            min_path: fewest cells of a shortest path, both ends included
            walls: share of wall cells
            walls_to: if given, every maze has a share of its own between ``walls`` and this
            winding: share of mazes whose ends lie about as far apart as they can, and 1.8 to 3.5
                sides of the grid at least; in Maze-Hard it is 3.8 on average, and few random
                pairs of cells lie so far apart
            unique: keep only mazes with one shortest path. Then exact and optimal are one, and the
                label of a turned maze is the turned label.
        """
        most_walls = walls if walls_to is None else walls_to
        if not 2 <= min_path <= self.cells or not 0 <= walls <= most_walls < 1:
            raise InputError(
                f"data.min_path={min_path} must lie between 2 and {self.cells}, "
                f"data.walls={walls} in [0, 1)"
                + ("" if walls_to is None else f", data.walls_to={walls_to} between it and 1")
            )
        check_between(0, 1, "data.", winding=winding)
        tries = count()

        def some(number: int, winds: bool) -> Tensor:
            """Make a number of mazes, all winding or none of them meant to be."""
            parts: list[Tensor] = []
            failed, left = 0, number
            while left:
                key = counter_rng.key(seed, next(tries))
                mazes = self._random(key, min_path, walls, most_walls, winds)
                mazes = mazes[self.has_one_shortest_path(mazes)] if unique else mazes
                # Those tried together wind equally; many of one kind would be the easiest to find.
                parts.append(mazes[: min(left, -(-number // 4)) if winds else left])
                left -= len(parts[-1])
                failed = 0 if len(parts[-1]) else failed + 1
                if failed == _MOST_TRIES:
                    raise InputError(
                        f"hardly any random {self.name} has a path of {min_path} cells at "
                        f"data.walls={walls}; lower data.min_path"
                    )
            return torch.cat(parts)

        def make(number: int) -> tuple[np.ndarray, np.ndarray]:
            winds = round(winding * number)
            counts = {False: number - winds, True: winds}
            mazes = torch.cat([some(count, winds) for winds, count in counts.items() if count])
            labels = self.shortest_path(mazes)
            return mazes.numpy().astype(np.uint8), labels.numpy().astype(np.uint8)

        return make

    def render(
        self, x_input: np.ndarray, y: np.ndarray | None = None, y_true: np.ndarray | None = None
    ) -> Text:
        """Draw the maze; ``!`` marks cells of an answer that are no longer what the maze has."""
        grid, text = x_input if y is None else y, Text()
        for cell, token in enumerate(grid.tolist()):
            if cell and cell % self.side == 0:
                text.append("\n")
            changed = token != x_input[cell] and (token, x_input[cell]) != (PATH, SPACE)
            if changed:
                text.append("!" + (self.decode(grid[[cell]]).strip() or "."), "bold red")
            else:
                text.append(_LOOKS.get(token, "? "), "bold green" if token == PATH else "")
        return text

    def _random(
        self, key: Tensor, min_path: int, walls: float, most_walls: float, winds: bool
    ) -> Tensor:
        """Make some random mazes and keep those whose path is long enough: (some, cells) int64."""
        at_once = _WINDING_AT_ONCE if winds else _TRIED_AT_ONCE
        tried = torch.arange(max(1, min(at_once, _CELLS_AT_ONCE // self.cells)))
        keys = counter_rng.key(key, tried[:, None], torch.arange(self.cells))
        share = walls + (most_walls - walls) * counter_rng.uniform(counter_rng.mix(keys[:, :1]))
        is_open = counter_rng.uniform(keys) >= share
        draw = counter_rng.mix(keys) & (2**62 - 1)
        start = torch.where(is_open, draw, -1).argmax(1)
        far, least = self._distances_from(is_open, start), torch.tensor(min_path)
        if winds:
            start = far.argmax(1)  # what lies far from one cell has the longest ways to others
            far = self._distances_from(is_open, start)
            short, long = _WINDING_SIDES
            cells = self.side * (short + (long - short) * counter_rng.uniform(counter_rng.mix(key)))
            least = torch.maximum(_NEAR_THE_FARTHEST * far.max(1, keepdim=True).values, cells)
            least = least.clamp(min=min_path)
        goal = torch.where(far >= least - 1, counter_rng.mix(draw) & (2**62 - 1), -1).max(1)
        turned = (start % 2 == 1) & winds  # a winding path begins at either end
        start, end = (
            torch.where(turned, *ends) for ends in ((goal.indices, start), (start, goal.indices))
        )
        mazes = torch.where(is_open, SPACE, WALL)
        mazes.scatter_(1, end[:, None], GOAL).scatter_(1, start[:, None], START)
        return mazes[goal.values >= 0]

    def _distances_from(self, is_open: Tensor, cell: Tensor) -> Tensor:
        """Count steps from one cell of each maze, (batch, cells)."""
        start = self._grid(_one_hot(cell, self.cells))
        return distances(self._grid(is_open), start).flatten(1)

    def _turned(self, which: Tensor) -> Tensor:
        """Return the cells that the image shows, (batch, cells), for elements 0 ... 7 of the group.

        The bits of the number say whether to transpose, and which axes to reverse.
        """
        place = torch.arange(self.cells, device=which.device)
        transposes, flips_rows, flips_columns = (
            (which[:, None] >> bit) & 1 == 1 for bit in range(3)
        )
        i, j = place // self.side, place % self.side
        row, column = torch.where(transposes, j, i), torch.where(transposes, i, j)
        row = torch.where(flips_rows, self.side - 1 - row, row)
        column = torch.where(flips_columns, self.side - 1 - column, column)
        return row * self.side + column

    def _grid(self, cells: Tensor) -> Tensor:
        return cells.unflatten(1, self.grid_shape)


def distances(is_open: Tensor, start: Tensor) -> Tensor:
    """Count steps over open cells from the start: (batch, rows, cols) int32; -1 if out of reach.

    Args:
        is_open: (batch, rows, cols) bool
        start: (batch, rows, cols) bool
    """
    far = torch.where(start, 0, -1).int()
    front = start
    for step in count(1):
        reached = torch.zeros_like(front)
        for side in _neighbours(front):
            reached |= side
        front = reached & is_open & (far < 0)
        if not front.any():
            break
        far = torch.where(front, step, far)
    return far


def _neighbours(marked: Tensor) -> list[Tensor]:
    """Return (batch, rows, cols) bool moved one cell down, up, right and left."""
    moved = [torch.zeros_like(marked) for _ in range(4)]
    moved[0][:, 1:], moved[1][:, :-1] = marked[:, :-1], marked[:, 1:]
    moved[2][:, :, 1:], moved[3][:, :, :-1] = marked[:, :, :-1], marked[:, :, 1:]
    return moved


def _one_hot(index: Tensor, size: int) -> Tensor:
    return torch.arange(size) == index[:, None]
