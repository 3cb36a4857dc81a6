"""Which ARC tasks are asked, which validate, and which are trained on as a whole."""

import logging
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from trm.data.arc.built import BuiltArc
from trm.data.arc.files import WHOLE, ArcTask, Subsets, read_subset
from trm.support import counter_rng
from trm.support.errors import InputError

_TEST_SHARE = 0.1  # of a single subset, if nothing else is said

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArcSplit:
    """Tasks with their parts.

    Attributes:
        tasks: all, in the order of their identifiers
        roles: ``train``, ``val`` or ``test`` by name; see ``ArcBuilder.add``
        source: where they came from, for the manifest
        shared: test tasks that have a pair in common with tasks trained on as a whole
    """

    tasks: list[ArcTask]
    roles: dict[str, str]
    source: str
    shared: int


def split_subsets(
    subsets: Subsets,
    source: str,
    val_tasks: int,
    test_tasks: int | None,
    tasks: int | None,
    seed: int,
) -> ArcSplit:
    """Read subsets and give each task its part; see ``from_arc`` for the arguments.

    Raises:
        InputError: files that cannot be read, or too few tasks
    """
    if test_tasks is not None and not subsets.is_single:
        raise InputError(
            f"data.test_tasks={test_tasks} is of a single subset; here all of {subsets.test} is "
            f"asked, so leave it null"
        )
    read = {name: smallest(read_subset(subsets.folder, name), tasks) for name in subsets.train}
    asked = read[subsets.test]
    if subsets.is_single:
        everything = with_tests(asked, seed)
        asked = _drawn(everything, test_tasks, seed)
        name = "the whole folder" if subsets.test == WHOLE else subsets.test
        source += (
            f": {name} alone; tested on {len(asked)} of its {len(everything)} tasks, drawn with "
            f"seed {seed}"
        )
        _log.warning(f"warning: {source}")
    else:
        everything = {entry.name: entry for part in read.values() for entry in part.values()}
        asked = with_tests(asked, seed)
        everything |= asked  # ARC-AGI-2 has tasks of ARC-AGI-1: as test tasks they stay hidden
        source += f": {', '.join(subsets.train)}; tested on {subsets.test}"
        _tell_repeated(subsets, read)
    if without := sum(not task.questions for task in read[subsets.test].values()):
        source += f"; of {without} without a test one pair, drawn, is the test"
    return split_tasks(everything, asked, source, val_tasks, seed, subsets.test)


def split_built(
    built: BuiltArc, source: str, val_tasks: int, tasks: int | None, seed: int
) -> ArcSplit:
    """Keep the splits of a released folder, of each the smallest tasks, and hold out the third.

    Raises:
        InputError: too few tasks
    """
    asked = {name: built.tasks[name] for name in built.asked}
    others = {name: task for name, task in built.tasks.items() if name not in asked}
    kept = smallest(asked, tasks).keys() | smallest(others, tasks).keys()
    everything = {name: task for name, task in built.tasks.items() if name in kept}
    source += (
        f", built by build_arc_dataset.py: its splits and augmentations are kept, {val_tasks} of "
        f"its tasks validate by one pair each"
    )
    _log.warning(f"warning: {source}; data.train and data.test have no effect")
    tested = [name for name in everything if name in asked]
    # Which of their pairs were tests is not written there: one of each may validate.
    return split_tasks(with_tests(everything, seed), tested, source, val_tasks, seed)


def split_tasks(
    tasks: dict[str, ArcTask],
    asked: Iterable[str],
    source: str,
    val_tasks: int,
    seed: int,
    subset: str = "test",
) -> ArcSplit:
    """Hold tasks out for validation, and tell which of those asked are known to others.

    Raises:
        InputError: too few tasks outside of those asked
    """
    tested = dict.fromkeys(asked, "test")
    if mute := [name for name in tested if not tasks[name].questions]:
        raise InputError(
            f"task {mute[0]} has one pair and no test, so that nothing of it can be asked; give it "
            f"another pair or a test, or take it out of the subset that is tested on"
        )
    others = [task for name, task in tasks.items() if name not in tested]
    held_out = _held_out(others, val_tasks, seed)
    roles = dict.fromkeys(tasks, "train") | tested | dict.fromkeys(held_out, "val")
    shared = _shared((tasks[name] for name in tested), others)
    if shared:
        _log.warning(
            f"warning: {len(shared)} of {len(tested)} {subset} tasks share a pair with tasks "
            f"that are trained on as a whole ({', '.join(shared[:3])}, ...): memory may solve them"
        )
    return ArcSplit(list(tasks.values()), roles, source, len(shared))


