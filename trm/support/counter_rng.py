"""Random numbers as a pure function of integers.

Draw ``j`` of key ``k`` is a hash of ``(k, j)``: no generator has to be advanced, saved or shared,
so batch 1,000,000 costs what batch 0 costs, on any device and with the same bits (integer
arithmetic only). The mixing function is the finalizer of SplitMix64 (Steele, Lea and Flood,
*Fast Splittable Pseudorandom Number Generators*, OOPSLA 2014).
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 over the golden ratio, as a signed 64-bit integer
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def mix(bits: Tensor) -> Tensor:
    """Scramble int64 ``bits`` of any shape; a bijection on 64-bit integers."""
    bits = bits + _GOLDEN
    bits = (bits ^ _shift_right(bits, 30)) * _MIX_1
    bits = (bits ^ _shift_right(bits, 27)) * _MIX_2
    return bits ^ _shift_right(bits, 31)


def key(*words: int | Tensor) -> Tensor:
    """Fold integers and int64 tensors that broadcast into int64 keys, on the tensors' device."""
    tensors = [word for word in words if isinstance(word, Tensor)]
    device = tensors[0].device if tensors else None
    folded = torch.zeros((), dtype=torch.int64, device=device)
    for word in words:  # integers stay Python scalars: copying one to a GPU would wait for it
        folded = mix(folded ^ (word if isinstance(word, Tensor) else _signed(word)))
    return folded


def draws(keys: Tensor, count: int) -> Tensor:
    """Return ``count`` non-negative int64 draws (63 bits) for each key: (*keys.shape, count)."""
    index = torch.arange(count, dtype=torch.int64, device=keys.device)
    return mix(keys.unsqueeze(-1) ^ mix(index)) & (2**63 - 1)


def below(keys: Tensor, bound: int) -> Tensor:
    """Return one integer in ``[0, bound)`` for each key; the bias is under ``bound / 2**63``."""
    return draws(keys, 1).squeeze(-1) % bound


def uniform(keys: Tensor) -> Tensor:
    """Return one float32 in ``[0, 1)`` for each key."""
    return uniforms(keys, 1).squeeze(-1)


def uniforms(keys: Tensor, count: int) -> Tensor:
    """Return ``count`` float32 in ``[0, 1)`` for each key: (*keys.shape, count)."""
    return _fraction(draws(keys, count) >> 39)


def normal(keys: Tensor, count: int) -> Tensor:
    """Return ``count`` float32 of the standard normal for each key: (*keys.shape, count).

    Two of them come of one draw (Box and Muller 1958).
    """
    bits = draws(keys, (count + 1) // 2)
    radius = torch.sqrt(-2 * torch.log1p(-_fraction(bits >> 39)))
    angle = 2 * torch.pi * _fraction(bits >> 15 & (2**24 - 1))
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], -1)[..., :count]


def _fraction(bits: Tensor) -> Tensor:
    """Turn 24 bits, the most that float32 holds exactly, into a fraction: 1.0 is never reached."""
    return bits.to(torch.float32) / 2**24


def _shift_right(bits: Tensor, by: int) -> Tensor:
    """Shift as if unsigned: torch's own shift of int64 copies the sign bit."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(word: int) -> int:
    """Wrap an integer of any size into 64 signed bits."""
    return (word + 2**63) % 2**64 - 2**63
