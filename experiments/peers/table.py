"""The comparison as Markdown, from its result file."""

from collections.abc import Mapping
from itertools import accumulate
from statistics import median
from typing import Any

from experiments.formats import markdown
from experiments.peers.subjects import OURS, SUBJECTS
from trm.results.statistics import wilson

NAME = "peers_cpu"

_TOO_SHORT = "Nobody has learned to solve a puzzle in so few steps: of accuracy this says nothing."

Measured = Mapping[str, Any]


def rendered(result: Mapping[str, Any]) -> str:
    """Write speed, learning, and what they mean."""
    subjects: dict[str, Measured] = result["subjects"]
    return "\n".join([_speed(subjects), _learning(subjects), _note(result), _differences(subjects)])


def ratios(subjects: Mapping[str, Measured], name: str, key: str) -> list[float]:
    """Return ours over another's, round by round, in order of size."""
    mine, theirs = (subjects[who]["speed"][key] for who in (OURS, name))
    return sorted(a / b for a, b in zip(mine, theirs, strict=True))


def _speed(subjects: Mapping[str, Measured]) -> str:
    headings = ("", "parameters", "ms per step", "ours / this", "puzzles/s", "ours / this")
    rows = []
    for name, subject in SUBJECTS.items():
        found = subjects.get(name, {"failed": "not run"})
        if "failed" in found:
            rows.append([subject.label, found["failed"].replace("|", "/"), *["–"] * 4])
            continue
        row = [subject.label, f"{found['parameters']:,}"]
        for key, digits in (("ms_per_step", 0), ("answered_per_s", 1)):
            row.append(f"{median(found['speed'][key]):,.{digits}f}")
            row.append("1" if name == OURS else _range(ratios(subjects, name, key)))
        rows.append(row)
    return markdown(headings, rows)


def _range(values: list[float]) -> str:
    return f"**{median(values):.2f}** ({values[0]:.2f} – {values[-1]:.2f})"


def _learning(subjects: Mapping[str, Measured]) -> str:
    whole = {name: found["learning"] for name, found in subjects.items() if "learning" in found}
    steps = [turn["steps"] for turn in next(iter(whole.values()))]
    headings = ("exact % after training for", *(f"{count:,} steps" for count in steps))
    rows = []
    for name, turns in whole.items():
        seconds = accumulate(turn["train_s"] for turn in turns)
        cells = [
            f"{_percent(turn)} ({spent:,.0f} s)" for turn, spent in zip(turns, seconds, strict=True)
        ]
        rows.append([SUBJECTS[name].label, *cells])
    return markdown(headings, rows)


def _percent(turn: Mapping[str, Any]) -> str:
    return f"{100 * turn['hits'] / turn['answered']:.1f}"


def _note(result: Mapping[str, Any]) -> str:
    setting, made = result["setting"], result["certificate"]
    last = {
        name: found["learning"][-1]
        for name, found in result["subjects"].items()
        if "learning" in found
    }
    ends = []
    for name, turn in last.items():
        low, high = wilson(turn["hits"], turn["answered"])
        ends.append(f"{SUBJECTS[name].label} {100 * low:.1f} – {100 * high:.1f}")
    rounds = len(result["subjects"][OURS]["speed"]["ms_per_step"])
    answered = next(iter(last.values()))["answered"]
    sentences = (
        f"6×6 Sudoku; width {setting['dim']}, {setting['layers']} layers, n = {setting['n']}, "
        f"T = {setting['T']}, MLP over cells, batches of {setting['batch_size']}, "
        f"{setting['N_sup']} supervision steps, {setting['precision']}, one thread of "
        f"{made['processor']}, torch {made['torch']}, one seed.",
        "Milliseconds and seconds are processor time, which other work on the machine disturbs "
        "little.",
        f"Speed: medians of {rounds} rounds in which the processes take turns, one computing at a "
        "time; ratios are of each round, with their range. Less than 1 in ms per step and more "
        "than 1 in puzzles/s says that ours is faster.",
        "Learning: the same batches for all, in the same order, and "
        f"{answered:,} test puzzles answered by averaged weights after all supervision steps; in "
        "brackets seconds of training alone.",
        f"95 % intervals at the end: {'; '.join(ends)}.",
        "They hold for the puzzles, not for other seeds: one run of each does not tell which of "
        "several that are configured alike learns better.",
        *([] if any(turn["hits"] for turn in last.values()) else [_TOO_SHORT]),
        "What ours gains at its shipped recipe comes from narrower widths.",
    )
    return " ".join(sentences) + "\n"


def _differences(subjects: Mapping[str, Measured]) -> str:
    lines = [
        f"- {subject.label}: {subject.differs}."
        for name, subject in SUBJECTS.items()
        if name in subjects
    ]
    return "What differs:\n\n" + "\n".join(lines) + "\n"
