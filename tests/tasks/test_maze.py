import time
from collections import deque

import numpy as np
import pytest
import torch

from trm import InputError, Maze
from trm.data import generated
from trm.data.files import read_csv

TASK = Maze(4)


def rows(text: str) -> str:
    return text.replace("|", "")


OPEN = rows("S   | ## | #  |   G")
LABEL = rows("S   |o## |o#  |oooG")  # the search goes down first


def judged(y: str, x_input: str = OPEN, y_true: str = LABEL) -> dict[str, bool]:
    grids = [torch.from_numpy(TASK.encode(text)).long()[None] for text in (x_input, y, y_true)]
    return {name: bool(value) for name, value in TASK.judge(*grids).items()}


def breadth_first(maze: str, side: int) -> str:
    """The published labels' rule, as slowly as it is written down."""
    start, goal = maze.index("S"), maze.index("G")
    came_from, queue = {start: start}, deque([start])
    while queue:
        cell = queue.popleft()
        row, column = divmod(cell, side)
        for down, right in ((1, 0), (0, -1), (0, 1), (-1, 0)):
            i, j = row + down, column + right
            there = i * side + j
            inside = 0 <= i < side and 0 <= j < side
            if inside and maze[there] != "#" and there not in came_from:
                came_from[there] = cell
                queue.append(there)
    path, cell = list(maze), came_from[goal]
    while cell != start:
        path[cell], cell = "o", came_from[cell]
    return "".join(path)


@pytest.mark.parametrize(
    ("y", "true_of_it"),
    [
        ("S   |o## |o#  |oooG", {"exact", "valid", "optimal"}),
        ("Sooo| ##o| # o|   G", {"valid", "optimal"}),  # the other way round, as short
        ("S   | ## |o#  |oooG", set()),  # a gap
        ("S   | ## | #  |   G", set()),  # no path at all
        ("Sooo| ##o| # o|   o", set()),  # the goal is gone
        ("So  |o## |o#  |oooG", set()),  # a stray mark at the start
        ("S   |o## |o#o |oooG", set()),  # ... and on the way
        ("S   |oo# |o#  |oooG", set()),  # through a wall
    ],
)
def test_exact_valid_and_optimal(y, true_of_it):
    assert {name for name, value in judged(rows(y)).items() if value} == true_of_it


def test_a_valid_path_may_be_longer_than_the_shortest():
    task = Maze(3)
    x_input, y = (
        torch.from_numpy(task.encode(rows(text))).long()[None]
        for text in ("S G|   |   ", "S G|o o|ooo")
    )
    found = task.judge(x_input, y, x_input)
    assert found["valid"].item()
    assert not found["optimal"].item()


def test_a_ring_beside_the_path_is_not_valid():
    task = Maze(5)
    maze = "S G" + " " * 22
    ring = "SoG  " + " " * 5 + "ooo  " + "o o  " + "ooo  "
    x_input, y = (torch.from_numpy(task.encode(text)).long()[None] for text in (maze, ring))
    assert not task.is_valid(x_input, y).item()


@pytest.mark.parametrize("walls", [0.1, 0.35, 0.5])
def test_labels_are_those_of_a_breadth_first_search(walls):
    task = Maze(8)
    mazes, labels = task.generator(3, min_path=7, walls=walls)(60)
    for maze, label in zip(mazes, labels, strict=True):
        assert task.decode(label) == breadth_first(task.decode(maze), 8)
        assert task.explain(maze, label) is None
    lengths = task.path_cells(torch.from_numpy(mazes).long())
    assert lengths.min() >= 7
    assert len({maze.tobytes() for maze in mazes}) > 50


def test_the_generator_is_quick_and_a_function_of_its_seed():
    start = time.monotonic()
    mazes, _ = Maze(10).generator(0, min_path=18)(2000)
    assert time.monotonic() - start < 60
    assert (mazes == Maze(10).generator(0, min_path=18)(2000)[0]).all()
    assert (mazes != Maze(10).generator(1, min_path=18)(2000)[0]).any()
    with pytest.raises(InputError, match="min_path=1 must lie"):
        Maze(10).generator(0, min_path=1)
    with pytest.raises(InputError, match="hardly any random maze_10x10 has a path of 60"):
        Maze(10).generator(0, min_path=60)(1)


def count_shortest_paths(maze: str, side: int) -> int:
    """Breadth-first search that counts the ways to each cell."""
    start = maze.index("S")
    far, ways, queue = {start: 0}, {start: 1}, deque([start])
    while queue:
        here = queue.popleft()
        i, j = divmod(here, side)
        for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            there = a * side + b
            if not (0 <= a < side and 0 <= b < side) or maze[there] == "#":
                continue
            if there not in far:
                far[there], ways[there] = far[here] + 1, 0
                queue.append(there)
            if far[there] == far[here] + 1:
                ways[there] += ways[here]
    return ways.get(maze.index("G"), 0)


