"""AdamATan2, Muon for matrices, the learning-rate schedule, and several optimizers as one."""

from collections.abc import Callable, Iterable
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from trm.models.identifiers import IdentifierTable
from trm.support.errors import InputError


class AdamATan2(Optimizer):
    """Adam with ``atan2`` in place of the division (Everett et al., arXiv 2407.05872).

    The arithmetic is that of the kernel the published models were trained with, whose first bias
    correction stands *outside* the arctangent::

        p ← p · (1 − lr · weight_decay)
        m ← lerp(m, g, 1 − β1);  v ← lerp(v, g², 1 − β2)
        p ← p − lr / (1 − β1ᵗ) · atan2(m, √v / √(1 − β2ᵗ))

    There is no epsilon, and gradients of any scale give the same step. ``lr = 0`` is legal.

    Args:
        params: parameters or groups, as for every torch optimizer
        lr: learning rate
        betas: decay of the two moments
        weight_decay: decoupled, scaled by ``lr``
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(
                f"optimizer: lr={lr} and weight_decay={weight_decay} must not be negative, "
                f"betas={tuple(betas)} must lie in [0, 1)"
            )
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            grads = {p: p.grad for p in group["params"] if p.grad is not None}
            for p in grads:
                if not self.state[p]:
                    self.state[p] = {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}
            if grads:
                group["t"] = group.get("t", 0) + 1
                self._update(group, list(grads), list(grads.values()))
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        m = [self.state[p]["m"] for p in params]
        v = [self.state[p]["v"] for p in params]
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(m, grads, 1 - beta1)
        torch._foreach_lerp_(v, torch._foreach_mul(grads, grads), 1 - beta2)
        scale = torch._foreach_sqrt(v)
        torch._foreach_div_(scale, (1 - beta2 ** group["t"]) ** 0.5)
        size = group["lr"] / (1 - beta1 ** group["t"])
        for p, first, second in zip(params, m, scale, strict=True):  # atan2 has no foreach form
            p.sub_(torch.atan2(first, second), alpha=size)


def muon(
    params: Iterable[tuple[str, nn.Parameter]],
    lr: float = 0.02,
    momentum: float = 0.9,
    weight_decay: float = 0.01,
    adamw_lr: float = 3e-3,
    betas: tuple[float, float] = (0.9, 0.95),
    adamw_weight_decay: float = 0.1,
) -> "CompositeOptimizer":
    """Make Muon for the network's matrices (Jordan et al. 2024) and AdamW for everything else.

    Embeddings, heads, positions, vectors and kernels are AdamW's, as with everyone who reports
    gains with Muon. Updates of a matrix are scaled by ``sqrt(max(1, rows / columns))``.

    Args:
        params: named parameters of the model
        lr: learning rate of the matrices
        momentum: of Nesterov's kind, for the matrices
        weight_decay: of the matrices, decoupled
        adamw_lr: learning rate of the rest
        betas: of AdamW
        adamw_weight_decay: of the rest

    Raises:
        InputError: a network without matrices, or a value that either optimizer refuses
    """
    named = list(params)
    others = ("embedding", "head", "positions")
    matrices = [(n, p) for n, p in named if p.dim() == 2 and not any(word in n for word in others)]
    if not matrices:
        raise InputError("optimizer=muon is for matrices, and the network has none; take adamw")
    rest = [(name, p) for name, p in named if all(p is not matrix for _, matrix in matrices)]
    parts: list[Optimizer] = [
        Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="original")
    ]
    if rest:
        parts.append(AdamW(rest, lr=adamw_lr, betas=betas, weight_decay=adamw_weight_decay))
    return CompositeOptimizer(*parts)


class SignSGD(Optimizer):
    """Sign-SGD on the rows of an identifier table that the batch used (published code)."""

    def __init__(self, table: IdentifierTable, lr: float, weight_decay: float) -> None:
        super().__init__([{"params": []}], {"lr": lr, "weight_decay": weight_decay})
        self.table = table

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the rows read since the last step."""
        group = self.param_groups[0]
        self.table.update(group["lr"], group["weight_decay"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget rows that were read and not updated."""
        self.table.forget()


class CompositeOptimizer(Optimizer):
    """Several optimizers that step as one.

    Lightning counts ``global_step`` per optimizer: with two of them, steps, checkpoints and EMA
    would run at different clocks.
    """

    def __init__(self, *parts: Optimizer) -> None:
        groups = [group for part in parts for group in part.param_groups]
        super().__init__([{"params": [p for group in groups for p in group["params"]]}], {})
        self.parts = parts
        # The groups are the parts' own: a schedule that writes "lr" here reaches them.
        self.param_groups = groups

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step every part."""
        loss = _evaluate(closure)
        for part in self.parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of every part."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the parts' state dicts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        for part, saved in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(saved)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def without_moments(state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state dict as it would be before its first step.

    Learning rates stay as the schedule has set them.
    """
    if "parts" in state:
        return {"parts": [without_moments(part) for part in state["parts"]]}
    groups = [{k: v for k, v in group.items() if k != "t"} for group in state["param_groups"]]
    return {"state": {}, "param_groups": groups}


def _evaluate(closure: Callable[[], float] | None) -> float | None:
    """Call what torch lets ``step`` be given: a function that recomputes loss and gradients."""
    with torch.enable_grad():
        return None if closure is None else closure()


def lr_scale(step: int, warmup_steps: int, max_steps: int, min_ratio: float) -> float:
    """Return the share of the learning rate at a step (from 0).

    Linear warm-up that starts at ``1 / warmup_steps``, then a cosine that ends at ``min_ratio``
    after ``max_steps``; with ``min_ratio=1`` constant, as in the published recipes.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / max(max_steps - warmup_steps, 1), 1.0)
    return min_ratio + (1 - min_ratio) * (1 + cos(pi * progress)) / 2
