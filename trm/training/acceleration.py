"""Making a training step faster without changing what it computes."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from trm.models.recursion import RecursiveModel
from trm.models.trm import DeepRecursion
from trm.support.batched import Batched
from trm.support.errors import InputError
from trm.support.operations import Products, flops
from trm.training.carry import Carry
from trm.training.losses import StepLoss

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
        wanted: ``default`` compiles the network, ``max`` on a CPU the whole supervision step (on a
            GPU it is ``default`` here, and ``Replay`` does the rest); ``auto`` is ``default`` on a
            GPU with Triton and, where there is a C++ compiler, for long runs on a CPU. What it
            chooses depends on run and machine, never on a clock, so that a resumed run is the same
            one.
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
    if wanted == "max" and device.type != "cuda":
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


class Advanced(NamedTuple):
    """What a training step learns from puzzles in hand.

    Attributes:
        state: where they stand after the steps, without gradient
        q_hat: halting logits, (batch,)
        done: what ends a puzzle when positive, (batch,)
        loss: of the steps; its total carries gradient
    """

    state: Batched
    q_hat: Tensor
    done: Tensor
    loss: StepLoss


Advance = Callable[[Carry, Tensor], Advanced]


class Replay:
    """Supervision steps and their gradient as CUDA graphs: recorded once, then launched as one.

    A small network is done with a step before the next one is launched; the graph holds thousands
    of launches. What is recorded must be a function of its tensors and the parameters alone.

    Args:
        model: whose parameters learn
        advance: of puzzles in hand and keys, (batch,) int64

    Raises:
        InputError: at the first call, of what waits for the device, and the like
    """

    def __init__(self, model: nn.Module, advance: Advance) -> None:
        self.model, self.advance = model, advance
        self._recorded: dict[torch.Size, Callable[..., Any]] = {}  # by the shape of the puzzles

    def __call__(self, carry: Carry, keys: Tensor) -> Advanced:
        """Advance puzzles; what comes back is overwritten by the next call."""
        shape, tensors = carry.puzzles.x_input.shape, dict(carry.tensors())
        if shape not in self._recorded:
            self._recorded[shape] = self._record(carry, tensors, keys)
        state, q_hat, done, losses = self._recorded[shape](tensors, keys)
        return Advanced(carry.state.with_tensors(state), q_hat, done, StepLoss(**losses))

    def _record(self, carry: Carry, tensors: dict[str, Tensor], keys: Tensor) -> Callable[..., Any]:
        own = {name: tensor.clone() for name, tensor in tensors.items()}, keys.clone()
        device = keys.device.type
        # Copies of weights in bfloat16 must be made within the graph, at every replay.
        without_cache = torch.autocast(
            device,
            torch.get_autocast_dtype(device),
            torch.is_autocast_enabled(device),
            cache_enabled=False,
        )
        # Recording is done on a stream of its own, of which the optimizer is no concern.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        try:
            with without_cache:
                return torch.cuda.make_graphed_callables(
                    _OfTensors(self.model, self.advance, carry[:0]),
                    own,  # type: ignore[arg-type]  # any nesting of tensors
                    allow_unused_input=True,
                )
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"train.compile=max cannot record this training step as a CUDA graph ({reason}); "
                f"take train.compile=default"
            ) from error


class _OfTensors(nn.Module):
    """``Advance`` with tensors for arguments and results, and the parameters it depends on."""

    def __init__(self, model: nn.Module, advance: Advance, form: Carry) -> None:
        super().__init__()
        self.model, self.advance, self.form = model, advance, form

    def forward(self, tensors: dict[str, Tensor], keys: Tensor) -> tuple[Any, ...]:
        state, q_hat, done, loss = self.advance(self.form.with_tensors(tensors), keys)
        return dict(state.tensors()), q_hat, done, vars(loss)


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
