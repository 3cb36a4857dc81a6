"""Making a training step faster without changing what it computes."""

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import nn

from trm.models.recursion import RecursiveModel
from trm.models.trm import DeepRecursion
from trm.support.errors import InputError
from trm.support.operations import Products, flops

Compiling = Literal["auto", "off", "default", "max"]

# From so many operations in all, compiling pays on a CPU: it saves about a tenth of the time, and
# two cores need half an hour for them.
LONG_RUN = 2e14


def training_flops(model: RecursiveModel, batch_size: int, cells: int) -> int:
    """Count the floating-point operations of a supervision step with its backward pass.

    Of all its matrix products, attention's too, on the device "meta", where nothing is computed.

    Args:
        model: any, on any device
        batch_size: puzzles
        cells: of a puzzle
    """
    with Products() as products:
        rehearse(model, batch_size, cells)
    return flops(products.counts)


def rehearse(model: RecursiveModel, batch_size: int, cells: int) -> None:
    """Take a supervision step and its backward pass without numbers, on the device "meta"."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        settings = model.settings()
        settings.pop("_target_")
        empty = type(model)(**settings)
        ids = torch.zeros(batch_size, dtype=torch.int64)
        x_input = ids[:, None].expand(-1, cells)
        step = empty(x_input, ids, empty.initial_state(batch_size))
        (step.y_hat.sum() + step.q_hat.sum()).backward()


def compiling(
    wanted: Compiling,
    model: RecursiveModel,
    shape: Sequence[int],
    device: torch.device,
    steps: int,
) -> AbstractContextManager[Any]:
    """Return a context in which a model runs compiled, if that is wanted.

    Args:
        wanted: ``default`` compiles the network, ``max`` the whole supervision step, with CUDA
            graphs on a GPU; ``auto`` is ``default`` on a GPU with Triton and, where there is a C++
            compiler, for long runs on a CPU. What it chooses depends on run and machine, never on a
            clock, so that a resumed run is the same one.
        model: as it is outside the context, too
        shape: puzzles per call, and cells of each
        device: where it runs
        steps: of the whole run

    Raises:
        InputError: compiling is asked for, and what it needs is not there
    """
    lacking = _lacking(device)
    if wanted == "auto":
        pays = device.type == "cuda" or (
            device.type == "cpu" and lacking is None and _is_long(model, shape, steps)
        )
        wanted = "default" if pays and lacking is None else "off"
    if wanted == "off":
        return nullcontext()
    if lacking is not None:
        raise InputError(
            f"train.compile={wanted} needs {lacking}; install one, or set train.compile=off"
        )
    if wanted == "max":
        return Compiled([model], mode="max-autotune")
    nets = [model.net, model.answer_net] if isinstance(model, DeepRecursion) else [model]
    return Compiled([net for net in nets if net is not None], mode="default")


def _is_long(model: RecursiveModel, shape: Sequence[int], steps: int) -> bool:
    """Tell whether a run is so long that compiling pays; no, of a model that cannot be counted."""
    try:
        return training_flops(model, shape[0], shape[1]) * steps > LONG_RUN
    except Exception:  # a model of somebody's own may look at values, and on "meta" there are none
        return False


def _lacking(device: torch.device) -> str | None:
    """Say what torch's compiler would miss on a device."""
    if device.type == "cuda":
        return None if find_spec("triton") else "Triton (pip install triton), and there is none"
    if shutil.which("g++") or shutil.which("c++") or shutil.which("clang++"):
        return None
    return "a C++ compiler, and there is none (g++, clang++)"


class Compiled:
    """Within the block the modules run compiled; outside, for other shapes, as they are."""

    def __init__(self, modules: Sequence[nn.Module], mode: str) -> None:
        self.modules = modules
        self.calls = [torch.compile(module.forward, mode=mode, dynamic=False) for module in modules]

    def __enter__(self) -> Self:
        for module, call in zip(self.modules, self.calls, strict=True):
            module.forward = call
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for module in self.modules:
            del module.forward  # the one of its class is seen again
