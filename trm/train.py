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
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from trm.build import build, check_arguments
from trm.checkpoints import native
from trm.commands import load_data, make_folder, run_command, run_folder
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
    task = build(config["task"], Task, "task")
    model = native.build_model(config["model"], task)
    if config["init_from"] is not None:
        # Rows learned for other puzzles mean nothing here: identifiers_only starts from zero.
        keep_rows = not config["train"]["identifiers_only"]
        native.load_weights(model, native.read(config["init_from"]), keep_rows)
    data = load_data(config["data"], task)
    if resumed is not None:
        native.check_continues(resumed, config, data.manifest["sha256"])
    settings = dict(config["train"])
    batch_sizes = {name: settings.pop(name) for name in ("batch_size", "eval_batch_size")}
    check_arguments(PuzzleDataModule, batch_sizes, "train")
    datamodule = PuzzleDataModule(data, task, seed=config["seed"], **batch_sizes)
    check_arguments(DeepSupervision, settings, "train")
    optimizer = instantiate(cfg.optimizer, _convert_="all")
    module = DeepSupervision(model, task, optimizer, seed=config["seed"], **settings)

    folder = resumed.path.parents[1] if resumed else run_folder(config, task.name)
    best = _keep("best", folder, **config["checkpoint"])
    callbacks = [*_callbacks(cfg, config, data), best, _keep("last", folder)]
    trainer = _trainer(cfg, config, folder, callbacks)
    make_folder(folder)
    for logger in trainer.loggers:
        logger.log_hyperparams(config)
    console = Console(quiet=not trainer.is_global_zero)
    console.print(
        _heading(config, task, data, model, trainer, folder), highlight=False, soft_wrap=True
    )
    if trainer.is_global_zero:
        text = OmegaConf.to_yaml(cfg, resolve=True)
        (folder / "config.yaml").write_text(text, encoding="utf-8")

    start = time.perf_counter()
    trainer.fit(module, datamodule, ckpt_path=resumed.path if resumed else None)
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


def _test_and_report(
    model: RecursiveModel,
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
        console.print(thinking(task, puzzles, evaluation))
    write_json(folder / "result.json", result)
    console.print(f"\nresult      {folder / 'result.json'}", highlight=False, soft_wrap=True)
    if result["checkpoint"]:
        console.print(
            f"checkpoint  {folder / result['checkpoint']}", highlight=False, soft_wrap=True
        )


def _title(task: Task, evaluation: Evaluation, result: dict[str, Any]) -> str:
    return (
        f"{task.name}: {evaluation.n} test puzzles, {result['parameters']:,} parameters, "
        f"{result['steps']} steps in {result['training_wall_time_s']:.0f} s"
    )


def _heading(
    config: dict[str, Any],
    task: Task,
    data: PuzzleData,
    model: RecursiveModel,
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
        f"model    {type(model).__name__}, {_parameters(model):,} parameters",
        f"device   {trainer.strategy.root_device}, {trainer.precision}, "
        f"{torch.get_num_threads()} threads",
        f"folder   {folder}",
    ]
    return "\n".join(lines)


def _callbacks(cfg: DictConfig, config: dict[str, Any], data: PuzzleData) -> list[Callback]:
    callbacks: list[Callback] = [
        TrainingProgress(config["train"]["batch_size"]),
        _Card(config, data.manifest),
    ]
    if cfg.ema is not None:
        callbacks.append(EMA(**config["ema"]))
    return callbacks + list(instantiate(cfg.callbacks or {}, _convert_="all").values())


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
    for name in ("max_steps", "val_check_interval"):
        value = config["trainer"][name]
        if not isinstance(value, int) or value < 1:
            raise InputError(f"trainer.{name}={value} must be a number of steps, at least 1")
    precision = config["trainer"]["precision"]
    if precision == "auto":
        accelerator = config["trainer"]["accelerator"]
        on_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
        precision = "bf16-mixed" if on_gpu else "32-true"
    loggers = [
        instantiate(logger, save_dir=str(folder), _convert_="all")
        for logger in (cfg.logger or {}).values()
    ]
    trainer: Trainer = instantiate(
        cfg.trainer,
        precision=precision,
        log_every_n_steps=config["train"]["log_every_n_steps"],
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


def _parameters(model: RecursiveModel) -> int:
    return sum(p.numel() for p in model.parameters())


def _number(score: Any) -> float | None:
    return None if score is None else float(score)


def _quiet_lightning() -> None:
    """Silence advice that does not apply: our batches need no workers and no shuffling."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
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
