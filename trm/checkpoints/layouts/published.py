"""The published layout of TRM, its variants and HRM: a state dict, raw or in a training save.

Width, layers, mixing, vocabulary, learned positions and identifier rows are read off the shapes.
Heads, recursion, prefix length and rotary leave no trace there: they come from the caller, from an
``all_config.yaml`` beside the file or a config in it, or are assumed and said.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trm.checkpoints.layouts.all_config import AllConfig
from trm.checkpoints.layouts.base import Layout, Opened
from trm.checkpoints.published import (
    BASELINE,
    EMBEDDING,
    EQR,
    HIDDEN_MULTIPLE,
    HRM,
    RELEASED,
    SIX_LEVELS,
    TABLE,
    Contents,
    Released,
    check_needed,
    contents_of,
    depth,
    fill,
    released_class,
    save_published,
)
from trm.checkpoints.torch_files import head, read_torch
from trm.models.damped import DampedOptions
from trm.models.layers import swiglu_width
from trm.support.errors import InputError

_CELLS = {11: 81, 12: 900}  # of Sudoku 9x9 and ARC, by their vocabulary
_MIXER = "L_level.layers.0.mlp_t.down_proj.weight"
_QKV = "L_level.layers.0.self_attn.qkv_proj.weight"
_POSITIONS = "embed_pos.embedding_weight"
_ENCODINGS = {"rope": "rotary", "none": "none"}  # theirs, ours

# Random states, puzzles in hand and settings, in saves of whole trainings: not looked for.
_SKIPPED = "numpy.", "models.", "config."

# Whose files have these among their keys. They are claimed, too, so that they can be named.
_OF_OTHERS = {
    (b"output_init_embed", b"latent_init_embed"): "lucidrains' tiny-recursive-model",
    (b"z_L_init", b"lenet.layers"): "nano-trm",
}


class Published(Layout):
    """What the training scripts of TRM, HRM and EqR save."""

    name = "published state dict"

    def claims(self, path: Path) -> bool:
        """Take torch files with a published name among their keys, or names of relatives."""
        beginning = head(path)
        return EMBEDDING.encode() in beginning or _other(beginning) is not None

    def read(self, path: Path, settings: Mapping[str, Any]) -> Opened:
        """Build the model that the shapes ask for; ``settings`` and neighbours tell the rest."""
        other = _other(head(path))
        if other is not None:
            raise InputError(
                f"{path} is a file of {other}, whose network is another than the published one; "
                f"trm opens state dicts of the released TRM and HRM code, and its own files"
            )
        contents = contents_of(read_torch(path, _SKIPPED), path)
        file = _opened(path, contents, settings)
        arguments = file.network() | file.places()
        table = file.table
        if table is not None:
            table = file.rows(table)
            arguments["identifiers"] = len(table)
        with torch.device("meta"):
            model = file.kind.model(**arguments)
        fill(model, file.weights, path)
        if model.identifiers is not None:
            assert table is not None, "a prefix is inferred from a table only"
            model.identifiers.weights = table.float()
        train = file.config.train(file.kind.halts_on_continue)
        return Opened(
            model.eval(),
            contents.within or self.name,
            file.config.task(arguments["vocab_size"], arguments["seq_len"]),
            contents.step,
            {"train": train} if train else {},
            assumed=file.assumed,
        )

    def write(self, opened: Opened, path: Path) -> None:
        """Write the weights, and beside them how the model is made and was trained."""
        save_published(opened.model, path, opened.trained)


@dataclass(frozen=True)
class _File:
    """What a file says by its shapes, and who tells what it does not say.

    Attributes:
        path: of the file
        kind: of which released class it is
        weights: under the names of TRM, the table of identifiers aside
        table: of identifiers, if it has one
        given: by the caller; what is given is not assumed
        config: of its training
        assumed: a sentence for every setting that nobody told
    """

    path: Path
    kind: Released
    weights: Mapping[str, Tensor]
    table: Tensor | None
    given: Mapping[str, Any]
    config: AllConfig
    assumed: list[str] = field(default_factory=list)

    def setting(self, name: str, published: str, default: int) -> int:
        """Return a whole number as given, as the config says it, or as assumed."""
        return int(self.known(name, self.config.number(published), default))

    def known(self, name: str, said: float | None, default: float) -> float:
        """Return a number as given, as it is said where it is, or as assumed."""
        if name in self.given:
            return float(self.given[name])
        if said is not None:
            return said
        self.assumed.append(f"{name}={default}")
        return default

    def network(self) -> dict[str, Any]:
        """Return what the network is made of, and its recursion."""
        vocab_size, dim = self.weights[EMBEDDING].shape
        layers = depth(self.weights, "L_level")
        self.check_said("hidden_size", dim)
        self.check_said("H_layers" if self.kind is BASELINE else "L_layers", layers)
        attends = _MIXER not in self.weights
        return {
            "vocab_size": vocab_size,
            "dim": dim,
            "layers": layers,
            "expansion": self.expansion(dim),
            "mixing": "attention" if attends else "mlp",
            "heads": self.heads(dim) if attends else self.config.number("num_heads") or 8,
            "positions": self.positions(),
            "columns": self.config.number("columns"),
            **self.recursion(),
            **self.disturbance(),
        }

    def disturbance(self) -> dict[str, Any]:
        """Return how EqR starts, damps and disturbs; nothing for other classes."""
        if self.kind is not EQR:
            return {}
        new = self.config.share("lambda_")  # of the new value; ours is that of the old
        kept = None if new is None else round(1 - new, 12)
        usual = DampedOptions()
        return {
            "random_start": True,
            "damping": self.known("damping", kept, usual.damping),
            "noise": self.known("noise", self.config.share("noise_scale"), usual.noise),
        }

    def recursion(self) -> dict[str, Any]:
        if self.kind is BASELINE:
            return {"carried": True}
        cycles = 2 if self.kind is HRM else 3
        T = self.setting("T", "H_cycles", cycles)
        if self.kind is not SIX_LEVELS:
            return {"n": self.setting("n", "L_cycles", 2 if self.kind is HRM else 6), "T": T}
        levels = len(self.kind.z)
        n = int(self.given.get("n", self.config.number("L_cycles") or levels))
        if n != levels:
            raise InputError(
                f"{self.path} has {levels} latent levels, and n={n} would update only some of "
                f"them, which no model here does; take n={levels}"
            )
        return {"n": n, "T": T, "own_starts": self.weights["L_init"].ndim > 1}

    def check_said(self, published: str, actual: int) -> None:
        """Refuse a config that is of another file."""
        said = self.config.number(published)
        if said is not None and said != actual:
            raise InputError(
                f"{self.config.source} says {published}={said}, and {self.path.name} has {actual}; "
                f"it is of another file"
            )

    def expansion(self, dim: int) -> float:
        hidden = self.weights["L_level.layers.0.mlp.down_proj.weight"].shape[1]
        said = self.config.arch.get("expansion")
        numbers = [said, 4] if isinstance(said, int | float) else [4]
        fitting = (e for e in numbers if swiglu_width(dim, e, HIDDEN_MULTIPLE) == hidden)
        return next(fitting, hidden * 1.5 / dim)

    def check_given(self, name: str, said: Any) -> None:
        """Refuse what leaves no trace in the shapes and is given otherwise than it is said."""
        if name in self.given and said is not None and self.given[name] != said:
            raise InputError(
                f"{self.config.source} says that {name}={said}, and {name}={self.given[name]} "
                f"would compute something else; leave it out, or make the model with {name}={said}"
            )

    def heads(self, dim: int) -> int:
        self.check_given("heads", self.config.number("num_heads"))
        heads = self.setting("heads", "num_heads", 8)
        width = len(self.weights[_QKV]) // 3 if _QKV in self.weights else dim
        if width != dim:
            raise InputError(
                f"{self.path} attends with {width} features in a network of {dim}, as the released "
                f"code does where heads do not divide the width; models here attend with all {dim}"
            )
        return heads

    def positions(self) -> str:
        if _POSITIONS in self.weights:
            return "learned"
        if _MIXER in self.weights:
            return "none"
        said = self.config.arch.get("pos_encodings")
        if said is not None and said not in _ENCODINGS:
            raise InputError(
                f"{self.config.source} says pos_encodings={said}, which no model here computes; "
                f"rope, learned and none are known"
            )
        encoding = None if said is None else _ENCODINGS[said]
        self.check_given("positions", encoding)
        if encoding is None and "positions" not in self.given:
            self.assumed.append("positions=rotary")
        return encoding or str(self.given.get("positions", "rotary"))

    def places(self) -> dict[str, Any]:
        """Return the length of the grid, and of the prefix that holds the identifier."""
        if self.table is None:
            rows = self.config.number("num_puzzle_identifiers") if self.knows_rows else None
            return {"seq_len": self.seq_len(0), "identifiers": rows or 1}
        dim, width = self.weights[EMBEDDING].shape[1], self.table.shape[1]
        prefix_len = -(-width // dim)
        if self.kind.own_prefix:
            prefix_len = self.setting("prefix_len", "puzzle_emb_len", 16) or prefix_len
        seq_len = self.seq_len(prefix_len)
        identifier_dim = None if width == dim else width
        return {"identifier_dim": identifier_dim, "prefix_len": prefix_len, "seq_len": seq_len}

    def seq_len(self, prefix_len: int) -> int:
        for sized in (_MIXER, _POSITIONS):
            if sized in self.weights:
                return len(self.weights[sized]) - prefix_len
        if "seq_len" in self.given:
            return int(self.given["seq_len"])
        vocab_size = len(self.weights[EMBEDDING])
        if (said := self.config.number("seq_len")) is not None:
            return said
        if (task := self.config.task(vocab_size, None)) is not None:
            return task.cells
        if vocab_size == 6:
            raise InputError(
                f"{self.path} has 6 tokens and is of a maze or a 4x4 Sudoku; give the task, "
                f"maze_30x30 or sudoku_4x4, as task=... or --task"
            )
        if vocab_size not in _CELLS:
            raise InputError(
                f"{self.path} does not tell how many cells its grids have; give seq_len or a task"
            )
        self.assumed.append(f"seq_len={_CELLS[vocab_size]} (from its {vocab_size} tokens)")
        return _CELLS[vocab_size]

    @property
    def knows_rows(self) -> bool:
        """Whether the config is ours, which says how many identifiers there are."""
        return "num_puzzle_identifiers" in self.config.top

    def rows(self, table: Tensor) -> Tensor:
        """Return the wanted identifier rows; a table of none is one row of zeros."""
        names = identifier_names(self.path.parent / "identifiers.json", len(table))
        if "identifiers" not in self.given:
            if len(table) > 1 and names is None and not self.knows_rows:
                self.assumed.append(
                    f"its {len(table)} identifier rows are numbered as in the identifiers.json of "
                    f"its training data, which is not beside it: puzzle_id must follow that "
                    f"numbering"
                )
            return table
        numbers = [_number(row, names, len(table), self.path) for row in self.given["identifiers"]]
        if not numbers:
            self.assumed.append("no identifier rows were kept")
            return torch.zeros(1, table.shape[1])
        # A copy: a slice would keep a memory-mapped file of gigabytes open.
        return table[torch.tensor(numbers)].clone()


def _other(beginning: bytes) -> str | None:
    """Return whose file it is, if a relative's."""
    if EMBEDDING.encode() in beginning:
        return None
    named = (whose for keys, whose in _OF_OTHERS.items() if all(key in beginning for key in keys))
    return next(named, None)


