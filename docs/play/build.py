"""Build the page on which the shipped models think: ``python docs/play/build.py [FOLDER]``.

The folder holds all that the page needs, so that any static host can serve it, under any path.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trm.checkpoints.opening import open_for
from trm.export.formats import FILES, check_extra, write_step
from trm.export.step import example, supervision_step, y_and_z
from trm.inference.solver import Solver
from trm.serve import PAGE
from trm.support.command_line import command
from trm.support.errors import InputError
from trm.tasks import Maze, Sudoku
from trm.tasks.base import Task

SOURCES = Path(__file__).parent
RUNTIME = SOURCES / "node_modules" / "onnxruntime-web" / "dist"
WRITTEN = "index.html", "style.css", "icon.svg", "*.js", "*.txt"
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)

MODELS: dict[str, list[Task]] = {
    "sudoku": [Sudoku(2, 2), Sudoku(2, 3), Sudoku(3, 3)],
    "maze": [Maze(10), Maze(20), Maze(30)],
}
SUDOKUS = (  # box, clues (None: as few as can be), how many
    *(((2, 2), None, 2), ((2, 3), None, 2), ((3, 3), 40, 1), ((3, 3), 34, 1)),
    *(((3, 3), 27, 2), ((3, 3), None, 3)),
)
KNOWN = {  # for being hard
    "9×9, Arto Inkala 2012": (
        "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
    ),
    "9×9, Arto Inkala 2010": (
        "..53.....8......2..7..1.5..4....53...1..7...6..32...8..6.5....9..4....3......97.."
    ),
    "9×9, Golden Nugget": (
        ".......39.....1..5..3.5.8....8.9...6.7...2...1..4.......9.8..5..2....6..4..7....."
    ),
    "9×9, AI Escargot": (
        "1....7.9..3..2...8..96..5....53..9...1..8...26....4...3......1..4......7..7...3.."
    ),
}
MAZES = ((10, 12, 2), (20, 25, 2), (30, 40, 3))  # side, cells of the path at least, how many
QUICK = 16  # passes at most


@command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Build the page and print its folder."""
    parser = argparse.ArgumentParser(prog="docs/play/build.py", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=PAGE)
    folder = parser.parse_args(arguments).folder
    torch.set_num_threads(1)
    build(folder)
    print(folder)
    return 0


def build(folder: Path) -> None:
    """Write the page, the networks, the examples and the runtime into a folder.

    Raises:
        InputError: a package that is missing
    """
    check_extra("onnx")
    (folder / "models").mkdir(parents=True, exist_ok=True)
    copy_runtime(folder)
    models = {game: published(game, tasks, folder) for game, tasks in MODELS.items()}
    write_json(folder / "models.json", models)
    write_json(folder / "examples.json", examples())
    copy_sources(folder)  # last: a folder with a page in it is whole


def copy_sources(folder: Path) -> None:
    """Copy what is written by hand."""
    for pattern in WRITTEN:
        for file in SOURCES.glob(pattern):
            shutil.copy(file, folder)


def copy_runtime(folder: Path) -> None:
    """Copy ONNX Runtime's build for one thread of WebAssembly.

    Raises:
        InputError: npm has not fetched it
    """
    for name in RUNTIME_FILES:
        if not (RUNTIME / name).is_file():
            raise InputError(f"{RUNTIME / name} is missing; run npm ci --prefix {SOURCES}")
        shutil.copy(RUNTIME / name, folder)


def published(game: str, tasks: list[Task], folder: Path) -> dict[str, Any]:
    """Export a shipped model for several sizes and say what the page must know of it."""
    sizes = {}
    for task in tasks:
        opened = open_for(game, task.name, None)
        assert opened.task is not None, "open_for refuses otherwise"
        assert opened.trained.loss == "softmax", "the page knows no other probabilities"
        step = supervision_step(opened.model, opened.trained.halting, int8=False)
        write_step("onnx", step, example(step, opened.model, task.cells, 2), folder / "models")
        file, start = Path("models", f"{task.name}.onnx"), Path("models", f"{task.name}.start")
        (folder / "models" / FILES["onnx"]).replace(folder / file)
        state = y_and_z(opened.model, 1)
        features = torch.cat([part.flatten() for _, part in state.tensors()])
        (folder / start).write_bytes(features.numpy().astype("<f4").tobytes())
        sizes[task.grid_shape[0]] = {
            "side": task.grid_shape[0],
            "boxes": task.boxes,
            "file": file.as_posix(),
            "start": start.as_posix(),
            "N_sup": opened.trained.N_sup,
            "vocab_size": task.vocab_size,
            "shapes": {"y": state.y.shape[1:], "z": state.z.shape[1:]},
        }
    return {"parameters": opened.model.size, "sizes": sizes}


def examples() -> list[dict[str, Any]]:
    """Make puzzles, and order them by how long the models think about them."""
    groups = {"Settles quickly": [], "Takes more thought": [], "Needs the search": []}
    for game, makers in (("sudoku", sudokus()), ("maze", mazes())):
        solver = Solver.load(game)
        for task, x_input, label in makers:
            solution = solver.solve_tokens([x_input])[0]
            found = {
                "game": game,
                "side": task.grid_shape[0],
                "puzzle": drawn(task, x_input),
                "label": label,
                "passes": solution.steps,
            }
            place = 2 if solution.pins else int(solution.steps > QUICK)
            list(groups.values())[place].append(found)
    ordered = []
    for group, some in groups.items():
        some.sort(key=lambda found: found["passes"])
        ordered += [found | {"group": group} for found in some]
    return ordered


def sudokus() -> Iterator[tuple[Task, np.ndarray, str]]:
    """Yield puzzles with one solution each."""
    for box, clues, number in SUDOKUS:
        task = Sudoku(*box)
        for x_input in task.generator(0, clues)(number)[0]:
            yield task, x_input, f"{task.size}×{task.size}, {(x_input > task.blank).sum()} clues"
    for name, text in KNOWN.items():
        yield Sudoku(), Sudoku().encode(text), name


def mazes() -> Iterator[tuple[Task, np.ndarray, str]]:
    """Yield mazes like those that the model was trained on."""
    for side, min_path, number in MAZES:
        task = Maze(side)
        make = task.generator(0, min_path=min_path, walls=0.33, walls_to=0.44, winding=0.7)
        for x_input in make(number)[0]:
            cells = int(task.path_cells(torch.from_numpy(x_input).long()[None]))
            yield task, x_input, f"{side}×{side}, a way of {cells} cells"


def drawn(task: Task, x_input: np.ndarray) -> str:
    """Return the text of a puzzle: a maze in rows, whose spaces would get lost at their ends."""
    text = task.decode(x_input)
    if isinstance(task, Sudoku):
        return text
    rows = (text[first : first + task.side] for first in range(0, task.cells, task.side))
    return "\n".join(rows).replace(" ", ".")


def write_json(file: Path, content: Any) -> None:
    """Write in a compact form."""
    file.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
