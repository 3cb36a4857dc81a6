"""EMA of the weights, by Lightning's own interface."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trm.support.errors import InputError
from trm.training.guards import check_lag


class EMA(WeightAveraging):
    """Exponential moving average of the parameters after every optimizer step.

    The averaged weights are the ones validated, saved as ``state_dict`` and left in the model
    after training. Differs from Lightning's own EMA callback in three ways: buffers are not
    averaged, the average starts *at* the initial weights (the first update does not overwrite
    them, as in the published code), and loading a checkpoint for testing keeps the average.

    Args:
        decay: per optimizer step
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"ema.decay={decay} must lie in [0, 1); ema=null turns the EMA off")
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.decay = decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None and stage == "fit":
            self._average_model.n_averaged.fill_(1)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Only now has the strategy moved and cast the model, of which setup took a copy.
        assert self._average_model is not None, "made by setup"
        for average, current in zip(
            self._average_model.module.parameters(), pl_module.parameters(), strict=True
        ):
            average.data = average.data.to(current)
        self._average_model.to(pl_module.device)
        check_lag(self.decay, trainer.max_steps)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
