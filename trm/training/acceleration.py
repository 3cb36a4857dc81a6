"""Making a training step faster without changing what it computes."""

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from trm.data.sampler import Batch
from trm.errors import InputError
from trm.models.layers import Net
from trm.models.recursion import RecursiveModel, State, Step

Compiling = Literal["auto", "off", "default", "max"]

# From so many operations in all, compiling pays on a CPU: it saves about a tenth of the time, and
# two cores need half an hour for them.
_LONG_RUN = 2e14


def training_flops(model: RecursiveModel, batch_size: int, cells: int) -> int:
    """Count the floating-point operations of a supervision step with its backward pass.

    Counted as it runs, attention included, on the device "meta", where nothing is computed.

    Args:
        model: any, on any device
        batch_size: puzzles
        cells: of a puzzle
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        settings = model.settings()
        settings.pop("_target_")
        empty = type(model)(**settings)
        ids = torch.zeros(batch_size, dtype=torch.int64)
        x_input = ids[:, None].expand(-1, cells)
        with FlopCounterMode(display=False) as counter:
            step = empty(x_input, ids, empty.initial_state(batch_size))
            (step.y_hat.sum() + step.q_hat.sum()).backward()
    return int(counter.get_total_flops())


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
            graphs on a GPU; ``auto`` is ``default`` on a GPU and, where there is a C++ compiler,
            for long runs on a CPU. What it chooses depends on the run, never on a clock, so that a
            resumed run is the same one.
        model: as it is outside the context, too
        shape: puzzles per call, and cells of each
        device: where it runs
        steps: of the whole run

    Raises:
        InputError: compiling is asked for, and there is no C++ compiler
    """
    on_cpu = device.type == "cpu"
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if wanted == "auto":
        is_long = not on_cpu or (
            compiler is not None and training_flops(model, shape[0], shape[1]) * steps > _LONG_RUN
        )
        wanted = "default" if is_long and device.type in ("cuda", "cpu") else "off"
    if wanted == "off":
        return nullcontext()
    if on_cpu and compiler is None:
        raise InputError(
            f"train.compile={wanted} needs a C++ compiler, and there is none (g++, clang++); "
            f"install one, or set train.compile=off"
        )
    if wanted == "max":
        return _Compiled([model], mode="max-autotune")
    nets = [part for part in model.modules() if isinstance(part, Net)]
    return _Compiled(nets or [model], mode="default")


class _Compiled:
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


def supervision_step(model: RecursiveModel, puzzles: Batch, state: State) -> Step:
    """Call the model; under autocast, with its matrices cast once and not at every use.

    The network is applied ``T (n + 1)`` times, and autocast keeps no copy from a region without
    gradients.
    """
    arguments = (puzzles.x_input, puzzles.puzzle_id, state)
    device = puzzles.x_input.device.type
    if not torch.is_autocast_enabled(device):
        return model(*arguments)
    dtype = torch.get_autocast_dtype(device)
    cast: dict[str, Tensor] = {
        f"{name}.weight": module.weight.to(dtype)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    step: Step = functional_call(model, cast, arguments)
    return step
