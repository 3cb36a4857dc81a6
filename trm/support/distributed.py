"""Several training processes as one: sums and gathers, which do nothing where there is but one."""

import torch
import torch.distributed as dist
from torch import Tensor


def count() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if count() > 1 else 0


def gathered(tensor: Tensor) -> Tensor:
    """Concatenate a tensor of equal shape over all processes, in the order of their ranks."""
    if count() == 1:
        return tensor
    sent = tensor.to(_device(), torch.uint8 if tensor.dtype == torch.bool else tensor.dtype)
    parts = [torch.empty_like(sent) for _ in range(count())]
    dist.all_gather(parts, sent.contiguous())
    return torch.cat(parts).to(tensor.device, tensor.dtype)


def summed(tensor: Tensor) -> Tensor:
    """Add a tensor of equal shape over all processes."""
    if count() == 1:
        return tensor
    total = tensor.to(_device(), copy=True)
    dist.all_reduce(total)
    return total.to(tensor.device)


def share(total: int) -> slice:
    """Return which of ``total`` items are this process's: equal runs of them, as far as it goes."""
    start, stop = (-(-total * k // count()) for k in (rank(), rank() + 1))
    return slice(start, stop)


def is_loss_of_contact(error: BaseException) -> bool:
    """Tell whether an error says that another process is gone, and nothing more."""
    message = str(error)
    return isinstance(error, RuntimeError) and any(
        name in message
        for name in ("gloo", "NCCL", "Connection closed by peer", "Connection reset")
    )


def _device() -> torch.device | None:
    """Return where tensors must lie to be sent; gloo sends from anywhere, but knows no bool."""
    return torch.device("cuda") if dist.get_backend() == "nccl" else None
