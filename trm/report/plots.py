"""Plots, drawn without a screen and readable without colours."""

from collections.abc import Mapping, Sequence
from math import pi, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from trm.support.colours import PALETTE
from trm.support.files import written_whole

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # which say again what colours say

Curve = Sequence[tuple[float, float]]  # of x and y, both positive
Band = Sequence[tuple[float, float, float, float]]  # x, y, and the ends of an interval of y


def exponent(curve: Curve) -> float:
    """Return the slope of a straight line through the points on logarithmic axes."""
    x, y = np.log(np.array(curve, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def power_laws(panels: Mapping[str, Mapping[str, Curve]], ylabel: str, path: Path) -> None:
    """Draw curves on logarithmic axes, one panel for each quantity, with their exponents.

    ``panels`` maps labels of the x axis to curves by name; ``path`` is a PNG, here as below.
    """
    figure = Figure(figsize=(4 * len(panels), 3.6), layout="constrained")
    for axes, (label, curves) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for (name, curve), colour, marker in zip(curves.items(), PALETTE, _MARKERS, strict=False):
            x, y = zip(*curve, strict=True)
            legend = f"{name}, exponent {exponent(curve):.2f}"
            axes.plot(x, y, color=colour, marker=marker, label=legend)
        places = sorted({x for curve in curves.values() for x, _ in curve})
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    figure.axes[0].set_ylabel(ylabel)
    _write(figure, path)


def banded(
    panels: Mapping[str, Mapping[str, Band]],
    ylabel: str,
    path: Path,
    title: str,
    says: str = "",
) -> None:
    """Draw curves with intervals, one panel for each quantity; its axis counts in powers of two.

    ``panels`` maps labels of the x axis to curves by name; ``says`` is kept in the picture's
    description, here as below.
    """
    figure = Figure(figsize=(6 * len(panels), 4.2), layout="constrained")
    axes_row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (xlabel, curves) in zip(axes_row, panels.items(), strict=True):
        for (name, curve), colour, marker in zip(curves.items(), PALETTE, _MARKERS, strict=False):
            x, y, low, high = np.array(sorted(curve)).T
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
            axes.plot(x, y, color=colour, marker=marker, markersize=5, label=name)
            if len(x) == 1:
                axes.errorbar(x, y, np.stack([y - low, high - y]), color=colour, capsize=3)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(xlabel)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    axes_row[0].set_ylabel(ylabel)
    figure.suptitle(title)
    _write(figure, path, says)


class Dots(NamedTuple):
    """One row of ``dots``.

    Attributes:
        label: of the row
        claimed: another's number, or None
        runs: value and the ends of its interval, for each of ours
    """

    label: str
    claimed: float | None
    runs: Sequence[tuple[float, float, float]]


def dots(
    panels: Mapping[str, Sequence[Dots]], xlabel: str, path: Path, title: str, says: str
) -> None:
    """Draw runs as dots with intervals, their mean as a bar, and what others claim as a diamond.

    ``panels`` maps titles to rows, the first on top.
    """
    style = {"color": PALETTE[0], "markersize": 4, "linewidth": 1}
    most = max(map(len, panels.values()))
    across = min(len(panels), 2)
    down = -(-len(panels) // across)
    size = 6.4 * across, 0.6 + down * (1.0 + 0.42 * most)
    figure = Figure(figsize=size, layout="constrained")
    places = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in places[len(panels) :]:
        spare.set_axis_off()
    for axes, (name, rows) in zip(places, panels.items(), strict=False):
        for place, (_, claimed, runs) in enumerate(rows):
            if claimed is not None:
                axes.plot(claimed, place, "D", color=PALETTE[1], fillstyle="none", markersize=7)
            for shift, (value, low, high) in zip(_shifts(len(runs)), runs, strict=True):
                ends = [[max(0.0, value - low)], [max(0.0, high - value)]]
                axes.errorbar(value, place + shift, xerr=ends, fmt="o", **style)
            if len(runs) > 1:
                middle = sum(value for value, _, _ in runs) / len(runs)
                axes.plot([middle] * 2, [place - 0.34, place + 0.34], color=PALETTE[0])
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set(xlim=(-2, 102), ylim=(len(rows) - 0.5, -0.5), title=name, xlabel=xlabel)
        axes.grid(axis="x", alpha=0.3)
    ours = places[0].errorbar([], [], xerr=[], fmt="o", **style)
    legend = {"ours: each seed with its 95 % interval, bar: mean": ours}
    if any(row.claimed is not None for rows in panels.values() for row in rows):
        (theirs,) = places[0].plot([], [], "D", color=PALETTE[1], fillstyle="none")
        legend["the paper's, on its own benchmark"] = theirs
    figure.legend(
        list(legend.values()),
        list(legend),
        loc="outside lower center",
        ncols=across,
        frameon=False,
    )
    figure.suptitle(title)
    _write(figure, path, says)


def _shifts(n: int) -> list[float]:
    """Spread marks of one row around its middle."""
    return [0.16 * (i - (n - 1) / 2) for i in range(n)]


class Bubble(NamedTuple):
    """One circle of ``bubbles``.

    Attributes:
        label: beside it
        x: positive
        y: in percent
        size: its area, relative to the others
    """

    label: str
    x: float
    y: float
    size: float


def bubbles(
    circles: Sequence[Bubble], xlabel: str, ylabel: str, path: Path, says: str = ""
) -> None:
    """Draw circles on a logarithmic x axis; ``says`` is kept in the picture's description."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    largest = max(circle.size for circle in circles)
    for number, (label, x, y, size) in enumerate(circles):
        area = max(2000 * size / largest, 12)
        axes.scatter(x, y, area, color=PALETTE[number % len(PALETTE)])
        above = 8 + sqrt(area / pi) if number % 2 else -14 - sqrt(area / pi)
        axes.annotate(
            label, (x, y), (0, above), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set(xscale="log", xlabel=xlabel, ylabel=ylabel, ylim=(-18, 112), yticks=range(0, 101, 20))
    axes.margins(x=0.27)
    axes.grid(alpha=0.3)
    axes.set_title("the area of a circle is the number of parameters", fontsize=9)
    _write(figure, path, says)


def latent_paths(paths: Mapping[str, np.ndarray], solved: np.ndarray, path: Path) -> None:
    """Draw how states move from step to step, in the plane in which they spread the most (PCA).

    Args:
        paths: name to (steps, puzzles, features); one panel and one plane each
        solved: which puzzles were solved in the end, (puzzles,) bool
        path: PNG to write
    """
    figure = Figure(figsize=(4.6 * len(paths), 4.2), layout="constrained")
    axes_row = figure.subplots(1, len(paths), squeeze=False)[0]
    for axes, (name, states) in zip(axes_row, paths.items(), strict=True):
        plane, shares = _principal_plane(states)
        kinds = (("solved", solved, PALETTE[0], "o"), ("not solved", ~solved, PALETTE[1], "s"))
        for label, which, colour, marker in kinds:
            for walk in np.flatnonzero(which).tolist():
                axes.plot(*plane[:, walk].T, color=colour, linewidth=0.7, alpha=0.5)
            if which.any():
                end = plane[-1, which].T
                axes.scatter(*end, color=colour, marker=marker, s=22, label=f"{label}, at the end")
        axes.scatter(*plane[0].reshape(-1, 2).T, color="black", marker="x", s=14, label="step 1")
        first, second = (f"component {k + 1} ({100 * shares[k]:.0f} %)" for k in range(2))
        axes.set(title=name, xlabel=first, ylabel=second)
        axes.grid(alpha=0.3)
    axes_row[0].legend(fontsize=8, frameon=False)
    _write(figure, path)


def _principal_plane(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project (steps, puzzles, features) to (steps, puzzles, 2); also the components' shares."""
    flat = states.reshape(-1, states.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    left, sizes, _ = np.linalg.svd(flat, full_matrices=False)
    shares = sizes**2 / max((sizes**2).sum(), 1e-12)
    return (left[:, :2] * sizes[:2]).reshape(*states.shape[:2], 2), shares


def _write(figure: Figure, path: Path, says: str = "") -> None:
    metadata = {"Description": says} if says else None
    with written_whole(path) as file:
        figure.savefig(file, format="png", dpi=150, metadata=metadata)
