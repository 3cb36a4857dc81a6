"""What a multirun (``-m``) does beyond its jobs: none ends the others, and seeds are averaged."""

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from trm.report.fitting import Fitting


@dataclass
class Multirun:
    """The jobs of one command so far.

    Attributes:
        scores: what each job returned, by its overrides
        failures: what was wrong with each that failed, likewise
    """

    scores: list[tuple[tuple[str, ...], float]] = field(default_factory=list)
    failures: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    def job(
        self, overrides: Sequence[str], run: Callable[[], Any], say: Callable[[str], None]
    ) -> Any:
        """Run a job; what goes wrong with it is said and kept, and does not end the others.

        Args:
            overrides: of this job alone
            run: the job; a ``SystemExit`` is what it ends with after having said why
            say: prints a line of an error
        """
        what = tuple(overrides)
        try:
            value = run()
        except JobFailedError as failure:
            say(f"{' '.join(what)}: {failure}")
            self.failures.append((what, str(failure)))
            return math.nan
        except Exception as error:  # a fault of ours: the others may still be well
            traceback.print_exc()
            self.failures.append((what, f"{type(error).__name__}: {error}"))
            return math.nan
        if isinstance(value, int | float):
            self.scores.append((what, float(value)))
        return value

    def report(self) -> None:
        """Print what failed, and mean and standard deviation of jobs that differ in seed alone."""
        console = Console()
        groups: dict[tuple[str, ...], list[float]] = {}
        for what, score in self.scores:
            same = tuple(text for text in what if not text.startswith("seed="))
            groups.setdefault(same, []).append(score)
        if any(len(scores) > 1 for scores in groups.values()):
            table = Table(title="Over seeds", title_justify="left")
            for name in ("", "seeds", "mean ± sd"):
                table.add_column(name, justify="right" if name else "left")
            for same, scores in groups.items():
                spread = f" ± {100 * stdev(scores):.1f}" if len(scores) > 1 else ""
                value = f"{100 * mean(scores):.1f}{spread} %"
                table.add_row(" ".join(same) or "all", str(len(scores)), value)
            console.print(Fitting(table))
        if self.failures:
            jobs = len(self.failures) + len(self.scores)
            console.print(f"{len(self.failures)} of {jobs} jobs failed:", highlight=False)
            for what, problem in self.failures:
                console.print(f"  {' '.join(what)}: {problem}", highlight=False, markup=False)


class JobFailedError(Exception):
    """What is wrong with a job, in one line."""
