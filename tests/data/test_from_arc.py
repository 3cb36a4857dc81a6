import gzip
import json

import numpy as np
import pytest
import torch

from trm import Arc, InputError, Sudoku
from trm.data import Sampler, from_arc
from trm.data.arc.augmentations import distinct_augmentations
from trm.data.arc.files import ArcTask, read_subset
from trm.tasks.arc import COLOURS, augmented, crop, parsed_name


def pair(seed: int, colours: int = 10, side: int = 4) -> dict:
    grids = np.random.default_rng(seed).integers(0, colours, (2, side, side))
    return {"input": grids[0].tolist(), "output": grids[1].tolist()}


def task_of(seed: int, tests: int = 1) -> dict:
    return {
        "train": [pair(10 * seed), pair(10 * seed + 1)],
        "test": [pair(10 * seed + 5 + k) for k in range(tests)],
    }


def write(folder, subset: str, tasks: dict, packed: bool = False) -> None:
    """The Kaggle layout: outputs of the tests apart."""
    challenges = {
        name: {"train": task["train"], "test": [{"input": p["input"]} for p in task["test"]]}
        for name, task in tasks.items()
    }
    solutions = {name: [p["output"] for p in task["test"]] for name, task in tasks.items()}
    for kind, contents in (("challenges", challenges), ("solutions", solutions)):
        path, text = folder / f"arc-agi_{subset}_{kind}.json", json.dumps(contents)
        if packed:
            path.with_suffix(".json.gz").write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "training", {f"train{k}": task_of(k) for k in range(4)}, packed=True)
    write(tmp_path, "evaluation", {f"eval{k}": task_of(20 + k, tests=2) for k in range(3)})
    return tmp_path


def read(folder, **settings):
    known = {"train": ["training", "evaluation"], "augmentations": 5, "val_tasks": 1}
    return from_arc(Arc(), str(folder), **known | settings)


def test_test_outputs_of_the_evaluation_tasks_are_in_no_training_batch(folder):
    data = read(folder, augmentations=0)
    train = data.splits["train"]
    outputs = [p["output"] for k in range(3) for p in task_of(20 + k, tests=2)["test"]]
    sampler = Sampler(train, Arc(), 512, seed=0, augmentations=0)
    seen = set()
    for k in range(4):
        for canvas in sampler.batch(k).y_true.numpy().astype(np.uint8):
            coloured = canvas.reshape(30, 30) >= 2  # the grid may have been moved
            rows, columns = np.flatnonzero(coloured.any(1)), np.flatnonzero(coloured.any(0))
            grid = canvas.reshape(30, 30)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            seen.add(json.dumps((grid - 2).tolist()))
    assert not seen & {json.dumps(output) for output in outputs}
    # Demonstrations of all 7 tasks, test pairs of the 3 that neither test nor validate.
    assert len(train) == len(seen) == 7 * 2 + 3
    assert [len(data.splits[name]) for name in ("val", "test")] == [1, 6]


def test_examples_are_the_named_augmentations_of_their_pairs(folder):
    data = read(folder, augmentations=40)
    tasks = read_subset(folder, "training") | read_subset(folder, "evaluation")
    puzzles, names = data.votes.puzzles, data.votes.names
    x_input, y_true, identifiers = puzzles.on("cpu")(torch.arange(len(puzzles)))
    assert len(puzzles) == 6 * 41
    for x, y, identifier in zip(x_input, y_true, identifiers, strict=True):
        name, which, colours = parsed_name(names[int(identifier)])
        expected = [
            (
                augmented(question, which, colours).tolist(),
                augmented(answer, which, colours).tolist(),
            )
            for question, answer in zip(tasks[name].questions, tasks[name].solutions, strict=True)
        ]
        assert (crop(x.numpy()).tolist(), crop(y.numpy()).tolist()) in expected
    assert names[0] == "<blank>"
    assert len({*names}) == len(names) == data.identifiers == data.manifest["identifiers"]
    first = data.manifest["first_identifiers"]
    assert [names[number] for number in first.values()] == [*first]
    assert len(first) == sum(data.manifest["symmetry_classes"].values())


def test_question_and_answer_move_together_and_one_pair_stays(folder):
    train = read(folder, augmentations=30).splits["train"]
    x, y, identifier = train.on("cpu")(torch.arange(len(train)))
    corners = [
        [tuple(np.argwhere(canvas.reshape(30, 30) >= 2).min(0)) for canvas in canvases.numpy()]
        for canvases in (x, y)
    ]
    assert corners[0] == corners[1]
    moved = torch.tensor([corner != (0, 0) for corner in corners[0]])
    for number in identifier.unique():
        assert not moved[identifier == number].all(), "one pair of each augmented task stays"
    assert moved.float().mean() > 0.4
    again = train.on("cpu")(torch.arange(len(train)))
    assert again[0].equal(x), "a function of pair and identifier"


def grids(task: ArcTask) -> list:
    """All that may be seen of a task, in no order."""
    seen = [(question.tolist(), answer.tolist()) for question, answer in task.demonstrations]
    return sorted(seen + [(question.tolist(), None) for question in task.questions], key=str)


def under(task: ArcTask, which: int, colours: np.ndarray) -> str:
    def image(grid):
        return None if grid is None else augmented(grid, which, colours)

    demonstrations = [(image(a), image(b)) for a, b in task.demonstrations]
    return str(grids(ArcTask("", demonstrations, [image(q) for q in task.questions], [])))


