"""State dicts of the released models under their published names: written, and taken apart.

Six released classes have a model here that computes the same. Their state dicts differ in the name
of the network and in the initial states; ``Released.canonical`` brings each to the names of TRM.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trm.checkpoints.layouts.all_config import check_config, published_config, write_config
from trm.checkpoints.torch_files import is_state_dict
from trm.models.damped import DampedModel
from trm.models.direct import DirectPrediction
from trm.models.hrm import HierarchicalReasoningModel
from trm.models.recursion import RecursiveModel, Trained
from trm.models.trm import TinyRecursiveModel
from trm.models.variants import MultiScaleModel, SingleLatentModel
from trm.support.errors import InputError
from trm.support.files import written_whole

PREFIX = "_orig_mod.model."  # of every key in a file written by the published training script
TABLE = "puzzle_emb.weights"
EMBEDDING = "embed_tokens.embedding_weight"
HIDDEN_MULTIPLE = 256  # SwiGLU widths of the released code are rounded up to a multiple of it
_INNER = "inner."
_WRAPPERS = "_orig_mod", "module"
_OF_A_BATCH = "puzzle_emb.local_weights", "puzzle_emb.local_ids"  # rows last read, not the table
_HELD_AS = "model", "state_dict", "model_state_dict"  # in a save of a whole training

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
_NEEDED = (
    EMBEDDING,
    "lm_head.weight",
    "q_head.weight",
    "q_head.bias",
    "L_level.layers.0.mlp.gate_up_proj.weight",
    "L_level.layers.0.mlp.down_proj.weight",
)
_NO_STATE_DICT = "it is no state dict of TRM or HRM, or only a part of one"


@dataclass(frozen=True)
class Released:
    """A released class, and the model here that computes the same.

    Attributes:
        name: as ``arch.name`` of an ``all_config.yaml`` says it
        modules: that have it, in one repository or another
        model: its counterpart
        y: key of the initial answer; None where all starts are random
        z: keys of the initial latents
        net: prefix of the keys of the network; with two, of the one that updates ``z``
        own_prefix: whether ``puzzle_emb_len`` sets the prefix, which else just holds a row
        halts_on_continue: whether it stops when halting beats going on, whatever its config says
        has_mlp: whether an MLP may mix the positions
        may_lack_positions: whether ``pos_encodings`` may be ``none``
    """

    name: str
    modules: tuple[str, ...]
    model: type[TinyRecursiveModel]
    y: str | None = "H_init"
    z: tuple[str, ...] = ("L_init",)
    net: str = "L_level"
    own_prefix: bool = True
    halts_on_continue: bool = False
    has_mlp: bool = True
    may_lack_positions: bool = True

    def canonical(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename its keys to those of TRM; latents that start alike have one initial state."""
        named = {key.replace(self.net, "L_level"): weight for key, weight in weights.items()}
        if self.y is None:  # buffers that are there, and are not looked at
            dim = named[EMBEDDING].shape[1:] if EMBEDDING in named else (0,)
            return named | {"H_init": torch.zeros(dim), "L_init": torch.zeros(dim)}
        y, z = named.pop(self.y), [named.pop(key) for key in self.z]
        alike = all(start.equal(z[0]) for start in z)
        named["H_init"] = y
        named["L_init"] = (z[0] if alike else torch.stack(z)) if z else torch.zeros_like(y)
        return named

    def named(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give weights that have our names its own."""
        named = {published_name(name): weight for name, weight in weights.items()}
        y, z = named.pop("H_init"), named.pop("L_init")
        if self.y is not None:
            named[self.y] = y
        for i, key in enumerate(self.z):
            named[key] = z if z.ndim == 1 else z[i].clone()
        return {key.replace("L_level", self.net): weight for key, weight in named.items()}


TRM = Released(
    "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1", ("trm",), TinyRecursiveModel
)
HRM = Released(
    "recursive_reasoning.hrm@HierarchicalReasoningModel_ACTV1",
    ("hrm", "hrm_act_v1"),
    HierarchicalReasoningModel,
    own_prefix=False,
    halts_on_continue=True,
    may_lack_positions=False,
)
SINGLE_Z = Released(
    "recursive_reasoning.trm_singlez@TinyRecursiveReasoningModel_ACTV1",
    ("trm_singlez",),
    SingleLatentModel,
    y="L_init",
    z=(),
)
SIX_LEVELS = Released(
    "recursive_reasoning.trm_hier6@TinyRecursiveReasoningModel_ACTV1",
    ("trm_hier6",),
    MultiScaleModel,
    z=tuple(f"L{level}_init" for level in range(1, 7)),
)
BASELINE = Released(
    "recursive_reasoning.transformers_baseline@Model_ACTV2",
    ("transformers_baseline",),
    DirectPrediction,
    z=(),
    net="H_level",
    own_prefix=False,
    halts_on_continue=True,
    has_mlp=False,
    may_lack_positions=False,
)
EQR = Released("eqr@EqRModel", ("eqr",), DampedModel, y=None, z=(), own_prefix=False)
RELEASED = TRM, HRM, SINGLE_Z, SIX_LEVELS, BASELINE, EQR


@dataclass(frozen=True)
class Contents:
    """What is in a published file.

    Attributes:
        weights: under their published names, prefixes of wrappers stripped
        within: what they were taken out of, where a training was saved as a whole
        config: of that training
        step: optimizer steps that it had taken
    """

    weights: dict[str, Tensor]
    within: str | None = None
    config: Any = None
    step: int | None = None


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


def save_published(model: RecursiveModel, path: str | Path, trained: Trained | None = None) -> None:
    """Write a model in the published layout, which other readers of TRM files know.

    The weights are a state dict at ``path``; an ``all_config.yaml`` beside it holds what their
    shapes do not tell, so that ``load`` gives the same model again.

    Args:
        model: of a kind and with settings that the released code has, too
        path: of the file; files beside it share its ``all_config.yaml``
        trained: how, for ``all_config.yaml``; None for as in the paper

    Raises:
        InputError: a variant that the released code does not have, or an ``all_config.yaml`` there
            that says otherwise
    """
    path = Path(path)
    trained = Trained(halting=model.halting) if trained is None else trained
    kind = next((kind for kind in RELEASED if kind.model is type(model)), None)
    if kind is None:
        raise InputError(_refusal(type(model).__name__))
    assert isinstance(model, TinyRecursiveModel), "all that were released are"
    if lacking := next(_lacking(model, kind, trained), None):
        raise InputError(_refusal(lacking))
    halting = {} if kind.halts_on_continue else {"no_ACT_continue": trained.halting == "solved"}
    config = published_config(_arch(model, kind) | halting, _beside_arch(model), trained)
    check_config(config, path)
    named = kind.named(model.state_dict())
    if model.identifiers is not None:
        named[TABLE] = model.identifiers.weights
    with written_whole(path) as file:
        torch.save({f"{PREFIX}{_INNER}{name}": tensor for name, tensor in named.items()}, file)
    write_config(config, path)


def _refusal(what: str) -> str:
    return f"{what} has no published layout; save it with trm.save instead"


def _lacking(model: TinyRecursiveModel, kind: Released, trained: Trained) -> Iterator[str]:
    """Yield what a model has and its released class has not."""
    settings, name = model.settings(), type(model).__name__
    rowless = not kind.own_prefix and model.prefix_len != _row_positions(model)
    without_positions = settings["mixing"] == "attention" and settings["positions"] == "none"
    for what, is_so in (
        ("a model with model.separate=true", settings.get("separate")),
        ("a model with model.gradient=one_step", settings.get("gradient") == "one_step"),
        ("a model with a convolution", settings["convolution"]),
        ("a model with model.qk_norm=true", settings["qk_norm"]),
        ("a model with model.inner_norm=true", settings["inner_norm"]),
        ("a model with model.group_tables=true", settings["group_tables"]),
        ("a model with model.random_start=true", settings["random_start"] and kind is not EQR),
        (f"{name} with model.random_start=false", kind is EQR and not settings["random_start"]),
        (f"{name} with model.prefix_len={model.prefix_len}", kind is EQR and model.prefix_len),
        ("a model with model.positions=rotary_2d", settings["positions"] == "rotary_2d"),
        (
            f"a model with model.hidden_multiple={settings['hidden_multiple']}, not "
            f"{HIDDEN_MULTIPLE},",
            settings["hidden_multiple"] != HIDDEN_MULTIPLE,
        ),
        (f"{name} with model.carried=false", kind is BASELINE and not settings.get("carried")),
        (f"{name} with model.n={model.n}, not 6,", kind is SIX_LEVELS and model.n != 6),
        (f"{name} with model.n=0", kind is HRM and model.n == 0),
        (f"{name} with model.mixing=mlp", not kind.has_mlp and settings["mixing"] == "mlp"),
        (
            f"{name} with model.positions=none",
            without_positions and not kind.may_lack_positions,
        ),
        (f"{name} with model.prefix_len={model.prefix_len}, more than a row needs,", rowless),
        (
            f"{name} trained with train.halting=solved",
            kind.halts_on_continue and trained.halting == "solved",
        ),
    ):
        if is_so:
            yield what


def _row_positions(model: TinyRecursiveModel) -> int:
    """Return the number of positions that an identifier's row fills."""
    width = 0 if model.identifiers is None else model.identifiers.weights.shape[1]
    return -(-width // len(model.y_init))


def _arch(model: TinyRecursiveModel, kind: Released) -> dict[str, Any]:
    """Return what the released class was made with, as far as it reads it."""
    settings = model.settings()
    layers, width = settings["layers"], 0
    if model.identifiers is not None:
        width = model.identifiers.weights.shape[1]
    encodings = {"rotary": "rope", "none": "none" if kind.may_lack_positions else "rope"}
    arch = {
        "name": kind.name,
        "hidden_size": settings["dim"],
        "num_heads": settings["heads"],
        "expansion": settings["expansion"],
        "pos_encodings": encodings.get(settings["positions"], settings["positions"]),
        "puzzle_emb_ndim": width,
        "H_cycles": model.T,
    }
    if kind is BASELINE:
        return arch | {"H_layers": layers}
    arch |= {"L_cycles": model.n, "H_layers": layers if kind is HRM else 0, "L_layers": layers}
    arch |= {"mlp_t": settings["mixing"] == "mlp"}
    if kind is EQR:
        arch |= {"lambda_": 1 - settings["damping"], "noise_scale": settings["noise"]}
    return arch | ({"puzzle_emb_len": model.prefix_len} if kind.own_prefix else {})


def _beside_arch(model: TinyRecursiveModel) -> dict[str, Any]:
    """Return what the released code learns from its data, and settings without effect."""
    settings = model.settings()
    said = {
        "seq_len": model.seq_len,
        "vocab_size": settings["vocab_size"],
        "num_puzzle_identifiers": settings["identifiers"],
    }
    return said | ({} if settings["columns"] is None else {"columns": settings["columns"]})


def contents_of(saved: Any, path: Path) -> Contents:
    """Take a state dict, or a save of a whole training with one inside, apart.

    Of the latter the EMA is taken where there is one, as its own evaluation does.

    Raises:
        InputError: what holds anything else
    """
    if is_state_dict(saved):
        return Contents(_unwrapped(saved))
    within = saved if isinstance(saved, Mapping) else {}
    name = next((name for name in _HELD_AS if is_state_dict(within.get(name))), None)
    if name is None:
        odd = next((k for k, v in within.items() if not isinstance(v, Tensor)), None)
        what = f"{odd!r} holds a {type(within[odd]).__name__}" if within else "it has no keys"
        raise InputError(
            f"{path} is a nested training save ({what}) without a state dict under any of "
            f"{', '.join(_HELD_AS)}; take the model's own state dict out of it first"
        )
    weights, step = _unwrapped(within[name]), within.get("step")
    average = _average(within.get("ema"), weights)
    return Contents(
        weights | average,
        f"{'EMA' if average else 'model'} in a training save",
        within.get("config"),
        step if isinstance(step, int) else None,
    )


def released_class(weights: Mapping[str, Tensor], path: Path) -> Released:
    """Tell by the keys of a state dict which released class it is of.

    Raises:
        InputError: of none, or of one that no model here computes
    """
    starts = {key for key in weights if key.endswith("_init")}
    levels = {key.partition(".")[0] for key in weights if "_level." in key}
    for kind in RELEASED:
        wanted = {"H_level", "L_level"} if kind is HRM else {kind.net}
        random = kind.y is None and EMBEDDING in weights and TABLE not in weights
        if levels == wanted and (starts == {kind.y, *kind.z} or (random and not starts)):
            _check_depths(weights, path)
            return kind
    missing = next((key for key in _NEEDED if key not in weights), None)
    has = ", ".join(sorted(starts | levels)) or "no network"
    lacks = f"has no key {missing!r}" if missing else f"has {has}, which no model here has together"
    raise InputError(f"{path} {lacks}: {_NO_STATE_DICT}")


def depth(weights: Mapping[str, Tensor], level: str) -> int:
    """Count the layers of a network."""
    return len({key.split(".")[2] for key in weights if key.startswith(f"{level}.layers.")})


def check_needed(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights, brought to the names of TRM, that lack what every model has.

    Raises:
        InputError: naming the key
    """
    for key in _NEEDED:
        if key not in weights:
            raise InputError(f"{path} has no key {key!r}: {_NO_STATE_DICT}")


def fill(model: TinyRecursiveModel, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights, brought to the names of TRM, into a model without any, one by one compared.

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


def _unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stripped = {}
    for key, tensor in weights.items():
        name = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        name = name.removeprefix("model.").removeprefix(_INNER)
        if name not in _OF_A_BATCH:
            stripped[name] = tensor
    return stripped


def _average(ema: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the averaged weights, bare or under ``shadow``; none where there is no EMA."""
    shadow = ema.get("shadow", ema) if isinstance(ema, Mapping) else {}
    if not isinstance(shadow, Mapping):
        return {}
    tensors = {key: value for key, value in shadow.items() if isinstance(value, Tensor)}
    return {key: value for key, value in _unwrapped(tensors).items() if key in weights}


def _check_depths(weights: Mapping[str, Tensor], path: Path) -> None:
    high, low = depth(weights, "H_level"), depth(weights, "L_level")
    if high and low and high != low:
        raise InputError(
            f"{path} is an HRM with {high} layers in its H network and {low} in its L network; "
            f"HierarchicalReasoningModel has equally many in both and cannot hold it"
        )


def _misfit(key: str, own: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> str:
    if theirs is None:
        return f" lacks the key {key!r} {own}, which its other keys ask for: {_NO_STATE_DICT}"
    if own is None:
        return (
            f" has a surplus key {key!r} {theirs}: another architecture than TRM or HRM, which "
            f"would compute something else"
        )
    return (
        f": {key!r} is {theirs}, where the other shapes ask for {own}; check heads, prefix_len "
        f"and expansion"
    )
