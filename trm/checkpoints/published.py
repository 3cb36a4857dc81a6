"""The published layouts of TRM and HRM: raw state dicts, read and written.

Width, layers, mixing, vocabulary, learned positions and identifier rows are read off the shapes.
Heads, recursion, prefix length and rotary leave no trace there: they come from the caller, from an
``all_config.yaml`` beside the file, or are assumed and said.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from trm.errors import InputError
from trm.files import written_whole
from trm.models.hrm import HierarchicalReasoningModel
from trm.models.layers import swiglu_width
from trm.models.trm import TinyRecursiveModel

PREFIX = "_orig_mod.model."  # of every key in a file written by the published training script
_INNER = "inner."
_TABLE = "puzzle_emb.weights"

# Theirs, ours. Applied in order, so that "net" is not found inside "answer_net".
_NAMES = (
    ("H_level.layers", "answer_net.blocks"),
    ("L_level.layers", "net.blocks"),
    ("embed_tokens.embedding_weight", "embedding.weight"),
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
_NEEDED = (
    "embed_tokens.embedding_weight",
    "lm_head.weight",
    "q_head.weight",
    "q_head.bias",
    "L_level.layers.0.mlp.gate_up_proj.weight",
    "L_level.layers.0.mlp.down_proj.weight",
)
_CELLS = {11: 81, 6: 900, 12: 900}  # of Sudoku 9x9, Maze 30x30 and ARC, by their vocabulary


@dataclass(frozen=True)
class Published:
    """A model from a published file, and what the file did not say.

    Attributes:
        model: ready, in eval mode
        assumed: one sentence for every setting that had to be assumed
    """

    model: TinyRecursiveModel
    assumed: list[str]


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


def is_published(contents: Any) -> bool:
    """Whether the contents of a torch file look like a state dict of TRM or HRM."""
    return isinstance(contents, dict) and any(
        isinstance(key, str) and key.endswith("embed_tokens.embedding_weight") for key in contents
    )


def from_published(
    contents: Mapping[str, Tensor],
    path: Path,
    given: Mapping[str, Any],
    identifiers: Sequence[int | str] | None = None,
) -> Published:
    """Build the model of a published state dict.

    Args:
        contents: what ``torch.load`` returned
        path: of the file, for messages and for files beside it
        given: settings that no shape tells: ``heads``, ``n``, ``T``, ``prefix_len``, ``seq_len``,
            ``positions``; what is given is not assumed
        identifiers: rows to keep, by number or (with ``identifiers.json`` beside the file) by
            name; None for all, an empty sequence for none

    Raises:
        InputError: a missing or surplus key, a shape that fits no configuration, another recursion
    """
    weights = _core(contents, path)
    told = _all_config(path)
    assumed: list[str] = []
    table = weights.pop(_TABLE, None)
    settings = _settings(weights, table, path, dict(given), told, assumed)
    if table is not None:
        table, kept = _rows(table, identifiers, path, assumed)
        settings["identifiers"] = len(table)
        assumed += kept
    two_networks = any(key.startswith("H_level") for key in weights)
    kind = HierarchicalReasoningModel if two_networks else TinyRecursiveModel
    with torch.device("meta"):
        model = kind(**settings)
    _check(model, weights, path)
    model = model.to_empty(device="cpu")
    model.load_state_dict({our_name(key): tensor for key, tensor in weights.items()})
    if model.identifiers is not None:
        assert table is not None, "a prefix is inferred from a table only"
        model.identifiers.weights = table.float()
    return Published(model.eval(), assumed)


def _no_layout(what: str) -> InputError:
    return InputError(f"{what} has no published layout; save it with trm.save instead")


def save_published(model: TinyRecursiveModel, path: str | Path) -> None:
    """Write a model's weights in the published layout, which other readers of TRM files know.

    Raises:
        InputError: a variant that the published code does not have
    """
    is_trm = type(model) is TinyRecursiveModel and model.answer_net is None
    if not (is_trm or type(model) is HierarchicalReasoningModel):
        raise _no_layout(type(model).__name__)
    settings = model.settings()
    if settings["convolution"]:
        raise _no_layout("a model with a convolution")
    if settings["positions"] == "rotary_2d":
        raise _no_layout("a model with model.positions=rotary_2d")
    weights = {
        f"{PREFIX}{_INNER}{published_name(name)}": tensor
        for name, tensor in model.state_dict().items()
    }
    if model.identifiers is not None:
        weights[f"{PREFIX}{_INNER}{_TABLE}"] = model.identifiers.weights
    with written_whole(Path(path)) as file:
        torch.save(weights, file)


def _core(contents: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Strip the prefixes of wrappers; refuse files that hold anything else."""
    weights = {}
    for key, tensor in contents.items():
        if not isinstance(tensor, Tensor):
            raise InputError(
                f"{path} is a nested training save ({key!r} holds a {type(tensor).__name__}); take "
                f"the model's own state dict out of it first"
            )
        name = ".".join(part for part in key.split(".") if part not in ("_orig_mod", "module"))
        weights[name.removeprefix("model.").removeprefix(_INNER)] = tensor
    missing = [key for key in _NEEDED if key not in weights]
    if missing:
        raise InputError(
            f"{path} has no key {missing[0]!r}: it is truncated, or no TRM or HRM state dict"
        )
    for name in ("H_init", "L_init"):
        if name not in weights:
            raise InputError(
                f"{path} has no {name}: its recursion starts from random states, as EqR's damped "
                f"and noisy one does; loading it as plain TRM would be silently wrong"
            )
    return weights


