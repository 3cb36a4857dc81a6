"""Which share of a training step is not forward, loss, backward, optimizer or EMA?

    python -m experiments.framework_cost [experiment=sudoku_6x6] [key=value ...]

Trains on the CPU with a clock around each of these five parts, prints milliseconds per step. What
no part accounts for is the framework: drawing and augmenting batches, carry, metrics, Lightning.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

import hydra
import torch

from trm.commands import CONF
from trm.models import TinyRecursiveModel
from trm.train import run_training
from trm.training import module
from trm.training.ema import EMA
from trm.training.module import DeepSupervision
from trm.training.optimizers import AdamATan2

WARM_UP, STEPS = 20, 200
PARTS = ("forward", "loss", "backward", "optimizer", "EMA")

clock: defaultdict[str, float] = defaultdict(float)
measured: defaultdict[str, float] = defaultdict(float)


def timed(owner: Any, name: str, part: str) -> None:
    """Put a clock around a function or method."""
    original: Callable[..., Any] = getattr(owner, name)

    @wraps(original)
    def clocked(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            clock[part] += time.perf_counter() - start

    setattr(owner, name, clocked)


def watch_steps() -> None:
    """Start the clock after the warm-up and read it after the last step."""
    first, last = DeepSupervision.on_train_batch_start, DeepSupervision.on_train_batch_end

    def start(self: DeepSupervision, batch: Any, batch_idx: int) -> Any:
        if self.global_step == WARM_UP:
            clock.clear()
            clock["start"] = time.perf_counter()
        return first(self, batch, batch_idx)

    def end(self: DeepSupervision, outputs: Any, batch: Any, batch_idx: int) -> None:
        last(self, outputs, batch, batch_idx)
        if self.global_step == WARM_UP + STEPS:  # the validation that follows does not count
            total = time.perf_counter() - clock.pop("start")
            measured.update(clock, total=total)

    DeepSupervision.on_train_batch_start = start  # type: ignore[method-assign]
    DeepSupervision.on_train_batch_end = end  # type: ignore[method-assign]


def main() -> None:
    """Train and print the table."""
    timed(TinyRecursiveModel, "forward", "forward")
    timed(module, "step_loss", "loss")
    timed(DeepSupervision, "manual_backward", "backward")
    timed(torch.optim.AdamW, "step", "optimizer")
    timed(AdamATan2, "step", "optimizer")
    timed(EMA, "on_train_batch_end", "EMA")
    watch_steps()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        settings = {
            "trainer.accelerator": "cpu",
            "trainer.max_steps": WARM_UP + STEPS,
            "trainer.val_check_interval": 10**6,
            "test.limit": 0,
            "run_dir": tempfile.mkdtemp(),
        }
        overrides = [f"{key}={value}" for key, value in settings.items()]
        cfg = hydra.compose("train", overrides + sys.argv[1:])
    run_training(cfg)
    total = measured["total"]
    rest = total - sum(measured[part] for part in PARTS)
    for name, seconds in [*((part, measured[part]) for part in PARTS), ("rest", rest)]:
        print(f"{name:10} {1e3 * seconds / STEPS:8.2f} ms  {100 * seconds / total:5.1f} %")
    print(f"{'step':10} {1e3 * total / STEPS:8.2f} ms")


if __name__ == "__main__":
    main()
