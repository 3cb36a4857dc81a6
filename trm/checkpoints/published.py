"""State dicts of TRM and HRM under their published names: written, and put into our models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trm.models.hrm import HierarchicalReasoningModel
from trm.models.recursion import RecursiveModel
from trm.models.trm import TinyRecursiveModel
from trm.support.errors import InputError
from trm.support.files import written_whole

PREFIX = "_orig_mod.model."  # of every key in a file written by the published training script
TABLE = "puzzle_emb.weights"
EMBEDDING = "embed_tokens.embedding_weight"
_INNER = "inner."

# Theirs, ours. Applied in order, so that "net" is not found inside "answer_net".
_NAMES = (
    ("H_level.layers", "answer_net.blocks"),
    ("L_level.layers", "net.blocks"),
    (EMBEDDING, "embedding.weight"),
    ("embed_pos.embedding_weight", "positions"),
    ("lm_head", "answer_head"),
    ("q_head", "halt_head"),
    ("H_init", "y_init"),
    ("L_init", "z_init"),
    ("self_attn.qkv_proj", "mixing.qkv"),
    ("self_attn.o_proj", "mixing.out"),
    ("mlp_t.", "mixing.mlp."),
    ("gate_up_proj", "gate_up"),
    ("down_proj", "down"),
)
_NO_STATE_DICT = "it is truncated, or no TRM or HRM state dict"
_RANDOM_STARTS = (
    "its recursion starts from random states, as EqR's damped and noisy one does; loading it as "
    "plain TRM would be silently wrong"
)
_NEEDED = {  # keys, and what a file without them is
    EMBEDDING: _NO_STATE_DICT,
    "lm_head.weight": _NO_STATE_DICT,
    "q_head.weight": _NO_STATE_DICT,
    "q_head.bias": _NO_STATE_DICT,
    "L_level.layers.0.mlp.gate_up_proj.weight": _NO_STATE_DICT,
    "L_level.layers.0.mlp.down_proj.weight": _NO_STATE_DICT,
    "H_init": _RANDOM_STARTS,
    "L_init": _RANDOM_STARTS,
}


def our_name(name: str) -> str:
    """Translate a published parameter name."""
    for theirs, ours in _NAMES:
        name = name.replace(theirs, ours)
    return name


def published_name(name: str) -> str:
    """Translate one of our parameter names."""
    for theirs, ours in _NAMES:
        name = name.replace(ours, theirs)
    return name


def save_published(model: RecursiveModel, path: str | Path) -> None:
    """Write a model's weights in the published layout, which other readers of TRM files know.

    Raises:
        InputError: a variant that the published code does not have
    """
    is_trm = type(model) is TinyRecursiveModel and model.answer_net is None
    settings = model.settings()
    for what, is_so in (
        (type(model).__name__, not (is_trm or type(model) is HierarchicalReasoningModel)),
        ("a model with a convolution", settings.get("convolution")),
        ("a model with model.positions=rotary_2d", settings.get("positions") == "rotary_2d"),
    ):
        if is_so:
            raise InputError(f"{what} has no published layout; save it with trm.save instead")
    named = {published_name(name): tensor for name, tensor in model.state_dict().items()}
    if model.identifiers is not None:
        named[TABLE] = model.identifiers.weights
    with written_whole(Path(path)) as file:
        torch.save({f"{PREFIX}{_INNER}{name}": tensor for name, tensor in named.items()}, file)


def unwrapped(contents: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Strip the prefixes of wrappers; refuse files that hold anything else.

    Raises:
        InputError: a value that is no tensor, or a missing key
    """
    weights = {}
    for key, tensor in contents.items():
        if not isinstance(tensor, Tensor):
            raise InputError(
                f"{path} is a nested training save ({key!r} holds a {type(tensor).__name__}); take "
                f"the model's own state dict out of it first"
            )
        name = ".".join(part for part in key.split(".") if part not in ("_orig_mod", "module"))
        weights[name.removeprefix("model.").removeprefix(_INNER)] = tensor
    for key, reason in _NEEDED.items():
        if key not in weights:
            raise InputError(f"{path} has no key {key!r}: {reason}")
    return weights


def fill(model: TinyRecursiveModel, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put published weights into a model without any; compare keys and shapes one by one.

    Raises:
        InputError: naming the first misfit
    """
    own = {published_name(name): tuple(t.shape) for name, t in model.state_dict().items()}
    theirs = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    for key in sorted(own.keys() | theirs.keys()):
        if own.get(key) != theirs.get(key):
            raise InputError(f"{path}{_misfit(key, own.get(key), theirs.get(key))}")
    model.to_empty(device="cpu")
    model.load_state_dict({our_name(key): tensor for key, tensor in weights.items()})


def _misfit(key: str, own: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> str:
    if theirs is None:
        return f" lacks the key {key!r} {own}: is it truncated?"
    if own is None:
        return (
            f" has a surplus key {key!r} {theirs}: another architecture than TRM or HRM, which "
            f"would compute something else"
        )
    return (
        f": {key!r} is {theirs}, where the other shapes ask for {own}; check heads, prefix_len "
        f"and expansion"
    )
