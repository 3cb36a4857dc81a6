"""What a supervision step costs in evaluation, of whatever model."""

from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from trm.bench.ceiling import seconds, square_ceiling
from trm.checkpoints.opening import Opened
from trm.data.sampler import Batch
from trm.data.stand_in import stand_in
from trm.models.recursion import RecursiveModel
from trm.support.devices import autocast, peak_memory, pick_precision, start_peak_memory
from trm.support.operations import Products, flops

_CPU_FLOPS = 6e11  # of a step on a CPU if no batch size is given: some seconds
_BATCH_SIZE = {"cpu": 64}  # by kind of device, as solvers have it


@dataclass(frozen=True)
class EvaluationCost:
    """What was measured of a model in evaluation.

    Attributes:
        name: of the config, or of the model
        device: where it ran
        parameters: of the network
        batch_size: puzzles per step
        evaluation_s: seconds per supervision step of the batch
        N_sup: supervision steps that an evaluation takes
        evaluation_flops: floating-point operations of a supervision step, attention included
        ceiling: operations per second of a large square product, the median over the runs
        peak_bytes: of the GPU's memory, or of the process's
    """

    name: str
    device: torch.device
    parameters: int
    batch_size: int
    evaluation_s: float
    N_sup: int
    evaluation_flops: int
    ceiling: float
    peak_bytes: int

    @property
    def evaluated_per_s(self) -> float:
        """Puzzles per second, each with all its supervision steps."""
        return self.batch_size / (self.evaluation_s * self.N_sup)

    @property
    def evaluation_share(self) -> float:
        """Operations per second over those of a large product."""
        return self.evaluation_flops / self.evaluation_s / self.ceiling

    def report(self) -> dict[str, Any]:
        """Return plain types for a JSON file."""
        return {
            **self.__dict__,
            "device": str(self.device),
            "evaluated_puzzles_per_s": self.evaluated_per_s,
            "evaluation_share_of_ceiling": self.evaluation_share,
        }


def evaluation_cost(
    name: str, opened: Opened, device: torch.device, batch_size: int | None, rounds: int
) -> EvaluationCost:
    """Measure a trained model on puzzles that stand in for its own.

    Args:
        name: for tables
        opened: with its task
        device: where to run
        batch_size: puzzles per step; None for 256, on a CPU 64 or what takes seconds
        rounds: how often to measure; medians count
    """
    assert opened.task is not None, "open_for refuses otherwise"
    model, precision = opened.model.to(device).eval(), pick_precision("auto", device)
    data = stand_in(opened.task, {"augmentations": 0})
    puzzles = Batch.of(data.splits["train"], device)
    rows = 1 if model.identifiers is None else len(model.identifiers.weights)
    x_input, puzzle_id = puzzles.x_input, puzzles.puzzle_id % rows
    per_puzzle = step_flops(model, x_input[:1], puzzle_id[:1])
    batch_size = batch_size or batch_that_fits(
        _BATCH_SIZE.get(device.type, 256), per_puzzle, device
    )
    places = torch.arange(batch_size, device=device) % len(x_input)
    x_input, puzzle_id = x_input[places], puzzle_id[places]
    dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float32
    ceilings, spent, peaks = [], [], []
    for _ in range(rounds):
        ceilings.append(square_ceiling(device, dtype))
        start_peak_memory(device)
        spent.append(step_seconds(model, x_input, puzzle_id, precision))
        peaks.append(peak_memory(device))
    return EvaluationCost(
        name,
        device,
        model.size,
        batch_size,
        median(spent),
        opened.trained.N_sup,
        step_flops(model, x_input, puzzle_id),
        median(ceilings),
        max(peaks),
    )


def batch_that_fits(wanted: int, per_puzzle: int, device: torch.device) -> int:
    """Return a batch size: what is wanted, but on a CPU no more than takes some seconds.

    Args:
        wanted: puzzles
        per_puzzle: floating-point operations of a step
        device: where to run
    """
    if device.type != "cpu":
        return wanted
    return min(wanted, 2 ** max(int(_CPU_FLOPS / per_puzzle), 1).bit_length() // 2)


@torch.no_grad()  # in inference mode operations would come here whole, and go uncounted
def step_flops(model: RecursiveModel, x_input: torch.Tensor, puzzle_id: torch.Tensor) -> int:
    """Count the floating-point operations of a supervision step, on the device "meta" also."""
    with Products() as products:
        model(x_input, puzzle_id, model.initial_state(len(x_input)))
    return flops(products.counts)


@torch.inference_mode()
def step_seconds(
    model: RecursiveModel, x_input: torch.Tensor, puzzle_id: torch.Tensor, precision: str
) -> float:
    """Time a supervision step, of a model in eval mode."""
    state = model.initial_state(len(x_input))
    with autocast(x_input.device, precision):
        return seconds(lambda: model(x_input, puzzle_id, state), x_input.device)
