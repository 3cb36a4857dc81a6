"""Counting the floating-point operations of matrix products, attention's too."""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

Product = tuple[int, int, int, int]  # so many products of (rows, inner) with (inner, columns)

_FLASH_PRODUCTS = {"forward": 2, "backward": 5}  # of attention that keeps no scores


class Products(TorchDispatchMode):
    """Counts the matrix products that are asked for while it is on, attention's too.

    Attributes:
        counts: how often each
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if name in ("mm", "addmm", "bmm", "baddbmm"):
            a, b = args[-2:]
            batch = a.shape[0] if a.dim() == 3 else 1
            self.counts[batch, a.shape[-2], a.shape[-1], b.shape[-1]] += 1
        elif name.startswith("_scaled_dot_product"):
            q = args[1] if "backward" in name else args[0]
            batch, heads, length, dim = q.shape
            products = _FLASH_PRODUCTS["backward" if "backward" in name else "forward"]
            scores = (batch * heads, length, dim, length)
            values = (batch * heads, length, length, dim)
            self.counts[scores] += products // 2
            self.counts[values] += products - products // 2
        return func(*args, **(kwargs or {}))


def flops(products: Counter[Product]) -> int:
    """Count floating-point operations."""
    return sum(count * 2 * b * m * k * n for (b, m, k, n), count in products.items())
