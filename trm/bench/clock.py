"""Clocks around the parts of a training step, set up from outside."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from trm.support.devices import synchronize
from trm.training.module import DeepSupervision


class StepClock(Callback):
    """Times training steps from end to end, and what their parts take.

    Put it in front of the callback that averages weights, and ``after`` behind it.

    Args:
        device: waited for whenever a clock is read
        warm_up: steps that do not count
        parts: whether to look at parts; on a GPU looking slows the step down
    """

    def __init__(self, device: torch.device, warm_up: int, parts: bool) -> None:
        self.device, self.warm_up, self.looks = device, warm_up, parts
        self.after = _AfterAveraging(self)
        self.step_s: list[float] = []
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._begun: dict[str, float] = {}

    @property
    def parts(self) -> dict[str, float]:
        """Seconds that each part took, all counted steps together."""
        spent = self._spent
        return {
            "no-gradient cycles": spent["cycles"],
            "gradient cycle": spent["forward"] - spent["cycles"],
            "loss": spent["supervise"] - spent["forward"],
            "backward": spent["backward"],
            "optimizer": spent["optimizer"],
            "EMA": spent["EMA"],
            "data": spent["data"],
        }

    @contextmanager
    def watching(self, module: DeepSupervision, data: LightningDataModule) -> Iterator[None]:
        """Put clocks around data, supervision and forward pass; they are gone after the block."""
        with ExitStack() as clocks:
            if self.looks:
                model = module.model
                clocks.enter_context(self._clocked(data, "on_after_batch_transfer", "data"))
                if module.compiling == "max" and self.device.type == "cuda":
                    # A graph has no parts that could be clocked.
                    whole = self._clocked(module, "advance_recorded", "forward", "supervise")
                    clocks.enter_context(whole)
                    yield
                    return
                clocks.enter_context(self._clocked(module, "supervise", "supervise"))
                begun = model.register_forward_pre_hook(lambda *_: self.begin("forward"))
                ended = model.register_forward_hook(lambda *_: self.end("forward"))
                clocks.callback(begun.remove)
                clocks.callback(ended.remove)
                # A clock within what is compiled as a whole would break it in pieces.
                if module.compiling != "max" and hasattr(model, "latent_recursion"):
                    clocks.enter_context(self._clocked(model, "latent_recursion", "cycles"))
            yield

    def begin(self, part: str) -> None:
        """Start the clock of a part."""
        if self.looks:
            self._begun[part] = self._now()

    def end(self, part: str) -> None:
        """Stop it."""
        if self.looks:
            self._spent[part] += self._now() - self._begun[part]

    def end_step(self, step: int) -> None:
        """Stop the clock of a step and start the next one's."""
        now = self._now()
        if step > self.warm_up:
            self.step_s.append(now - self._begun["step"])
        else:
            self._spent.clear()
        self._begun["step"] = now

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(self._before_step)
            optimizer.register_step_post_hook(self._after_step)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        self.begin("backward")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.end("backward")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.begin("EMA")

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.begin("optimizer")

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.end("optimizer")

    @contextmanager
    def _clocked(self, owner: Any, name: str, *parts: str) -> Iterator[None]:
        """Shadow a method by one with a clock; cycles with gradient belong to another part."""
        method: Callable[..., Any] = getattr(owner, name)

        @wraps(method)
        def clocked(*args: Any, **kwargs: Any) -> Any:
            if parts == ("cycles",) and torch.is_grad_enabled():
                return method(*args, **kwargs)
            for part in parts:
                self.begin(part)
            try:
                return method(*args, **kwargs)
            finally:
                for part in parts:
                    self.end(part)

        setattr(owner, name, clocked)
        try:
            yield
        finally:
            delattr(owner, name)

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()


class _AfterAveraging(Callback):
    """Comes behind the averaging of weights, which is the last thing that a step does."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.clock.end("EMA")
        self.clock.end_step(batch_idx + 1)
