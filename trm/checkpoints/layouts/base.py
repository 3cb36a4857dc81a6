"""What every layout of model files offers: it claims, reads and, where it can, writes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trm.models.recursion import RecursiveModel, Trained
from trm.support.errors import InputError
from trm.tasks.base import Task


@dataclass(frozen=True)
class Opened:
    """A model and what its file says of it.

    Attributes:
        model: ready, in eval mode
        layout: what kind of file it was
        task: the task it was trained on, if the file says
        step: optimizer steps it was trained for, if the file says
        config: what the file says of the run that trained it: all of it, resolved; of a published
            file no more than ``train``; or nothing
        manifest: of the data it was trained on, or empty
        assumed: one sentence for every setting that the file did not say
    """

    model: RecursiveModel
    layout: str
    task: Task | None = None
    step: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)

    @property
    def trained(self) -> Trained:
        """How it was trained; as in the paper where the file does not say."""
        train = self.config.get("train", {})
        return Trained(
            train.get("N_sup", Trained.N_sup),
            train.get("halting") or self.model.halting,
            train.get("loss", self.model.loss),
        )


class Layout(ABC):
    """A kind of file or folder that holds a model.

    Attributes:
        name: for people, as in "safetensors folder"
    """

    name: str

    @abstractmethod
    def claims(self, path: Path) -> bool:
        """Tell by a short look, at names, keys or first bytes, whether ``path`` is of this layout.

        The path may not exist, or be anything: then it is not claimed, and nothing is raised.
        """

    @abstractmethod
    def read(self, path: Path, settings: Mapping[str, Any]) -> Opened:
        """Open what was claimed, without running code in it.

        Args:
            path: of the file or folder
            settings: what the caller of ``trm.load`` gave, by name; files need not heed it

        Raises:
            InputError: a file that is broken, dangerous, or holds another kind of model
        """

    def write(self, opened: Opened, path: Path) -> None:
        """Write a model, and of what ``read`` would say of it what the layout has a place for.

        Raises:
            InputError: a model that the layout cannot hold, or a layout that is only read
        """
        raise InputError(f"{path}: a {self.name} is only read; write a folder with trm.save")
