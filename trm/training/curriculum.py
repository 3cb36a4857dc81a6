"""Less recursion first (CGAR, arXiv 2511.08653)."""

from collections.abc import Sequence
from typing import Any, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from trm.models.trm import DeepRecursion
from trm.support.errors import InputError, check_between


class DepthCurriculum(Callback):
    """Recur less in the first parts of a run; validation and the finished model recur in full.

    What holds at a step is a function of its number, so a resumed run goes on as it would have.

    Args:
        until: shares of the run at which the stages end, rising
        n: of each stage; at most the model's own are taken
        T: of each stage, likewise

    Raises:
        InputError: stages that cannot be
    """

    def __init__(
        self,
        until: Sequence[float] = (0.3, 0.6),
        n: Sequence[int] = (2, 4),
        T: Sequence[int] = (1, 2),
    ) -> None:
        if not len(until) == len(n) == len(T) or list(until) != sorted(until):
            raise InputError(
                f"callbacks.depth_curriculum: until={list(until)} must rise and have as many "
                f"entries as n={list(n)} and T={list(T)}"
            )
        check_between(0, 1, "callbacks.depth_curriculum.", **{"until": min(until, default=0.0)})
        self.stages = list(zip(until, n, T, strict=True))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the model's own recursion.

        Raises:
            InputError: a model without one
        """
        model = pl_module.model
        if not isinstance(model, DeepRecursion):
            raise InputError(
                f"callbacks.depth_curriculum: {type(model).__name__} has no n and T; leave it out"
            )
        self.full = model.n, model.T

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the recursion of this step."""
        n, T = self.full
        done = trainer.global_step / trainer.max_steps
        for until, stage_n, stage_T in reversed(self.stages):
            if done < until:
                n, T = min(stage_n, self.full[0]), min(stage_T, self.full[1])
        self._set(pl_module, n, T)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *others: Any
    ) -> None:
        """Recur in full again, for validation and whatever else looks at the model."""
        self._set(pl_module, *self.full)

    def _set(self, module: LightningModule, n: int, T: int) -> None:
        model = cast(DeepRecursion, module.model)
        model.n, model.T = n, T