def smallest(tasks: dict[str, ArcTask], count: int | None) -> dict[str, ArcTask]:
    """Keep the tasks whose largest grid is smallest, so many; None for all.

    Raises:
        InputError: fewer than one
    """
    if count is None:
        return tasks
    if count < 1:
        raise InputError(f"data.tasks={count} must be at least 1, or null for all")

    def cells(name: str) -> int:
        pairs = tasks[name].demonstrations
        return max(grid.size for pair in pairs for grid in pair)

    return {name: tasks[name] for name in sorted(tasks, key=cells)[:count]}


def with_tests(tasks: dict[str, ArcTask], seed: int) -> dict[str, ArcTask]:
    """Make one pair, drawn, the test of each task that has none and can spare one."""
    return {name: _with_test(task, seed) for name, task in tasks.items()}


def _with_test(task: ArcTask, seed: int) -> ArcTask:
    pairs = task.demonstrations
    if task.questions or len(pairs) < 2:
        return task
    number = int(counter_rng.below(counter_rng.key(seed, _numbers([task.name])), len(pairs)))
    question, answer = pairs[number]
    return ArcTask(task.name, pairs[:number] + pairs[number + 1 :], [question], [answer])


def _drawn(tasks: dict[str, ArcTask], count: int | None, seed: int) -> dict[str, ArcTask]:
    """Draw tasks to be asked, of known solutions if there are such."""
    askable = [name for name, task in tasks.items() if task.questions]
    solved = [name for name in askable if tasks[name].solutions] or askable
    wanted = max(1, round(_TEST_SHARE * len(tasks))) if count is None else count
    if not 1 <= wanted < len(solved):
        raise InputError(
            f"data.test_tasks={wanted} of a single subset with {len(solved)} tasks that can be "
            f"asked; ask 1 or more and leave 1 or more, or give more tasks"
        )
    order = counter_rng.key(seed, _numbers(solved)).argsort()
    return {solved[int(k)]: tasks[solved[int(k)]] for k in order[:wanted]}


def _held_out(tasks: list[ArcTask], count: int, seed: int) -> list[str]:
    solved = [task.name for task in tasks if task.solutions]
    if len(solved) <= count:
        enough = f"data.val_tasks={len(solved) // 4 or 1}"
        remedy = f"hold out fewer: {enough}" if len(solved) > 1 else "give two more of them"
        raise InputError(
            f"data.val_tasks={count} leaves nothing of the {len(solved)} tasks with solutions "
            f"outside the test subset; {remedy}"
        )
    order = counter_rng.key(seed, _numbers(solved)).argsort()
    return [solved[int(k)] for k in order[:count]]


def _numbers(names: list[str]) -> torch.Tensor:
    return torch.tensor([zlib.crc32(name.encode()) for name in names])


def _tell_repeated(subsets: Subsets, read: dict[str, dict[str, ArcTask]]) -> None:
    asked = read[subsets.test].keys()
    also = {name for part in subsets.train if part != subsets.test for name in read[part]} & asked
    if also:
        _log.warning(
            f"warning: {len(also)} of {len(asked)} {subsets.test} tasks are in other subsets as "
            f"well; here they are test tasks only, and their test pairs are not trained on"
        )


def _shared(tests: Iterable[ArcTask], others: list[ArcTask]) -> list[str]:
    """Return the test tasks that have a pair in common with the others."""
    known = {pair for task in others for pair in _pairs(task)}
    return [task.name for task in tests if any(pair in known for pair in _pairs(task))]


def _pairs(task: ArcTask) -> Iterator[tuple[bytes, ...]]:
    tests = zip(task.questions, task.solutions, strict=False)
    for pair in [*task.demonstrations, *tests]:
        yield tuple(bytes(grid.shape) + grid.tobytes() for grid in pair)
