"""How fast this machine multiplies matrices: what the speed of a training step is held against."""

import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from trm.support.devices import synchronize
from trm.support.operations import Product, flops

_SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}  # of square matrices
_AT_LEAST_S = 0.05  # a product is repeated for so long


def square_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the most operations per second that a large square product reaches."""
    sides = _SIDES.get(device.type, _SIDES["cpu"])
    return max(_speed((1, side, side, side), device, dtype) for side in sides)


def ceiling_at(products: Counter[Product], device: torch.device, dtype: torch.dtype) -> float:
    """Measure operations per second of these very products, one after the other and alone."""
    spent = 0.0
    for product, count in products.items():
        b, m, k, n = product
        spent += count * 2 * b * m * k * n / _speed(product, device, dtype)
    return flops(products) / spent


def _speed(product: Product, device: torch.device, dtype: torch.dtype) -> float:
    b, m, k, n = product
    one = torch.randn(b, m, k, device=device, dtype=dtype)
    other = torch.randn(b, k, n, device=device, dtype=dtype)
    return 2 * b * m * k * n / seconds(lambda: _multiply(one, other), device)


def _multiply(one: Tensor, other: Tensor) -> Tensor:
    return one[0] @ other[0] if len(one) == 1 else torch.bmm(one, other)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Time some work: the median of groups of repetitions, after a warm-up."""
    work()
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    repeats = max(1, int(_AT_LEAST_S / 5 / (time.perf_counter() - start)))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize(device)
        times.append((time.perf_counter() - start) / repeats)
    return median(times)