def _opened(path: Path, contents: Contents, given: Mapping[str, Any]) -> _File:
    """Tell by its keys of which released class a file is, and see that its config agrees."""
    inner = contents.config
    if isinstance(inner, Mapping) and "arch" in inner:
        config = AllConfig.of(inner, f"the config in {path}", path)
    else:
        config = AllConfig.beside(path)
        if contents.within and not config.arch:  # EqR keeps its saves one folder below
            config = AllConfig.beside(path.parent)
    kind = released_class(contents.weights, path)
    known = {module for each in RELEASED for module in each.modules}
    if config.module in known and config.module not in kind.modules:
        raise InputError(
            f"{config.source} is of {config.module}, and {path.name} has the keys of "
            f"{kind.modules[0]}; it is of another file"
        )
    assumed = []
    if config.module and config.module not in known:
        assumed.append(f"{config.arch['name']} computes what {kind.model.__name__} does")
    if config.other_loss is not None:
        assumed.append(f"loss={kind.model.loss} (for {config.other_loss}, which is not here)")
    weights = kind.canonical(contents.weights)
    check_needed(weights, path)
    table = weights.pop(TABLE, None)
    return _File(path, kind, weights, table, given, config, assumed)


def identifier_names(file: Path, count: int) -> list[str] | None:
    """Read the names of so many identifier rows from ``identifiers.json``; None if it is not there.

    Raises:
        InputError: a file that cannot be read, or with another number of names
    """
    if not file.is_file():
        return None
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read, it is no JSON: {error}") from None
    if not isinstance(names, list) or len(names) != count:
        raise InputError(f"{file} must list one name for each of the {count} rows")
    return names


def _number(row: int | str, names: list[str] | None, count: int, path: Path) -> int:
    if isinstance(row, int):
        if not 0 <= row < count:
            raise InputError(f"identifier {row} is not a row of the {count} in {path}")
        return row
    if names is None or row not in names:
        raise InputError(
            f"identifier {row!r} is not in {path.parent / 'identifiers.json'}; give row numbers, "
            f"or put the identifiers.json of the training data beside the checkpoint"
        )
    return names.index(row)
