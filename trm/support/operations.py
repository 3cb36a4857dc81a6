"""Counting the floating-point operations of matrix products, attention's and convolutions' too."""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

Product = tuple[int, int, int, int]  # so many products of (rows, inner) with (inner, columns)

_FLASH_PRODUCTS = {"forward": 2, "backward": 5}  # of attention that keeps no scores


class Products(TorchDispatchMode):
    """Counts the matrix products that are asked for while it is on.

    Those within attention and convolutions, too; the latter as products with unfolded neighbours.

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
        given = func(*args, **(kwargs or {}))
        if name == "convolution":
            self._convolved(given, args[1], groups=args[8], backward=False)
        elif name == "convolution_backward":
            self._convolved(args[0], args[2], groups=args[9], backward=True)
        return given

    def _convolved(self, output: Any, weight: Any, groups: int, backward: bool) -> None:
        """Count a convolution by its output, (batch, features, ...), and its weight."""
        features, fan_in = weight.shape[0], weight[0].numel()
        rows = output.numel() // features
        if not backward:
            self.counts[groups, rows, fan_in, features // groups] += 1
            return
        self.counts[groups, rows, features // groups, fan_in] += 1
        self.counts[groups, fan_in, rows, features // groups] += 1


def flops(products: Counter[Product]) -> int:
    """Count floating-point operations."""
    return sum(count * 2 * b * m * k * n for (b, m, k, n), count in products.items())
