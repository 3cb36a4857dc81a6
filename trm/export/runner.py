"""Run an export: ``Exported.load(folder).answers(x_input, steps)``."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from trm.export.formats import KINDS, RunStep, open_step
from trm.support.errors import InputError, check_at_least

FORMAT = 1  # of export.json
ABOUT, INITIAL = "export.json", "initial.safetensors"


@dataclass(frozen=True)
class StepArrays:
    """What one supervision step gives, as arrays of float32.

    Attributes:
        y: answer, embedded; where the next step starts, with ``z``
        z: latent reasoning state
        y_hat: logits of the answer, (batch, cells, vocab)
        q_hat: halting logits, (batch,); positive means "stop"
        contradiction: logits that no answer keeps what is given, (batch,), of models that say so
    """

    y: np.ndarray
    z: np.ndarray
    y_hat: np.ndarray
    q_hat: np.ndarray
    contradiction: np.ndarray | None = None


@dataclass(frozen=True)
class Exported:
    """One exported supervision step, and the loop around it.

    With an .onnx file this takes numpy, safetensors and ONNX Runtime, no torch.

    Attributes:
        about: what ``export.json`` says
        initial: ``y`` and ``z`` before the first step, to be broadcast over the batch
        run: the step as a function of arrays
    """

    about: dict[str, Any]
    initial: dict[str, np.ndarray]
    run: RunStep

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> "Exported":
        """Open an export folder.

        Args:
            folder: written by ``python -m trm.export``
            threads: of ONNX Runtime; torch has its own setting

        Raises:
            InputError: no export, a damaged one, or a missing package
        """
        folder = Path(folder)
        about = _about(folder)
        file = folder / Path(about["file"]).name  # of this folder, whatever the text says
        try:
            initial = load_file(folder / INITIAL)
            run = open_step(about["kind"], file, threads)
            return cls(about, {name: initial[name] for name in "yz"}, run)
        except InputError:
            raise
        except (SafetensorError, OSError, KeyError) as error:
            raise InputError(f"{folder} is no whole export ({error})") from None
        except Exception as error:  # whatever a reader trips over, the file is at fault
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise InputError(f"{file} is damaged ({reason})") from error

    @property
    def steps(self) -> int:
        """Supervision steps that the model was trained for."""
        return int(self.about["N_sup"])

    @cached_property
    def task(self) -> Any:
        """The task it was trained on; needs torch, as its rules do."""
        from trm.support.build import build
        from trm.tasks.base import Task

        return build(self.about["task"], Task, "export.json task")

    def start(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ``y`` and ``z`` before the first step."""
        shapes = {name: (batch, *self.about["shapes"][name][1:]) for name in "yz"}
        y, z = (np.broadcast_to(self.initial[name], shape) for name, shape in shapes.items())
        return y.copy(), z.copy()  # what is broadcast may only be read

    def step(
        self, x_input: np.ndarray, y: np.ndarray, z: np.ndarray, puzzle_id: int | np.ndarray = 0
    ) -> StepArrays:
        """Take one supervision step.

        Args:
            x_input: tokens, (batch, cells), any integers
            y: of the step before, or ``start``
            z: likewise
            puzzle_id: identifiers, (batch,), or one for all; only where the model has rows

        Raises:
            InputError: grids of another size, an unknown identifier
        """
        x_input = np.ascontiguousarray(x_input, dtype=np.int64)
        cells = self.about["shapes"]["x_input"][1]
        if x_input.ndim != 2 or x_input.shape[1] != cells:
            raise InputError(f"x_input has shape {x_input.shape} and must be (batch, {cells})")
        inputs = {"x_input": x_input, "y": y, "z": z}
        if "puzzle_id" in self.about["inputs"]:
            ids = np.broadcast_to(np.asarray(puzzle_id, dtype=np.int64), len(x_input))
            if ids.min(initial=0) < 0 or ids.max(initial=0) >= self.about["identifiers"]:
                raise InputError(f"puzzle_id must lie in 0 ... {self.about['identifiers'] - 1}")
            inputs["puzzle_id"] = np.ascontiguousarray(ids)
        return StepArrays(*self.run([inputs[name] for name in self.about["inputs"]]))

    def answers(
        self, x_input: np.ndarray, steps: int | None = None, puzzle_id: int | np.ndarray = 0
    ) -> np.ndarray:
        """Return the answer after each supervision step, (steps, batch, cells) uint8.

        Args:
            x_input: tokens, (batch, cells)
            steps: None for as many as in training
            puzzle_id: see ``step``

        Raises:
            InputError: fewer than one step
        """
        steps = self.steps if steps is None else steps
        check_at_least(1, steps=steps)
        y, z = self.start(len(x_input))
        answers = []
        for _ in range(steps):
            step = self.step(x_input, y, z, puzzle_id)
            y, z = step.y, step.z
            answers.append(step.y_hat.argmax(-1).astype(np.uint8))
        return np.stack(answers)


def _about(folder: Path) -> dict[str, Any]:
    try:
        about: Any = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        version, kind = about["format"], about["kind"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{folder} is no export ({error}); python -m trm.export writes one"
        ) from None
    if version != FORMAT or kind not in KINDS:
        raise InputError(
            f"{folder} has format {version} and kind {kind}; this version reads format {FORMAT} "
            f"and {', '.join(KINDS)}"
        )
    return dict(about)
