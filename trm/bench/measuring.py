"""What a training step costs, clocked in real runs, and where its time goes."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from lightning import Trainer

from trm.bench.ceiling import ceiling_at, square_ceiling
from trm.bench.clock import StepClock
from trm.bench.evaluating import EvaluationCost, batch_that_fits, step_flops, step_seconds
from trm.checkpoints.native import build_model, empty_model
from trm.data.puzzles import PuzzleData
from trm.data.sampler import Batch
from trm.support.devices import peak_memory, start_peak_memory
from trm.support.operations import Product, Products, flops
from trm.tasks.base import Task
from trm.training.assembly import averaging, data_module, precision, training_module
from trm.training.carry import Carry
from trm.training.checks import check_identifiers
from trm.training.config import TrainingConfig

_WARM_UP = 2  # steps at the start of a run that do not count
_FEWEST, _MOST = 3, 200  # steps clocked in a run


@dataclass(frozen=True)
class Subject:
    """One config to be measured.

    Attributes:
        name: for tables
        config: of ``train``
        task: of the config
        data: of the config, or puzzles that stand in for it
        device: where to run
        batch_size: puzzles per step; None for the config's, on a CPU at most what takes seconds
    """

    name: str
    config: TrainingConfig
    task: Task
    data: PuzzleData
    device: torch.device
    batch_size: int | None = None


@dataclass(frozen=True)
class Measurement(EvaluationCost):
    """What was measured of one config, in evaluation and in training.

    Attributes:
        step_s: seconds per training step, the median of each run
        flops: floating-point operations of a training step, attention included
        ceiling_at_shapes: as ``ceiling``, for the products of this very step, alone
        parts: share of a step that each part takes; they add up to 1
    """

    step_s: list[float]
    flops: int
    ceiling_at_shapes: float
    parts: dict[str, float]

    @property
    def median_s(self) -> float:
        """Seconds per training step."""
        return median(self.step_s)

    @property
    def share_of_ceiling(self) -> float:
        """Operations per second over those of a large product."""
        return self.flops / self.median_s / self.ceiling

    @property
    def share_at_shapes(self) -> float:
        """Operations per second over those of its own products alone."""
        return self.flops / self.median_s / self.ceiling_at_shapes

    def report(self) -> dict[str, Any]:
        """Return plain types for a JSON file."""
        derived = {
            "puzzles_per_s": self.batch_size / self.median_s,
            "share_of_ceiling": self.share_of_ceiling,
            "share_at_shapes": self.share_at_shapes,
        }
        return super().report() | derived


def measure(subjects: Sequence[Subject], rounds: int, seconds_each: float) -> list[Measurement]:
    """Train each config in turn, ``rounds`` times.

    Args:
        subjects: several are compared fairly, since all see the same moods of the machine
        rounds: runs of each
        seconds_each: to clock in each run

    Raises:
        InputError: a config that cannot be
    """
    clocked = [_Clocked(subject) for subject in subjects]
    for each in clocked:
        each.warm_up(seconds_each)
    for _ in range(rounds):
        for each in clocked:
            each.run()
    return [each.measurement() for each in clocked]


class _Clocked:
    """A config that trains for some steps whenever it is its turn."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.device = subject, subject.device
        task, data = subject.task, subject.data
        accelerator = {"cuda": "gpu"}.get(self.device.type, self.device.type)
        config = subject.config.changed("trainer", accelerator=accelerator)
        if config.counts_identifiers:
            config = config.changed("model", identifiers=data.identifiers)
        self.config = config
        self.empty = empty_model(config.model, task)
        torch.manual_seed(config.seed)
        model = build_model(config.model, task)
        check_identifiers(model, data)
        self.batch_size = self._batch_size()
        self.config = config = config.changed("train", batch_size=self.batch_size)
        self.module = training_module(config, task, model)
        self.data = data_module(config, task, data)
        self.products = self._products(self.batch_size)
        self.precision = str(precision(config.trainer))
        self.dtype = torch.bfloat16 if self.precision.startswith("bf16") else torch.float32
        self.steps = _FEWEST
        self.step_s: list[float] = []
        self.ceilings: list[float] = []
        self.parts: defaultdict[str, float] = defaultdict(float)
        self.clocked_s = 0.0
        self.peak = 0

    def warm_up(self, seconds_each: float) -> None:
        """Train once without counting, and find out how many steps fit."""
        clock = self._train(parts=False)
        self.steps = min(max(int(seconds_each / median(clock.step_s)), _FEWEST), _MOST)

    def run(self) -> None:
        """Train once, and once more with clocks in between if looking at them would disturb."""
        self.ceilings.append(square_ceiling(self.device, self.dtype))
        start_peak_memory(self.device)
        on_cpu = self.device.type == "cpu"
        clock = self._train(parts=on_cpu)
        self.peak = max(self.peak, peak_memory(self.device))
        self.step_s.append(median(clock.step_s))
        if not on_cpu:
            clock = self._train(parts=True)
        for name, spent in clock.parts.items():
            self.parts[name] += spent
        self.clocked_s += sum(clock.step_s)

    def measurement(self) -> Measurement:
        """Measure what does not change from run to run, and put everything together."""
        parts = {name: spent / self.clocked_s for name, spent in self.parts.items()}
        x_input = torch.ones(self.batch_size, self.subject.task.cells).to("meta", torch.int64)
        return Measurement(
            self.subject.name,
            self.device,
            self.module.model.size,
            self.batch_size,
            self._evaluation_s(),
            self.module.N_sup,
            step_flops(self.empty.eval(), x_input, x_input[:, 0]),
            median(self.ceilings),
            self.peak,
            self.step_s,
            flops(self.products),
            ceiling_at(self.products, self.device, self.dtype),
            parts | {"framework": 1 - sum(parts.values())},
        )

    def _batch_size(self) -> int:
        if self.subject.batch_size is not None:
            return self.subject.batch_size
        per_puzzle = flops(self._products(1))
        return batch_that_fits(self.config.train.batch_size, per_puzzle, self.device)

    def _products(self, batch_size: int) -> Counter[Product]:
        """Run a step on the device "meta", where nothing is computed, and count its products."""
        config = self.config.changed("train", compile="off")
        module = training_module(config, self.subject.task, self.empty)
        tokens = torch.ones(batch_size, self.subject.task.cells, dtype=torch.int64, device="meta")
        puzzles = Batch(tokens, tokens, tokens[:, 0])
        with Products() as products:
            carry = Carry.empty(puzzles, self.empty.initial_state(batch_size))
            _, loss = module.supervise(carry, tokens[:, 0])
            loss.total.sum().backward()
        return products.counts

    def _train(self, parts: bool) -> StepClock:
        clock = StepClock(self.device, _WARM_UP, parts)
        trainer = Trainer(
            accelerator=self.config.trainer.accelerator,
            devices=1 if self.device.index is None else [self.device.index],
            precision=self.precision,  # type: ignore[arg-type]
            max_steps=_WARM_UP + self.steps,
            limit_val_batches=0,
            callbacks=[clock, *averaging(self.config), clock.after],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        with clock.watching(self.module, self.data):
            trainer.fit(self.module, self.data)
        return clock

    def _evaluation_s(self) -> float:
        model = self.module.model.to(self.device).eval()
        puzzles = Batch.of(self.data.data.splits["train"][: self.batch_size], self.device)
        spent = step_seconds(model, puzzles.x_input, puzzles.puzzle_id, self.precision)
        return spent * self.batch_size / len(puzzles)
