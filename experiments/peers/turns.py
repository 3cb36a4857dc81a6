"""What the drivers share: the setting, the puzzles, and taking turns with the other processes.

This runs in the environments of the peers, so it knows numpy and torch alone.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

Answer = Callable[[Tensor], Tensor]  # from questions to answers, both (batch, cells) int64
GO = "go"


@dataclass(frozen=True)
class Setting:
    """What every driver is told; plain types.

    Attributes:
        puzzles: file of arrays, see ``Puzzles``
        dim: width
        layers: of the network
        n: latent recursions before each answer update
        T: recursion cycles, of which the last carries gradient
        N_sup: supervision steps per puzzle, at most in training, all of them in answering
        batch_size: puzzles per step
        expansion: of SwiGLU
        hidden_multiple: its widths are rounded up to it; the peers know 256 only
        lr: learning rate
        betas: of the moments
        weight_decay: decoupled
        warmup_steps: of the learning rate
        ema: decay of the averaged weights per step
        halt_exploration: probability that a puzzle goes on although it says solved
        vocab_size: number of tokens
        cells: of a grid
        precision: ``float32``, or ``bfloat16`` for autocast or what the peer has in its place
        seed: of the weights
        turns: how often the process has its turn
        steps: training steps of a turn
        answered: test puzzles answered at the end of a turn
        halts: whether puzzles that say solved leave a batch that is not filled up again
        checkout: folder of the released code
    """

    puzzles: str
    dim: int
    layers: int
    n: int
    T: int
    N_sup: int
    batch_size: int
    expansion: float
    hidden_multiple: int
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    warmup_steps: int
    ema: float
    halt_exploration: float
    vocab_size: int
    cells: int
    precision: str
    seed: int
    turns: int
    steps: int
    answered: int
    halts: bool
    checkout: str | None

    @property
    def max_steps(self) -> int:
        """Training steps of all turns."""
        return self.turns * self.steps

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products."""
        dtype: torch.dtype = getattr(torch, self.precision)
        return dtype

    def autocast(self) -> torch.autocast:
        """Make a context that casts if bfloat16 is wanted."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16)


class Puzzles:
    """The arrays that all share, as int64 tensors.

    Attributes:
        x_batches: questions of the training steps, (steps, batch, cells)
        y_batches: their answers
        x_test: test questions, (puzzles, cells)
        y_test: their answers
    """

    def __init__(self, setting: Setting) -> None:
        with np.load(setting.puzzles) as arrays:
            at = {name: torch.from_numpy(arrays[name]).long() for name in arrays.files}
        self.x_batches = at["x_batches"][: setting.max_steps]
        self.y_batches = at["y_batches"][: setting.max_steps]
        self.x_test, self.y_test = (at[name][: setting.answered] for name in ("x_test", "y_test"))


class Turns:
    """Stops after every turn of training, answers test puzzles, reports, and waits for the next.

    What is clocked is processor time: of one thread that is never interrupted it is the time on the
    clock, and on a machine that has other work to do it is that still, nearly.

    Args:
        setting: says how long a turn is
        puzzles: to be answered
        channel: a function that takes a report
    """

    def __init__(
        self, setting: Setting, puzzles: Puzzles, channel: Callable[[dict[str, Any]], None]
    ) -> None:
        self.setting, self.puzzles, self._say = setting, puzzles, channel
        self.taken = 0
        self._answering: Callable[[], AbstractContextManager[Answer]] | None = None
        self._since: float | None = None
        self._step_s: list[float] = []
        self._in_hand = 0

    @property
    def over(self) -> bool:
        """Whether all steps were taken."""
        return self.taken >= self.setting.max_steps

    def begin(
        self,
        parameters: int,
        answering: Callable[[], AbstractContextManager[Answer]],
        packages: tuple[str, ...] = (),
    ) -> None:
        """Say that training can start, and wait for the first turn.

        Args:
            parameters: of the model, the buffers aside
            answering: makes a context in which averaged weights answer puzzles
            packages: whose versions are to be told
        """
        self._answering = answering
        versions = {name: version(name) for name in ("torch", *packages)}
        self._say({"parameters": parameters, "versions": versions})
        self._wait()

    def stepped(self, in_hand: int) -> None:
        """Take note that a training step has ended; the very first is not clocked.

        Args:
            in_hand: puzzles that took it
        """
        if self._since is not None:
            self._step_s.append(time.process_time() - self._since)
        self.taken += 1
        self._in_hand += in_hand
        if self.taken % self.setting.steps == 0:
            self._report()
            if not self.over:
                self._wait()
        self._since = time.process_time()

    def _report(self) -> None:
        hits, spent = self._answers()
        self._say(
            {
                "steps": self.taken,
                "puzzles": self._in_hand,
                "ms_per_step": 1e3 * median(self._step_s),
                "train_s": sum(self._step_s),
                "answered_per_s": len(self.puzzles.x_test) / spent,
                "hits": hits,
                "answered": len(self.puzzles.x_test),
            }
        )
        self._step_s, self._in_hand = [], 0

    def _answers(self) -> tuple[int, float]:
        """Answer the test puzzles; return how many are right, and seconds."""
        assert self._answering is not None, "training began"
        hits, size = 0, self.setting.batch_size
        with self._answering() as answer, torch.inference_mode():
            start = time.process_time()
            for x, y in zip(
                self.puzzles.x_test.split(size), self.puzzles.y_test.split(size), strict=True
            ):
                hits += int((answer(x) == y).all(1).sum())
            return hits, time.process_time() - start

    def _wait(self) -> None:
        if sys.stdin.readline().strip() != GO:
            raise SystemExit  # who asked has gone


def drive(learn: Callable[[Setting, Puzzles, Turns], None]) -> None:
    """Run a driver: what it and its peer print goes to the log, the reports to standard output."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(report: dict[str, Any]) -> None:
        print(json.dumps(report), file=channel, flush=True)

    setting = Setting(**json.loads(sys.argv[1]))
    torch.set_num_threads(1)
    torch.manual_seed(setting.seed)
    puzzles = Puzzles(setting)
    learn(setting, puzzles, Turns(setting, puzzles, say))