def test_augmentations_are_different_ones_and_none_is_missed():
    # One colour in a symmetric figure: 9 colours x few turns.
    square = np.ones((2, 2), dtype=np.uint8)
    dot = np.array([[0, 1], [0, 0]], dtype=np.uint8)
    symmetric = ArcTask("a", [(square, square)], [square], [])
    lopsided = ArcTask("b", [(dot, square)], [dot], [])
    swapped = ArcTask("c", [(dot, square), (dot.T[::-1].copy(), square)], [square], [])
    for task, different in ((symmetric, 9), (lopsided, 9 * 4), (swapped, 9 * 4)):
        turn, colours = distinct_augmentations(task, 1000, seed=0)
        seen = {
            under(task, int(which), permutation.numpy())
            for which, permutation in zip(turn, colours, strict=True)
        }
        assert len(turn) == len(seen) == different
    turn, colours = distinct_augmentations(lopsided, 1000, seed=0)
    assert turn[0] == 0
    assert colours[0].tolist() == list(range(COLOURS))
    assert (colours[:, 0] == 0).all(), "black stays"
    assert len(distinct_augmentations(lopsided, 5, seed=0)[0]) == 6


def test_overlap_of_training_and_test_is_told(tmp_path, caplog):
    write(tmp_path, "training", {f"t{k}": task_of(k) for k in range(3)})
    write(tmp_path, "evaluation", {"other": task_of(1), "fresh": task_of(7)})
    data = read(tmp_path)
    assert data.manifest["shared_symmetry_classes"] == {"train and test": 1}
    assert "1 of 2 evaluation tasks share a pair" in caplog.text


def test_a_test_task_in_another_subset_stays_hidden(tmp_path, caplog):
    write(tmp_path, "training", {"both": task_of(1), "a": task_of(2), "b": task_of(3)})
    write(tmp_path, "evaluation", {"both": task_of(1)})
    data = read(tmp_path, augmentations=0)
    assert "1 of 1 evaluation tasks are in other subsets as well" in caplog.text
    assert data.manifest["shared_symmetry_classes"] == {"train and test": 0}
    assert data.manifest["symmetry_classes"] == {"train": 1, "val": 1, "test": 1}
    assert len(data.splits["train"]) == 3 * 2 + 1, "demonstrations, and one test pair"


def test_one_file_per_task_is_read_as_well(tmp_path):
    write(tmp_path, "training", {f"t{k}": task_of(k) for k in range(3)})
    (tmp_path / "evaluation").mkdir()
    for k in range(2):
        (tmp_path / "evaluation" / f"e{k}.json").write_text(json.dumps(task_of(9 + k)))
    assert list(read_subset(tmp_path, "evaluation")) == ["e0", "e1"]
    assert read(tmp_path).manifest["counts"]["test"] == 2


def test_a_challenge_without_solutions_can_be_asked(folder):
    (folder / "arc-agi_evaluation_solutions.json").unlink()
    data = read(folder)
    assert not data.splits["test"].y_true.any()
    assert data.votes.questions["eval0"][1] == []


def damage(**changes) -> dict:
    return task_of(1) | changes


GRID = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (damage(train=[]), "needs the lists 'train' and 'test'"),
        (damage(train=[{"input": GRID}]), "demonstration 1: has no 'output'"),
        (damage(train=[{"input": GRID, "output": [[1], [1, 2]]}]), r"rows have \[1, 2\] cells"),
        (damage(train=[{"input": [[10]], "output": GRID}]), "colour '10' must be 0 ... 9"),
        (damage(train=[{"input": [[True]], "output": GRID}]), "colour 'True' must be"),
        (damage(train=[{"input": [[0] * 31], "output": GRID}]), "1 x 31 cells; a side has at most"),
        (damage(train=[{"input": [[0] * 1000] * 1000, "output": GRID}]), "1000 x 1000 cells"),
        (damage(test=[{"input": []}]), "a grid is a list of rows"),
        (damage(test="all"), "needs the lists"),
        (5, "needs the lists"),
    ],
)
def test_bad_tasks_are_named_with_file_task_and_rule(tmp_path, task, said):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "bad.json").write_text(json.dumps(task))
    with pytest.raises(InputError, match=f"bad.json, task bad.*{said}"):
        read_subset(tmp_path, "training")


def test_solutions_that_do_not_match_their_challenges_are_refused(tmp_path):
    write(tmp_path, "training", {"a": task_of(1), "b": task_of(2)})
    path = tmp_path / "arc-agi_training_solutions.json"
    solutions = json.loads(path.read_text())
    for changed, said in (
        ({"a": solutions["a"]}, "task b is missing from the solutions"),
        (solutions | {"c": []}, "task c is missing from the challenges"),
        (solutions | {"a": []}, "task a: 0 solutions for 1 test inputs"),
        (solutions | {"a": [[[77]]]}, "task a, solution 1: colour '77'"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=said):
            read_subset(tmp_path, "training")


def test_settings_that_cannot_be_are_refused(folder):
    for settings, said in (
        ({"test": "other"}, "data.test=other is not among data.train"),
        ({"augmentations": -1}, "data.augmentations=-1"),
        ({"val_tasks": 4}, "data.val_tasks=4 leaves nothing of the 4 tasks"),
        ({"tasks": 0}, "data.tasks=0"),
        ({"train": ["nothing", "evaluation"]}, "holds neither arc-agi_nothing_challenges.json"),
    ):
        with pytest.raises(InputError, match=said):
            read(folder, **settings)
    with pytest.raises(InputError, match="take task=arc"):
        from_arc(Sudoku(), str(folder))
    with pytest.raises(InputError, match="data.path=null"):
        from_arc(Arc(), None)
