"""Train a model: ``python -m trm.train experiment=... key=value ...``."""

import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import nn

from trm.build import check_arguments, locate
from trm.checkpoints import native
from trm.commands import run_command, run_folder
from trm.data.module import PuzzleDataModule
from trm.data.puzzles import PuzzleData
from trm.errors import InputError
from trm.inference.evaluation import Evaluation, evaluate
from trm.report.results import FORMAT, birth_certificate, write_json
from trm.report.tables import accuracies, result_table
from trm.report.thinking import thinking
from trm.tasks.base import Task
from trm.training.callbacks import EMA, AtomicCheckpointIO
from trm.training.module import DeepSupervision
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
    _quiet_lightning()
    seed_everything(config["seed"], workers=True, verbose=False)
    resumed = _find_checkpoint(config)
    task = native.build(config["task"], Task, "task")
    model = native.build_model(config["model"], task)
    if config["init_from"] is not None:
        native.load_weights(model, native.read(config["init_from"]))
    data = load_data(config["data"], task)
    settings = dict(config["train"])
    batch_size, eval_batch_size = settings.pop("batch_size"), settings.pop("eval_batch_size")
    datamodule = PuzzleDataModule(data, task, batch_size, eval_batch_size, config["seed"])
    check_arguments(DeepSupervision, settings, "train")
    optimizer = instantiate(cfg.optimizer, _convert_="all")
    module = DeepSupervision(model, task, optimizer, seed=config["seed"], **settings)

    folder = resumed.parents[1] if resumed else run_folder(config, task.name)
    try:
        best = ModelCheckpoint(
            folder / "checkpoints", "best", save_last=True, enable_version_counter=False,
            **config["checkpoint"],
        )
        trainer = _trainer(cfg, config, folder, [best, *_callbacks(cfg, data, batch_size)])
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    console = Console(quiet=not trainer.is_global_zero)
    console.print(_heading(config, task, data, model, trainer, folder), highlight=False)
    _save_config(cfg, folder)

    start = time.perf_counter()
    trainer.fit(module, datamodule, ckpt_path=resumed)
    wall_time_s = time.perf_counter() - start
    if best.best_model_path:
        native.load_weights(model, native.read(best.best_model_path))
    result = {
        "format": FORMAT,
        "task": task.name,
        "parameters": _parameters(model),
        "steps": trainer.global_step,
        "N_sup": module.N_sup,
        "training_wall_time_s": round(wall_time_s, 3),
        "device": str(trainer.strategy.root_device),
        "precision": str(trainer.precision),
        "checkpoint": best.best_model_path and os.path.relpath(best.best_model_path, folder),
        "val_exact_accuracy": _number(best.best_model_score),
        "seed": config["seed"],
        "manifest": data.manifest,
        "certificate": birth_certificate(),
        "config": config,
    }
    if trainer.is_global_zero:
        _test_and_report(model, task, data, trainer, result, folder, console)
    return result


def load_data(config: dict[str, Any], task: Task) -> PuzzleData:
    """Call the data source that a config names."""
    arguments = dict(config)
    source = locate(arguments.pop("_target_"), "data")
    check_arguments(source, arguments, "data")
    return source(task, **arguments)


def _test_and_report(
    model: nn.Module,
    task: Task,
    data: PuzzleData,
    trainer: Trainer,
    result: dict[str, Any],
    folder: Path,
    console: Console,
) -> None:
    config = result["config"]
    puzzles = data.splits["test"][: config["test"]["limit"]]
    if len(puzzles):
        evaluation = evaluate(
            model,
            task,
            puzzles,
            result["N_sup"],
            config["train"]["eval_batch_size"],
            trainer.strategy.root_device,
        )
        result["test"] = accuracies(evaluation)
        result["test_wall_time_s"] = round(evaluation.wall_time_s, 3)
        console.print(result_table(evaluation, _title(task, evaluation, result)))
        console.print(thinking(model, task, puzzles, result["N_sup"]))
    write_json(folder / "result.json", result)
    console.print(f"\nresult      {folder / 'result.json'}", highlight=False, soft_wrap=True)
    if result["checkpoint"]:
        console.print(f"checkpoint  {folder / result['checkpoint']}", highlight=False, soft_wrap=True)


