"""The published layout of TRM and HRM: a raw state dict, with or without prefixes of wrappers.

Width, layers, mixing, vocabulary, learned positions and identifier rows are read off the shapes.
Heads, recursion, prefix length and rotary leave no trace there: they come from the caller, from an
``all_config.yaml`` beside the file, or are assumed and said.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from trm.checkpoints.layouts.base import Layout, Opened
from trm.checkpoints.published import EMBEDDING, TABLE, fill, save_published, unwrapped
from trm.checkpoints.torch_files import head, read_torch
from trm.models.hrm import HierarchicalReasoningModel
from trm.models.layers import swiglu_width
from trm.models.trm import TinyRecursiveModel
from trm.support.errors import InputError

_CELLS = {11: 81, 6: 900, 12: 900}  # of Sudoku 9x9, Maze 30x30 and ARC, by their vocabulary
_MIXER = "L_level.layers.0.mlp_t.down_proj.weight"
_POSITIONS = "embed_pos.embedding_weight"


class Published(Layout):
    """What the training scripts of TRM and HRM save."""

    name = "published state dict"

    def claims(self, path: Path) -> bool:
        """Take torch files with the embedding's published name among their keys."""
        return EMBEDDING.encode() in head(path)

    def read(self, path: Path, settings: Mapping[str, Any]) -> Opened:
        """Build the model that the shapes ask for; ``settings`` and neighbours tell the rest."""
        weights = unwrapped(read_torch(path), path)
        table = weights.pop(TABLE, None)
        file = _File(path, weights, table, settings, _all_config(path))
        arguments = file.network() | file.places()
        if table is not None:
            table = file.rows(table)
            arguments["identifiers"] = len(table)
        with torch.device("meta"):
            model = (HierarchicalReasoningModel if file.is_hrm else TinyRecursiveModel)(**arguments)
        fill(model, weights, path)
        if model.identifiers is not None:
            assert table is not None, "a prefix is inferred from a table only"
            model.identifiers.weights = table.float()
        return Opened(model.eval(), self.name, assumed=file.assumed)

    def write(self, opened: Opened, path: Path) -> None:
        """Write the weights; there is no place for more."""
        save_published(opened.model, path)


@dataclass(frozen=True)
class _File:
    """What a file says by its shapes, and who tells what it does not say.

    Attributes:
        path: of the file
        weights: under their published names, the table of identifiers aside
        table: of identifiers, if it has one
        given: by the caller; what is given is not assumed
        config: what is said by ``all_config.yaml``
        assumed: a sentence for every setting that nobody told
    """

    path: Path
    weights: Mapping[str, Tensor]
    table: Tensor | None
    given: Mapping[str, Any]
    config: Mapping[str, Any]
    assumed: list[str] = field(default_factory=list)

    @property
    def is_hrm(self) -> bool:
        return any(key.startswith("H_level") for key in self.weights)

    def setting(self, name: str, published: str, default: Any) -> Any:
        if name in self.given:
            return self.given[name]
        if published in self.config:
            return self.config[published]
        self.assumed.append(f"{name}={default}")
        return default

    def network(self) -> dict[str, Any]:
        vocab_size, dim = self.weights[EMBEDDING].shape
        hidden = self.weights["L_level.layers.0.mlp.down_proj.weight"].shape[1]
        attends = _MIXER not in self.weights
        return {
            "vocab_size": vocab_size,
            "dim": dim,
            "layers": len({key.split(".")[2] for key in self.weights if key.startswith("L_level")}),
            "expansion": 4 if swiglu_width(dim, 4, 256) == hidden else hidden * 1.5 / dim,
            "mixing": "attention" if attends else "mlp",
            "heads": self.setting("heads", "num_heads", 8) if attends else 1,
            "n": self.setting("n", "L_cycles", 2 if self.is_hrm else 6),
            "T": self.setting("T", "H_cycles", 2 if self.is_hrm else 3),
            "positions": self.positions(),
        }

    def positions(self) -> str:
        if _MIXER in self.weights:
            return "none"
        if _POSITIONS in self.weights:
            return "learned"
        encoding = self.setting("positions", "pos_encodings", "rotary")
        return "rotary" if encoding == "rope" else encoding

    def places(self) -> dict[str, Any]:
        """Return the length of the grid, and of the prefix that holds the identifier."""
        if self.table is None:
            return {"seq_len": self.seq_len(0)}
        dim, width = self.weights[EMBEDDING].shape[1], self.table.shape[1]
        prefix_len = -(-width // dim)  # HRM's prefix just holds the row
        if not self.is_hrm:
            prefix_len = self.setting("prefix_len", "puzzle_emb_len", 16) or prefix_len
        seq_len = self.seq_len(prefix_len)
        return {"identifier_dim": width, "prefix_len": prefix_len, "seq_len": seq_len}

    def seq_len(self, prefix_len: int) -> int:
        for sized in (_MIXER, _POSITIONS):
            if sized in self.weights:
                return len(self.weights[sized]) - prefix_len
        if "seq_len" in self.given:
            return int(self.given["seq_len"])
        vocab_size = len(self.weights[EMBEDDING])
        if vocab_size not in _CELLS:
            raise InputError(
                f"{self.path} does not tell how many cells its grids have; give seq_len or a task"
            )
        self.assumed.append(f"seq_len={_CELLS[vocab_size]} (from its {vocab_size} tokens)")
        return _CELLS[vocab_size]

    def rows(self, table: Tensor) -> Tensor:
        """Return the wanted identifier rows; a table of none is one row of zeros."""
        names = _names(self.path.parent / "identifiers.json", len(table))
        if "identifiers" not in self.given:
            if len(table) > 1 and names is None:
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


def _all_config(path: Path) -> dict[str, Any]:
    """Read the ``arch`` part of an ``all_config.yaml`` beside the file, if there is one."""
    file = path.parent / "all_config.yaml"
    if not file.is_file():
        return {}
    try:
        arch = yaml.safe_load(file.read_text(encoding="utf-8"))["arch"]
        name = str(arch.get("name", ""))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{file} cannot be read as a published config: {reason}") from None
    other = {"lambda_", "noise_scale", "H_init_std", "L_init_std"} & arch.keys()
    if other or "eqr" in name.lower():
        raise InputError(
            f"{file} describes another recursion ({name or sorted(other)}), damped and noisy; "
            f"loading {path.name} as plain TRM would be silently wrong"
        )
    return dict(arch)


def _names(file: Path, count: int) -> list[str] | None:
    """Read the names of the identifier rows, if they lie beside the file."""
    if not file.is_file():
        return None
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is no JSON: {error}") from None
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