def _all_config(path: Path) -> dict[str, Any]:
    """Read the ``arch`` part of an ``all_config.yaml`` beside the file, if there is one."""
    file = path.parent / "all_config.yaml"
    if not file.is_file():
        return {}
    try:
        arch = yaml.safe_load(file.read_text(encoding="utf-8"))["arch"]
        name = str(arch.get("name", ""))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise InputError(f"{file} cannot be read as a published config: {said}") from None
    other = {"lambda_", "noise_scale", "H_init_std", "L_init_std"} & arch.keys()
    if other or "eqr" in name.lower():
        raise InputError(
            f"{file} describes another recursion ({name or sorted(other)}), damped and noisy; "
            f"loading {path.name} as plain TRM would be silently wrong"
        )
    return dict(arch)


def _settings(
    weights: Mapping[str, Tensor],
    table: Tensor | None,
    path: Path,
    given: dict[str, Any],
    told: Mapping[str, Any],
    assumed: list[str],
) -> dict[str, Any]:
    def setting(name: str, published: str, default: Any) -> Any:
        if given.get(name) is not None:
            return given[name]
        if published in told:
            return told[published]
        assumed.append(f"{name}={default}")
        return default

    vocab_size, dim = weights["embed_tokens.embedding_weight"].shape
    two_networks = any(key.startswith("H_level") for key in weights)
    first = "L_level.layers.0"
    mixer = weights.get(f"{first}.mlp_t.down_proj.weight")
    learned = weights.get("embed_pos.embedding_weight")
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "dim": dim,
        "layers": len({key.split(".")[2] for key in weights if key.startswith("L_level")}),
        "mixing": "attention" if mixer is None else "mlp",
        "heads": setting("heads", "num_heads", 8) if mixer is None else 1,
        "n": setting("n", "L_cycles", 2 if two_networks else 6),
        "T": setting("T", "H_cycles", 2 if two_networks else 3),
    }
    hidden = weights[f"{first}.mlp.down_proj.weight"].shape[1]
    if swiglu_width(dim, 4, 256) == hidden:
        settings["expansion"] = 4
    else:
        settings["expansion"] = hidden * 1.5 / dim
    if mixer is not None:
        settings["positions"] = "none"
    elif learned is not None:
        settings["positions"] = "learned"
    else:
        encodings = {"rope": "rotary", "none": "none"}
        said = setting("positions", "pos_encodings", "rotary")
        settings["positions"] = encodings.get(said, said)
    if table is not None:
        settings["identifier_dim"] = table.shape[1]
        least = -(-table.shape[1] // dim)
        if two_networks:  # HRM's prefix just holds the row
            settings["prefix_len"] = least
        else:
            settings["prefix_len"] = setting("prefix_len", "puzzle_emb_len", 16) or least
    prefix_len = settings.get("prefix_len", 0)
    length = mixer.shape[0] if mixer is not None else None if learned is None else len(learned)
    if length is not None:
        settings["seq_len"] = length - prefix_len
    elif given.get("seq_len") is not None:
        settings["seq_len"] = given["seq_len"]
    elif vocab_size in _CELLS:
        settings["seq_len"] = _CELLS[vocab_size]
        assumed.append(f"seq_len={_CELLS[vocab_size]} (from its {vocab_size} tokens)")
    else:
        raise InputError(
            f"{path} does not tell how many cells its grids have; give seq_len or a task"
        )
    return settings


def _rows(
    table: Tensor, wanted: Sequence[int | str] | None, path: Path, assumed: list[str]
) -> tuple[Tensor, list[str]]:
    """Keep the wanted identifier rows; a table of none is one row of zeros."""
    file = path.parent / "identifiers.json"
    names: list[str] | None = None
    if file.is_file():
        try:
            names = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file} is no JSON: {error}") from None
        if not isinstance(names, list) or len(names) != len(table):
            raise InputError(f"{file} must list one name for each of the {len(table)} rows")
    said = []
    if len(table) > 1 and names is None:
        said.append(
            f"its {len(table)} identifier rows are numbered as in the identifiers.json of its "
            f"training data, which is not beside it: puzzle_id must follow that numbering"
        )
    if wanted is None:
        return table, said
    numbers = []
    for identifier in wanted:
        if isinstance(identifier, str):
            if names is None or identifier not in names:
                raise InputError(
                    f"identifier {identifier!r} is not in {file}; give row numbers, or put the "
                    f"identifiers.json of the training data beside the checkpoint"
                )
            numbers.append(names.index(identifier))
        elif not 0 <= identifier < len(table):
            raise InputError(f"identifier {identifier} is not a row of the {len(table)} in {path}")
        else:
            numbers.append(identifier)
    if not numbers:
        return torch.zeros(1, table.shape[1]), ["no identifier rows were kept"]
    # A copy: a slice would keep a memory-mapped file of gigabytes open.
    return table[torch.tensor(numbers)].clone(), []


def _check(model: TinyRecursiveModel, weights: Mapping[str, Tensor], path: Path) -> None:
    """Compare keys and shapes one by one, so that the first misfit can be named."""
    own = {published_name(name): tensor.shape for name, tensor in model.state_dict().items()}
    for name in sorted(own.keys() | weights.keys()):
        if name not in weights:
            raise InputError(f"{path} lacks the key {name!r} {tuple(own[name])}: is it truncated?")
        if name not in own:
            raise InputError(
                f"{path} has a surplus key {name!r} {tuple(weights[name].shape)}: another "
                f"architecture than TRM or HRM, which would compute something else"
            )
        if own[name] != weights[name].shape:
            raise InputError(
                f"{path}: {name!r} is {tuple(weights[name].shape)}, where the other shapes ask "
                f"for {tuple(own[name])}; check heads, prefix_len and expansion"
            )