def _title(task: Task, evaluation: Evaluation, result: dict[str, Any]) -> str:
    return (
        f"{task.name}: {evaluation.n} test puzzles, {result['parameters']:,} parameters, "
        f"{result['steps']} steps in {result['training_wall_time_s']:.0f} s"
    )


def _heading(
    config: dict[str, Any],
    task: Task,
    data: PuzzleData,
    model: nn.Module,
    trainer: Trainer,
    folder: Path,
) -> str:
    counts = ", ".join(f"{n:,} {name}" for name, n in data.manifest["counts"].items())
    classes = data.manifest["symmetry_classes"]
    shared = sum(data.manifest["shared_symmetry_classes"].values())
    lines = [
        f"task     {task.name}",
        f"data     {data.manifest['source']}",
        f"         {counts} puzzles from "
        + ", ".join(f"{n:,}" for n in classes.values())
        + f" symmetry classes, {shared} shared between splits",
        f"model    {config['model']['_target_'].rpartition('.')[2]}, {_parameters(model):,} parameters",
        f"device   {trainer.strategy.root_device}, {trainer.precision}, "
        f"{torch.get_num_threads()} threads",
        f"folder   {folder}",
    ]
    return "\n".join(lines)


def _callbacks(cfg: DictConfig, data: PuzzleData, batch_size: int) -> list[Callback]:
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    callbacks: list[Callback] = [TrainingProgress(batch_size), _Card(config, data.manifest)]
    if cfg.ema is not None:
        callbacks.append(EMA(**config["ema"]))
    return callbacks + list(instantiate(cfg.callbacks or {}, _convert_="all").values())


def _trainer(
    cfg: DictConfig, config: dict[str, Any], folder: Path, callbacks: list[Callback]
) -> Trainer:
    if config["trainer"]["max_steps"] < 1:
        raise InputError(f"trainer.max_steps={config['trainer']['max_steps']} must be at least 1")
    precision = config["trainer"]["precision"]
    if precision == "auto":
        accelerator = config["trainer"]["accelerator"]
        on_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
        precision = "bf16-mixed" if on_gpu else "32-true"
    loggers = [
        instantiate(logger, save_dir=str(folder), _convert_="all")
        for logger in (cfg.logger or {}).values()
    ]
    for logger in loggers:
        logger.log_hyperparams(config)
    trainer: Trainer = instantiate(
        cfg.trainer,
        precision=precision,
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        _convert_="all",
    )
    return trainer


class _Card(Callback):
    """Put into every checkpoint what is needed to rebuild its model."""

    def __init__(self, config: dict[str, Any], manifest: dict[str, Any]) -> None:
        self.card = native.metadata(config, manifest)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["trm"] = self.card


def _find_checkpoint(config: dict[str, Any]) -> Path | None:
    """Resolve ``ckpt_path``; ``last`` is the newest ``last.ckpt`` of ``run_dir`` or of all runs."""
    named = config["ckpt_path"]
    if named is None:
        return None
    if named != "last":
        return native.read(named).path.resolve()
    root = Path(config["run_dir"] or "logs")
    found = sorted(root.glob("**/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"ckpt_path=last: no checkpoints/last.ckpt under {root}; give its path")
    return native.read(found[-1]).path.resolve()


@rank_zero_only
def _save_config(cfg: DictConfig, folder: Path) -> None:
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _number(score: Any) -> float | None:
    return None if score is None else float(score)


def _quiet_lightning() -> None:
    """Silence advice that does not apply: our batches need no workers and no shuffling."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*Checkpoint directory.*exists.*"):
        warnings.filterwarnings("ignore", message)


def _main(cfg: DictConfig) -> float | None:
    """Return the validated accuracy, for sweeps."""
    score: float | None = run_training(cfg)["val_exact_accuracy"]
    return score


if __name__ == "__main__":
    run_command(_main, "train")