def test_unique_mazes_have_one_shortest_path():
    task = Maze(6)
    mazes, _ = task.generator(0, min_path=6, walls=0.4)(300)
    counts = [count_shortest_paths(task.decode(maze), 6) for maze in mazes]
    said = task.has_one_shortest_path(torch.from_numpy(mazes).long())
    assert said.tolist() == [count == 1 for count in counts]
    assert 30 < sum(said) < 270
    mazes, labels = task.generator(0, min_path=6, walls=0.4, unique=True)(100)
    assert task.has_one_shortest_path(torch.from_numpy(mazes).long()).all()
    # So turning the label and labelling the turned maze are the same.
    symmetry = task.symmetries(torch.arange(100))
    turned = symmetry(torch.from_numpy(mazes))
    assert task.shortest_path(turned).equal(symmetry(torch.from_numpy(labels)))


def test_symmetries_are_the_eight_of_the_square_and_keep_paths_optimal():
    task = Maze(6)
    mazes, labels = (
        torch.from_numpy(a).long() for a in task.generator(0, min_path=5, walls=0.3)(200)
    )
    keys = torch.arange(200)
    symmetry = task.symmetries(keys)
    turned = symmetry(mazes)
    assert turned[0].equal(mazes[0]), "key 0 is the identity"
    assert symmetry.inverse()(turned).equal(mazes)
    assert len({tuple(cells.tolist()) for cells in symmetry.cells}) == 8
    judged = task.judge(turned, symmetry(labels), symmetry(labels))
    assert all(value.all() for value in judged.values())
    classes = task.symmetry_class(mazes.numpy().astype(np.uint8))
    assert (classes == task.symmetry_class(turned.numpy().astype(np.uint8))).all()
    assert len(set(classes.tolist())) > 190


def test_splits_share_no_maze_up_to_symmetry():
    data = generated(Maze(6), train=60, val=20, test=20, min_path=6, walls=0.3)
    assert sum(data.manifest["shared_symmetry_classes"].values()) == 0
    assert "min_path 6, walls 0.3" in data.manifest["source"]
    with pytest.raises(InputError, match="data.clues is not an argument"):
        generated(Maze(6), train=2, val=2, test=2, clues=3)


ROW = f",{OPEN},{LABEL},7"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f",{OPEN.replace('S', ' ')},{LABEL},7", "the maze has 0 cells S instead of one"),
        (f",{OPEN.replace('##', 'GG')},{LABEL},7", "the maze has 3 cells G instead of one"),
        (",S###############,".replace("#,", "G,") + f"{LABEL},7", "there is no path from S to G"),
        (f",{OPEN},{OPEN},7", "the marks are not one unbroken path"),
        (f",{OPEN},{LABEL.replace('##', 'o#')},7", "row 2 column 2 is '#' in the maze but 'o'"),
        (f",{OPEN.replace('#', 'o', 1)},{LABEL},7", "neither wall nor open"),
        (f",{OPEN.strip()[:-1]},{LABEL},7", "has 15 cells, maze_4x4 needs 16"),
    ],
)
def test_bad_mazes_are_named_with_line_and_rule(tmp_path, row, said):
    path = tmp_path / "x.csv"
    path.write_text(f"source,question,answer,rating\n{ROW}\n{row}\n")
    with pytest.raises(InputError, match="line 3: ") as error:
        read_csv(path, TASK)
    assert said in str(error.value)


def test_cells_at_the_ends_of_a_line_may_be_spaces(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(
        "source,question,answer,rating\n" + rows(",  S| # | G ,") + rows("ooS|o# |oG ") + ",6\n"
    )
    puzzles = read_csv(path, Maze(3))
    assert Maze(3).decode(puzzles.x_input[0]) == rows("  S| # | G ")


def test_answers_are_drawn_with_what_they_may_not_change_marked():
    x_input = TASK.encode(OPEN)
    drawn = TASK.render(x_input, TASK.encode(LABEL)).plain
    assert drawn.count("· ") == 5
    assert "!" not in drawn
    assert "!o" in TASK.render(x_input, TASK.encode(LABEL.replace("#", "o", 1))).plain


def test_winding_mazes_have_long_paths_and_are_a_share():
    task = Maze(16)
    settings = {"min_path": 8, "walls": 0.33, "walls_to": 0.44}
    none, some, all_ = (
        task.path_cells(torch.from_numpy(task.generator(0, winding=w, **settings)(80)[0]).long())
        for w in (0.0, 0.5, 1.0)
    )
    assert all_.min() >= 1.8 * 16
    assert none.float().mean() < some.float().mean() < all_.float().mean()
    assert 40 <= (some >= 1.8 * 16).sum() < 60
    x_input, y = (torch.from_numpy(part).long() for part in task.generator(0, winding=1.0)(20))
    assert task.is_valid(x_input, y).all()
    walls = (torch.from_numpy(task.generator(0, **settings)(80)[0]) == 1).float().mean(1)
    assert walls.std() > 0.02, "each maze has a share of its own"


def test_mazes_of_other_sizes():
    assert Maze(10).of_size(49).side == 7
    assert Maze(10).of_size(50) is None
    with pytest.raises(InputError, match="walls_to"):
        Maze(10).generator(0, walls=0.4, walls_to=0.2)
    with pytest.raises(InputError, match=r"data\.winding=2"):
        Maze(10).generator(0, winding=2.0)
