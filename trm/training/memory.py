"""Whether a training step fits into memory, told before it is tried."""

from contextlib import suppress
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor

from trm.models.recursion import RecursiveModel
from trm.support.batched import Batched
from trm.support.devices import machine_memory
from trm.support.errors import InputError
from trm.training.acceleration import rehearse
from trm.training.module import DeepSupervision

_PARAMETER_COPIES = 4  # gradient, two moments, average
_STATE_COPIES = 3  # in hand, fresh, and after the step
_SHARES = {"bf16-mixed": 0.5, "16-mixed": 0.5, "bf16-true": 0.5, "16-true": 0.5, "64-true": 2.0}
_GROUPS = Path("/sys/fs/cgroup")  # limits of a container
_LIMITS = (  # files with the most memory, and the memory in use, of its two versions
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def check_memory(module: DeepSupervision, batch_size: int, trainer: Trainer) -> None:
    """Refuse a batch that does not fit; whatever cannot be estimated is let through.

    Args:
        module: to be trained
        batch_size: puzzles in hand, over all processes
        trainer: says where and how precisely

    Raises:
        InputError: saying what is needed, what there is, and what would fit
    """
    model, micro_batch = module.model, module.micro_batch
    free = free_bytes(trainer.strategy.root_device)
    kept = kept_bytes(model, module.task.cells)
    if free is None or kept is None:
        return
    share = _SHARES.get(str(trainer.precision), 1.0)
    processes = trainer.world_size
    parameters = _PARAMETER_COPIES * sum(weights.nbytes for weights in model.parameters())
    room = free - parameters
    in_hand = _STATE_COPIES * _state_bytes(model.initial_state(1))
    advanced = max(1, int(kept * module.objective.unroll * share))
    of_process = batch_size // processes
    at_once = min(micro_batch or of_process, of_process)
    needed = of_process * in_hand + at_once * advanced
    if needed <= room:
        return
    remedies = []
    if (fits := room // (in_hand + advanced) * processes) >= 1:
        remedies.append(f"train.batch_size={fits}")
    if (fits := (room - of_process * in_hand) // advanced) >= 1:
        remedies.append(f"train.micro_batch={fits}, which learns the same,")
    remedy = " or ".join(remedies)
    raise InputError(
        f"train.batch_size={batch_size}"
        + (f" with train.micro_batch={micro_batch}" if micro_batch else "")
        + f" needs about {(parameters + needed) / 1e9:.1f} GB of memory, and "
        + f"{free / 1e9:.1f} GB are free; "
        + (f"{remedy} fits" if remedy else "take a smaller model, or a larger machine")
    )


def kept_bytes(model: RecursiveModel, cells: int) -> int | None:
    """Count what a supervision step keeps of each puzzle for its backward pass, in float32.

    Returns:
        None of a model that looks at values, and so cannot be rehearsed without any
    """
    try:
        return _all_kept(model, 2, cells) - _all_kept(model, 1, cells)
    except Exception:  # whatever somebody's own model raises
        return None


def _all_kept(model: RecursiveModel, batch_size: int, cells: int) -> int:
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        rehearse(model, batch_size, cells)
    return sum(storages.values())


def _state_bytes(state: Batched) -> int:
    return sum(tensor.nbytes for _, tensor in state.tensors())


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory is free on a device, if that can be known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    machine = _of_machine()
    found = [] if machine is None else [machine]
    for limit, used in _LIMITS:
        with suppress(OSError, ValueError):  # no limit is a word, or no file at all
            most, now = (int((_GROUPS / name).read_text()) for name in (limit, used))
            found.append(most - now)
    return min(found, default=None)


def _of_machine() -> int | None:
    """Return what is free by what the system says, or else all that the machine has."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return machine_memory()
