"""Train a model: ``python -m trm.train experiment=... key=value ...``."""

import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from trm.build import build, check_arguments
from trm.checkpoints import native
from trm.commands import kept_folder, load_data, run_command, run_folder
from trm.data.module import PuzzleDataModule
from trm.data.puzzles import PuzzleData
from trm.errors import InputError
from trm.inference.evaluation import Evaluation, evaluate
from trm.models.recursion import RecursiveModel
from trm.report.results import FORMAT, birth_certificate, write_json
from trm.report.tables import accuracies, result_table
from trm.report.thinking import thinking
from trm.tasks.base import Task
from trm.training.callbacks import EMA, AtomicCheckpointIO
from trm.training.checks import check_config
from trm.training.module import DeepSupervision, MakeOptimizer
from trm.training.progress import TrainingProgress


def run_training(cfg: DictConfig) -> dict[str, Any]:
    """Train, keep the best checkpoint by validation, test it, and write ``result.json``.

    Args:
        cfg: the composed config ``train``

    Returns:
        the contents of ``result.json``

    Raises:
        InputError: a config that cannot be; no folder is left behind
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    check_config(config)
    _quiet_lightning(config["trainer"]["profiler"])
    seed_everything(config["seed"], workers=True, verbose=False)
    resumed = _find_checkpoint(config)
    task = build(config["task"], Task, "task")
    model = native.build_model(config["model"], task)
    if config["init_from"] is not None:
        # Rows learned for other puzzles mean nothing here: identifiers_only starts from zero.
        keep_rows = not config["train"]["identifiers_only"]
        native.load_weights(model, native.read(config["init_from"]), keep_rows)
    batch_sizes, settings = _split(config["train"])
    optimizer = _optimizer(config["optimizer"])
    module = DeepSupervision(model, task, optimizer, seed=config["seed"], **settings)
    data = load_data(config["data"], task)  # what takes long comes after what may be refused
    if resumed is not None:
        native.check_continues(resumed, config, data.manifest["sha256"])
    datamodule = PuzzleDataModule(data, task, seed=config["seed"], **batch_sizes)

    folder = _folder(config, task, resumed)
    card = _Card(cfg, config, data, folder, resumed)
    best, last = _keep("best", folder, **config["checkpoint"]), _keep("last", folder)
    trainer = _trainer(cfg, config, folder, [card, best, last])
    console = Console(quiet=not trainer.is_global_zero)
    heading = _heading(task, data, model, trainer, folder)
    console.print(heading, highlight=False, soft_wrap=True)
    with kept_folder(folder, begun=lambda: card.begun and not config["trainer"]["fast_dev_run"]):
        trainer.fit(module, datamodule, ckpt_path=resumed.path if resumed else None)
        if best.best_model_path:
            native.load_weights(model, native.read(best.best_model_path))
        result = {
            "format": FORMAT,
            "task": task.name,
            "parameters": model.size,
            "steps": trainer.global_step,
            "N_sup": module.N_sup,
            "training_wall_time_s": round(card.wall_time_s, 3),
            "device": str(trainer.strategy.root_device),
            "precision": str(trainer.precision),
            "checkpoint": best.best_model_path and os.path.relpath(best.best_model_path, folder),
            "val_exact_accuracy": _number(best.best_model_score),
            "seed": config["seed"],
            "manifest": data.manifest,
            "certificate": birth_certificate(trainer.strategy.root_device),
            "config": config,
        }
        _test_and_report(model, task, data, result, folder, console)
    return result


def _split(train: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    """Split the section ``train`` into what the data module takes and what the module takes."""
    batch_sizes = {name: train[name] for name in ("batch_size", "eval_batch_size")}
    settings = {name: value for name, value in train.items() if name not in batch_sizes}
    check_arguments(PuzzleDataModule, batch_sizes, "train")
    check_arguments(DeepSupervision, settings, "train")
    return batch_sizes, settings


def _optimizer(config: dict[str, Any]) -> MakeOptimizer:
    """Make the function that makes the optimizer, and try it on one parameter."""
    make: MakeOptimizer = instantiate(config, _convert_="all")
    try:
        make([torch.nn.Parameter(torch.zeros(1))])
    except Exception as error:  # each optimizer refuses bad values in its own way
        said = " ".join(str(error).split())
        raise InputError(f"optimizer: {said}") from None
    return make


def _folder(config: dict[str, Any], task: Task, resumed: native.Checkpoint | None) -> Path:
    """Choose where the run is kept; a continued run stays in its folder."""
    if resumed is not None:
        home = resumed.path.parents[1]
        named = config["run_dir"] and Path(config["run_dir"]).resolve()
        if (home / "config.yaml").is_file() and named in (None, home):
            return home
        if named is None:
            raise InputError(
                f"{resumed.path} does not lie in the checkpoints/ of a run; name the folder of "
                f"the continued run with run_dir"
            )
    return run_folder(config, task.name)


def _keep(name: str, folder: Path, **monitored: Any) -> ModelCheckpoint:
    # "last" is a callback of its own: with save_last=True Lightning would write it only when the
    # best improves, and a resumed run would start from there.
    return ModelCheckpoint(
        folder / "checkpoints",
        name,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
        **monitored,
    )


def _trainer(
    cfg: DictConfig, config: dict[str, Any], folder: Path, callbacks: list[Callback]
) -> Trainer:
    callbacks = [TrainingProgress(config["train"]["batch_size"]), *callbacks]
    if config["ema"] is not None:
        check_arguments(EMA, config["ema"], "ema")
        callbacks.append(EMA(**config["ema"]))
    callbacks += instantiate(cfg.callbacks or {}, _convert_="all").values()
    precision = config["trainer"]["precision"]
    if precision == "auto":
        accelerator = config["trainer"]["accelerator"]
        on_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
        precision = "bf16-mixed" if on_gpu else "32-true"
    trainer: Trainer = instantiate(
        cfg.trainer,
        precision=precision,
        log_every_n_steps=config["train"]["log_every_n_steps"],
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=[
            instantiate(logger, save_dir=str(folder), _convert_="all")
            for logger in (cfg.logger or {}).values()
        ],
        plugins=[AtomicCheckpointIO()],
        _convert_="all",
    )
    if trainer.world_size > 1:
        raise InputError(
            f"trainer.devices={config['trainer']['devices']} asks for {trainer.world_size} "
            f"processes, which are not supported yet; take trainer.devices=1"
        )
    return trainer


class _Card(Callback):
    """Say in the run folder and in every checkpoint what the run is, and keep its clock."""

    def __init__(
        self,
        cfg: DictConfig,
        config: dict[str, Any],
        data: PuzzleData,
        folder: Path,
        resumed: native.Checkpoint | None,
    ) -> None:
        self.text, self.config, self.folder = OmegaConf.to_yaml(cfg, resolve=True), config, folder
        self.metadata = native.metadata(config, data.manifest)
        self.before_s = resumed.wall_time_s if resumed else 0.0
        self.begun = False
        self._start = time.perf_counter()

    @property
    def wall_time_s(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.before_s + time.perf_counter() - self._start

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and write down the config."""
        self._start = time.perf_counter()
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config)
        (self.folder / "config.yaml").write_text(self.text, encoding="utf-8")

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Note that there is something to keep."""
        self.begun = True

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the card."""
        checkpoint["trm"] = self.metadata | {"wall_time_s": self.wall_time_s}


