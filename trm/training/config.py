"""The config of a training run, with types; what constructors read stays plain."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from omegaconf import DictConfig

from trm.data.filling import UNTOUCHED, Filling
from trm.support.build import nearest
from trm.support.errors import InputError, check_at_least, check_between
from trm.support.sections import Section, check_read, read, resolved


@dataclass(frozen=True)
class Supervision:
    """Section ``train``; what is not named here is for ``DeepSupervision`` alone."""

    N_sup: int
    batch_size: int
    eval_batch_size: int
    log_every_n_steps: int
    gradient_clip: float | None
    identifiers_only: bool
    plain: Section
    filling: Filling = UNTOUCHED
    small_first: bool = False

    @property
    def batches(self) -> dict[str, Any]:
        """Arguments of the data module."""
        return {
            "batch_size": self.batch_size,
            "eval_batch_size": self.eval_batch_size,
            "filling": self.filling,
            "small_first": self.small_first,
        }

    @property
    def settings(self) -> Section:
        """Arguments of ``DeepSupervision``."""
        return {name: self.plain[name] for name in self.plain if name not in self.batches}


@dataclass(frozen=True)
class TrainerSettings:
    """Section ``trainer``; what is not named here is for Lightning alone."""

    accelerator: str
    precision: str | int
    max_steps: int
    val_check_interval: int
    limit_val_batches: float | None
    fast_dev_run: bool | int
    profiler: str | Section | None
    plain: Section

    def __post_init__(self) -> None:
        check_at_least(1, max_steps=self.max_steps, val_check_interval=self.val_check_interval)
        if self.limit_val_batches == 0:
            raise InputError(
                "limit_val_batches=0 leaves nothing to choose the best checkpoint by; take 1"
            )


@dataclass(frozen=True)
class Averaging:
    """Section ``ema``."""

    decay: float


@dataclass(frozen=True)
class Saving:
    """Section ``checkpoint``."""

    monitor: str
    mode: Literal["min", "max"]
    every_n_steps: int | None
    light: bool
    moments: bool

    def __post_init__(self) -> None:
        check_at_least(1, every_n_steps=self.every_n_steps)
        if not self.moments and not self.light:
            raise InputError("moments=false needs checkpoint.light=true")


@dataclass(frozen=True)
class Footprint:
    """Section ``footprint``."""

    watts: float | None
    co2_g_per_kwh: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise InputError(f"{name}={value} must be positive")


@dataclass(frozen=True)
class Testing:
    """Section ``test``."""

    limit: int | None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise InputError(f"limit={self.limit} must be 0 or more, or null for all")


@dataclass(frozen=True)
class Recursion:
    """Section ``recursion``, to which configs of models refer."""

    n: int
    T: int


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that is said about a run; ``conf/train.yaml`` explains every key.

    Attributes:
        plain: the same as plain types, as checkpoints and results keep it
    """

    task: Section
    data: Section
    model: Section
    objective: Section | None
    optimizer: Section
    recursion: Recursion
    train: Supervision
    trainer: TrainerSettings
    ema: Averaging | None
    checkpoint: Saving
    footprint: Footprint
    test: Testing
    logger: Section | None
    callbacks: Section | None
    seed: int
    run_dir: str | None
    ckpt_path: str | None
    init_from: str | None
    plain: Section
    sizes: list[Section] | None = None

    @classmethod
    def of(cls, config: "DictConfig | Section | TrainingConfig") -> "TrainingConfig":
        """Read a config: as Hydra composed it, resolved to plain types, or read before.

        Raises:
            InputError: naming the first bad key
        """
        if isinstance(config, TrainingConfig):
            return config
        if isinstance(config, DictConfig):
            check_read(config, {field.name for field in fields(cls)})
            config = resolved(config)
        return read(cls, config)

    def __post_init__(self) -> None:
        known = [field.name for field in fields(self) if field.name != "plain"]
        for name in self.plain.keys() - {*known}:  # sections of one's own, to refer to, may be
            if (suggestion := nearest(name, known)).startswith("did"):
                raise InputError(f"config key {name} does not exist; {suggestion}")
        check_between(0, 2**32 - 1, seed=self.seed)
        if not isinstance(self.sizes, list | None):
            raise InputError(f"sizes={self.sizes} must be a list, or null for one size")
        for size in self.sizes or ():
            changes = size.values() if isinstance(size, dict) else [None]
            whole = all(isinstance(change, dict) for change in changes)
            if not whole or not isinstance(size, dict) or size.keys() - {"task", "data"}:
                raise InputError(f"sizes: {size} must have the keys task and data, or one of them")
        if self.model.get("n") == 0:
            raise InputError("model.n=0 never shows the puzzle to the network; take n=1 or more")
        clip, precision = self.train.gradient_clip, str(self.trainer.precision)
        if clip is not None and precision.startswith("16"):
            raise InputError(
                f"train.gradient_clip={clip} would clip gradients that trainer.precision="
                f"{precision} has scaled; take bf16-mixed, or train.gradient_clip=null"
            )
        if self.ema is not None and precision in ("bf16-true", "16-true"):
            raise InputError(
                f"trainer.precision={precision} keeps weights too coarsely for the small steps of "
                "an average; take bf16-mixed, or ema=null"
            )

    def changed(self, section: str, **values: Any) -> "TrainingConfig":
        """Return the config with other values in one section."""
        return self.of({**self.plain, section: {**self.plain[section], **values}})

    def of_other_sizes(self) -> "list[TrainingConfig]":
        """Return the config with task and data of each further size to train on."""
        return [
            self.of({**self.plain, **_merged(self.plain, size), "sizes": None})
            for size in self.sizes or ()
        ]

    @property
    def counts_identifiers(self) -> bool:
        """Whether the model is to have as many identifiers as the data."""
        return self.model.get("identifiers", 1) is None


def _merged(plain: Section, size: Section) -> Section:
    """Change sections; one that has a ``_target_`` of its own takes the place of the old one."""
    return {
        name: change if "_target_" in change else {**plain[name], **change}
        for name, change in size.items()
    }
