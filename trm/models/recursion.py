"""What every recursive model takes and returns, and the loop of supervision steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trm.models.identifiers import IdentifierTable
from trm.support.batched import Batched
from trm.support.errors import InputError

Halting = Literal["solved", "continue"]

_IDENTIFIERS = "identifiers.safetensors"
_ABOUT = ("_target_", "format", "task", "run")  # what a config.json says beside arguments


@dataclass(frozen=True)
class Trained:
    """How a model was trained, as far as its weights do not tell; the defaults are the paper's.

    Attributes:
        N_sup: supervision steps, at most
        halting: what it learned to stop by
        loss: under which its logits are probabilities, ``stablemax`` or ``softmax``
    """

    N_sup: int = 16
    halting: Halting = "solved"
    loss: str = "stablemax"


@dataclass(frozen=True)
class State(Batched):
    """Where the recursion stands: what one supervision step hands to the next.

    A model whose recursion carries something else has a ``Batched`` of its own.

    Attributes:
        y: embedded answer, (batch, seq, dim)
        z: latent reasoning state, (batch, seq, dim); (batch, n, seq, dim) where it is multi-scale,
            without positions where a model has none
    """

    y: Tensor
    z: Tensor


@dataclass(frozen=True)
class KeyedState(State):
    """The state of a model that draws random numbers: a function of a key, and of nothing else.

    Attributes:
        key: of the puzzle's draws, (batch,) int64; in training each puzzle has its own
    """

    key: Tensor


@dataclass(frozen=True)
class Step:
    """What one supervision step gives.

    Attributes:
        y_hat: logits of the answer, (batch, cells, vocab)
        q_hat: halting logits, (batch,); positive means "solved, stop"
        state: where the next step starts
        q_continue: logits of going on, (batch,), for models trained with the continue loss
        contradiction: logits that no answer keeps what is given, (batch,), of models that say so
        chains: steps of all that compete for this one, (batch, chains, ...) tensors, of models in
            which several do
    """

    y_hat: Tensor
    q_hat: Tensor
    state: Batched
    q_continue: Tensor | None = None
    contradiction: Tensor | None = None
    chains: "Step | None" = None


class RecursiveModel(nn.Module, PyTorchModelHubMixin, ABC, library_name="trm", tags=["trm"]):
    """The signature that TRM and the baselines share.

    ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` come from huggingface_hub: a folder
    with ``model.safetensors``, ``config.json`` and, with a table, ``identifiers.safetensors``.

    Attributes:
        identifiers: table of puzzle identifiers, or None where puzzles have none
        halting: how it is trained to stop unless told otherwise: ``solved`` at a positive halting
            logit, ``continue`` when halting beats going on (HRM)
        loss: under which its logits are probabilities unless told otherwise
        one_pass: whether a supervision step ignores the one before, so that one is enough
        any_size: whether ``on`` gives the model for puzzles of other sizes
    """

    identifiers: IdentifierTable | None = None
    halting: Halting = "solved"
    loss: str = "stablemax"
    one_pass: bool = False
    any_size: bool = False

    @abstractmethod
    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: Any) -> Step:
        """Take one supervision step.

        Args:
            x_input: tokens, (batch, seq) int64
            puzzle_id: identifiers, (batch,) int64; without a table they are not looked at
            state: of the step before, or ``initial_state``
        """

    @abstractmethod
    def initial_state(self, batch_size: int, generator: torch.Generator | None = None) -> Batched:
        """Return the fixed initial state, or a random one drawn from ``generator``."""

    def on(self, structure: Mapping[str, Any]) -> Self:
        """Return the model for puzzles of another size: itself, since its size is fixed.

        Args:
            structure: ``Task.structure``
        """
        return self

    @property
    def passes(self) -> int:
        """Network passes in one supervision step."""
        return 1

    @property
    def size(self) -> int:
        """Number of parameters, identifier rows aside."""
        return sum(p.numel() for p in self.parameters())

    def settings(self) -> dict[str, Any]:
        """Return the arguments this model was made with, and its class as ``_target_``."""
        target = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"_target_": target, **cast(dict[str, Any], self._hub_mixin_config)}

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        if self.identifiers is not None:
            rows = {"weights": self.identifiers.weights.contiguous()}
            save_file(rows, save_directory / _IDENTIFIERS)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Any:
        options = {name: value for name, value in options.items() if name not in _ABOUT}
        model = super()._from_pretrained(model_id=model_id, **options)
        if model.identifiers is not None:
            file = Path(model_id, _IDENTIFIERS)
            if not Path(model_id).is_dir():
                names = ("revision", "cache_dir", "token", "local_files_only")
                known = {name: options[name] for name in names if name in options}
                file = Path(hf_hub_download(model_id, _IDENTIFIERS, **known))
            model.load_identifiers(file)
        return model

    def load_folder(self, folder: Path) -> None:
        """Read the weights that ``save_pretrained`` wrote into a folder."""
        self.load_state_dict(load_file(folder / "model.safetensors"))
        if self.identifiers is not None:
            self.load_identifiers(folder / _IDENTIFIERS)

    def load_identifiers(self, file: Path) -> None:
        """Read the rows of the table of identifiers."""
        assert self.identifiers is not None, "asked only where there is a table"
        self.identifiers.weights.copy_(load_file(file)["weights"])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        if self.identifiers is not None:
            self.identifiers.apply(fn)
        return self


def halting_logit(step: Step, halting: Halting) -> Tensor:
    """Return what stops a puzzle when positive, (batch,)."""
    if halting == "solved":
        return step.q_hat
    assert step.q_continue is not None, "every model here has both logits"
    return step.q_hat - step.q_continue


def trajectory(
    model: RecursiveModel, x_input: Tensor, puzzle_id: Tensor, steps: int
) -> Iterator[Step]:
    """Run ``steps`` supervision steps from the initial state and yield each.

    Args:
        model: as it is; put it into eval mode and turn gradients off yourself
        x_input: (batch, seq) int64
        puzzle_id: (batch,) int64
        steps: as many as wanted; more than the model was trained with often helps

    Raises:
        InputError: tensors of other shapes, or what are no tokens of the model
    """
    settings = model.settings()
    cells = settings.get("seq_len", prod(settings.get("grid_shape", x_input.shape[1:])))
    if x_input.dim() != 2 or x_input.shape[1] != cells or puzzle_id.shape != x_input.shape[:1]:
        raise InputError(
            f"x_input has shape {tuple(x_input.shape)} and puzzle_id {tuple(puzzle_id.shape)}; "
            f"{type(model).__name__} takes (batch, {cells}) and (batch,)"
        )
    tokens = settings.get("vocab_size", x_input.numel() and int(x_input.max()) + 1)
    if x_input.is_floating_point() or bool(((x_input < 0) | (x_input >= tokens)).any()):
        raise InputError(
            f"x_input holds {x_input.dtype} from {x_input.min()} to {x_input.max()}; "
            f"{type(model).__name__} takes whole numbers from 0 to {tokens - 1}"
        )
    state = model.initial_state(len(x_input))
    for _ in range(steps):
        step = model(x_input, puzzle_id, state)
        state = step.state
        yield step
