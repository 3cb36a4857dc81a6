"""Arrays computed with the published code in float64, under this library's names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trm.checkpoints.published import our_name
from trm.data import Batch
from trm.models import HierarchicalReasoningModel, TinyRecursiveModel


class Published:
    """One file of published numbers."""

    def __init__(self, name: str) -> None:
        self.arrays = np.load(Path(__file__).parent / f"{name}.npz")
        if "config" in self.arrays:
            self.config: dict[str, Any] = json.loads(str(self.arrays["config"]))

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def below(self, folder: str) -> dict[str, Tensor]:
        """Arrays of a folder, under our parameter names."""
        return {
            our_name(name.removeprefix(folder).removeprefix("inner.")): self[name]
            for name in self.arrays.files
            if name.startswith(folder)
        }

    def batch(self, folder: str = "batch/") -> Batch:
        """A batch; the label -100 means "not scored", as PAD does here."""
        names = ("inputs", "labels", "puzzle_identifiers")
        return Batch(*(self[folder + name].long().clamp(min=0) for name in names))

    def model(self, dtype: torch.dtype = torch.float64) -> TinyRecursiveModel:
        """The model with the file's weights."""
        config = self.config
        positions = {"rope": "rotary", "none": "none", "learned": "learned"}
        two_networks = config["H_layers"] > 0
        kind = HierarchicalReasoningModel if two_networks else TinyRecursiveModel
        model = kind(
            config["vocab_size"],
            config["seq_len"],
            dim=config["hidden_size"],
            layers=config["L_layers"],
            mixing="mlp" if config["mlp_t"] else "attention",
            positions=positions[config["pos_encodings"]],
            heads=config["num_heads"],
            expansion=config["expansion"],
            n=config["L_cycles"],
            T=config["H_cycles"],
            # HRM does not read puzzle_emb_len: its prefix just holds the identifier's row
            prefix_len=-(-config["puzzle_emb_ndim"] // config["hidden_size"])
            if two_networks
            else config["puzzle_emb_len"],
            identifiers=config["num_puzzle_identifiers"],
            identifier_dim=config["puzzle_emb_ndim"],
        ).to(dtype)
        weights = self.below("sd/")
        model.identifiers.weights.copy_(weights.pop("puzzle_emb.weights"))
        model.load_state_dict(weights)
        return model


def error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    actual, expected = actual.detach().double(), expected.double()
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