def _test_and_report(
    model: RecursiveModel,
    task: Task,
    data: PuzzleData,
    result: dict[str, Any],
    folder: Path,
    console: Console,
) -> None:
    config = result["config"]
    puzzles = data.splits["test"][: config["test"]["limit"]]
    if len(puzzles):
        batch_size, device = config["train"]["eval_batch_size"], result["device"]
        evaluation = evaluate(model, task, puzzles, result["N_sup"], batch_size, device)
        result["test"] = accuracies(evaluation)
        result["test_wall_time_s"] = round(evaluation.wall_time_s, 3)
        console.print(result_table(evaluation, _title(task, evaluation, result)))
        console.print(thinking(task, puzzles, evaluation))
    write_json(folder / "result.json", result)
    if not config["trainer"]["fast_dev_run"]:
        for name, file in (("result", "result.json"), ("checkpoint", result["checkpoint"])):
            console.print(f"{name:10}  {folder / file}", highlight=False, soft_wrap=True)


def _title(task: Task, evaluation: Evaluation, result: dict[str, Any]) -> str:
    return (
        f"{task.name}: {evaluation.n} test puzzles, {result['parameters']:,} parameters, "
        f"{result['steps']} steps in {result['training_wall_time_s']:.0f} s"
    )


def _heading(
    task: Task, data: PuzzleData, model: RecursiveModel, trainer: Trainer, folder: Path
) -> str:
    counts = ", ".join(f"{n:,} {name}" for name, n in data.manifest["counts"].items())
    classes = ", ".join(f"{n:,}" for n in data.manifest["symmetry_classes"].values())
    shared = sum(data.manifest["shared_symmetry_classes"].values())
    threads = f"{torch.get_num_threads()} threads"
    lines = [
        f"task     {task.name}",
        f"data     {data.manifest['source']}",
        f"         {counts} puzzles from {classes} symmetry classes, {shared} shared by splits",
        f"model    {type(model).__name__}, {model.size:,} parameters",
        f"device   {trainer.strategy.root_device}, {trainer.precision}, {threads}",
        f"folder   {folder}",
    ]
    return "\n".join(lines)


def _find_checkpoint(config: dict[str, Any]) -> native.Checkpoint | None:
    """Resolve ``ckpt_path``; ``last`` is the newest ``last.ckpt`` of ``run_dir`` or of all runs."""
    named = config["ckpt_path"]
    if named is None:
        return None
    if named != "last":
        return native.read(Path(named).resolve())
    root = Path(config["run_dir"] or "logs")
    found = sorted(root.glob("**/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"ckpt_path=last: no checkpoints/last.ckpt under {root}; give its path")
    return native.read(found[-1].resolve())


def _number(score: Any) -> float | None:
    return None if score is None else float(score)


def _quiet_lightning(profiler: str | None) -> None:
    """Silence advice that does not apply: our batches need no workers and no shuffling."""
    # A profiler prints its table through this logger.
    level = logging.INFO if profiler else logging.WARNING
    logging.getLogger("lightning.pytorch").setLevel(level)
    unneeded = (
        ".*does not have many workers.*",
        ".*Checkpoint directory.*exists.*",
        ".*LeafSpec.*",
    )
    for message in unneeded:
        warnings.filterwarnings("ignore", message)


def _main(cfg: DictConfig) -> float | None:
    """Return the validated accuracy, for sweeps."""
    score: float | None = run_training(cfg)["val_exact_accuracy"]
    return score


if __name__ == "__main__":
    run_command(_main, "train")
