"""Sudoku puzzles with exactly one solution, made on the spot."""

import random
from collections.abc import Iterator
from itertools import islice

import numpy as np

from trm.support.errors import InputError

BLANK = 1  # token of an empty cell; digit d is token d + 1

_MAX_BRANCHES = 20_000  # a search this long is given up; a fresh start is faster on average
_LARGEST_MINIMAL = 9  # largest side for which the fewest clues are looked for
_MAX_ATTEMPTS = 200  # grids tried for one puzzle with the wanted number of clues


class _GaveUpError(Exception):
    """The search ran past ``_MAX_BRANCHES``."""


class SudokuGenerator:
    """Make and count solutions by depth-first search over the cell with the fewest candidates.

    The puzzles are a function of the box's sides and the seed.
    """

    def __init__(self, box_rows: int, box_cols: int, seed: int) -> None:
        size = self.size = box_rows * box_cols
        self._random = random.Random(seed)
        self._places = [
            (row, col, row // box_rows * box_rows + col // box_cols)
            for row in range(size)
            for col in range(size)
        ]

    def puzzle(self, clues: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Make one puzzle with exactly one solution.

        Args:
            clues: number of clues; None removes clues until none can be spared

        Returns:
            the puzzle and its solution, each (cells,) uint8 tokens

        Raises:
            InputError: no puzzle with so few clues was found in 200 grids
        """
        cells, name = len(self._places), f"a grid of side {self.size}"
        if clues is not None and not 0 < clues <= cells:
            raise InputError(f"clues={clues} is not between 1 and {cells} for {name}")
        if clues is None and self.size > _LARGEST_MINIMAL:
            raise InputError(
                f"clues=null, as few as possible, takes too long on {name}; name a number, "
                f"{cells // 2} or more to be quick"
            )
        for _ in range(_MAX_ATTEMPTS):
            try:
                solution = next(self.solutions([0] * cells))
                puzzle = self._remove_clues(solution, clues or 0)
            except _GaveUpError:
                continue
            if clues is None or cells - puzzle.count(0) == clues:
                return _tokens(puzzle), _tokens(solution)
        raise InputError(
            f"clues={clues}: {_MAX_ATTEMPTS} grids of side {self.size} gave no puzzle with so few "
            f"clues and one solution; ask for more clues"
        )

    def solutions(self, grid: list[int]) -> Iterator[list[int]]:
        """Yield the solutions of a grid (0 blank, digits from 1), in random order."""
        size = self.size
        full = (1 << size) - 1
        rows, cols, boxes = [full] * size, [full] * size, [full] * size
        grid = list(grid)
        blanks = []
        for cell, (row, col, box) in enumerate(self._places):
            if grid[cell] == 0:
                blanks.append(cell)
                continue
            bit = 1 << (grid[cell] - 1)
            if not rows[row] & cols[col] & boxes[box] & bit:
                return  # two equal clues see each other
            rows[row] ^= bit
            cols[col] ^= bit
            boxes[box] ^= bit
        branches = 0

        def search() -> Iterator[list[int]]:
            nonlocal branches
            if not blanks:
                yield list(grid)
                return
            branches += 1
            if branches > _MAX_BRANCHES:
                raise _GaveUpError
            fewest, best, free = size + 1, 0, 0
            for index, cell in enumerate(blanks):
                row, col, box = self._places[cell]
                candidates = rows[row] & cols[col] & boxes[box]
                if (count := candidates.bit_count()) < fewest:
                    fewest, best, free = count, index, candidates
                    if count <= 1:
                        break
            cell = blanks[best]
            blanks[best] = blanks[-1]
            blanks.pop()
            row, col, box = self._places[cell]
            for bit in self._bits(free):
                rows[row] ^= bit
                cols[col] ^= bit
                boxes[box] ^= bit
                grid[cell] = bit.bit_length()
                yield from search()
                rows[row] ^= bit
                cols[col] ^= bit
                boxes[box] ^= bit
            grid[cell] = 0
            blanks.append(cell)
            blanks[best], blanks[-1] = blanks[-1], blanks[best]

        yield from search()

    def count_solutions(self, grid: list[int], at_most: int = 2) -> int:
        """Count solutions, but stop at ``at_most``."""
        return sum(1 for _ in islice(self.solutions(grid), at_most))

    def has_solution(self, x_input: np.ndarray) -> bool | None:
        """Tell whether (cells,) tokens have a solution; None if the search is given up."""
        grid = (x_input.astype(int) - BLANK).tolist()
        try:
            return self.count_solutions(grid, at_most=1) > 0
        except _GaveUpError:
            return None

    def _remove_clues(self, solution: list[int], clues: int) -> list[int]:
        puzzle = list(solution)
        left = len(puzzle)
        for cell in self._random.sample(range(left), left):
            if left == clues:
                break
            puzzle[cell] = 0
            # A second solution must differ here, or the clue could not matter.
            if self._has_other_digit(puzzle, cell, solution[cell]):
                puzzle[cell] = solution[cell]
            else:
                left -= 1
        return puzzle

    def _has_other_digit(self, puzzle: list[int], cell: int, digit: int) -> bool:
        for other in range(1, self.size + 1):
            if other != digit:
                puzzle[cell] = other
                is_solvable = self.count_solutions(puzzle, at_most=1) > 0
                puzzle[cell] = 0
                if is_solvable:
                    return True
        return False

    def _bits(self, mask: int) -> list[int]:
        bits = [1 << digit for digit in range(self.size) if mask >> digit & 1]
        if len(bits) > 1:
            self._random.shuffle(bits)
        return bits


def _tokens(grid: list[int]) -> np.ndarray:
    return np.array(grid, dtype=np.uint8) + BLANK
