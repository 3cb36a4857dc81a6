"""Cross-entropies: under which function of its logits a model's answers are probabilities."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from trm.support.errors import check_choice

AnswerLoss = Callable[[Tensor, Tensor], Tensor]


def stablemax_cross_entropy(y_hat: Tensor, y_true: Tensor) -> Tensor:
    """Cross-entropy under stable-max, ``s(x) / Σ s(x)`` with ``s(x) = x + 1`` or ``1 / (1 − x)``.

    Prieto et al., arXiv 2501.04697. Computed as ``log(1 + wrong / right)`` from sums of ``s`` over
    the wrong tokens and over the right one: nothing cancels, so float32 is as good as the float64
    that the published code needs for the difference of two logarithms.

    Args:
        y_hat: logits, (..., vocab)
        y_true: tokens, (...) int64

    Returns:
        one loss per cell, (...), float32 or wider
    """
    s = _stable(y_hat)
    token = y_true.unsqueeze(-1)
    right = s.gather(-1, token).squeeze(-1)
    wrong = s.scatter(-1, token, 0).sum(-1)
    return torch.log1p(wrong / right)


def _stable(y_hat: Tensor) -> Tensor:
    """Return ``s`` of stable-max."""
    x = y_hat.to(torch.promote_types(y_hat.dtype, torch.float32))
    # clamp keeps the branch not taken finite, for its gradient would be NaN otherwise
    return torch.where(x < 0, 1 / (1 - x.clamp(max=0)), x + 1)


def probabilities(name: str, y_hat: Tensor) -> Tensor:
    """Return the probabilities of all tokens under an answer loss, (..., vocab)."""
    if name == "softmax":
        return y_hat.float().softmax(-1)
    s = _stable(y_hat)
    return s / s.sum(-1, keepdim=True)


def softmax_cross_entropy(y_hat: Tensor, y_true: Tensor) -> Tensor:
    """Plain cross-entropy; arguments and result as for ``stablemax_cross_entropy``."""
    logits = y_hat.to(torch.promote_types(y_hat.dtype, torch.float32)).flatten(0, -2)
    return F.cross_entropy(logits, y_true.flatten(), reduction="none").view_as(y_true)


_ANSWER_LOSSES: dict[str, AnswerLoss] = {
    "stablemax": stablemax_cross_entropy,
    "softmax": softmax_cross_entropy,
}


def answer_loss(name: str) -> AnswerLoss:
    """Look up an answer loss by its config name.

    Raises:
        InputError: unknown name
    """
    check_choice(_ANSWER_LOSSES, "train.", loss=name)
    return _ANSWER_LOSSES[name]
