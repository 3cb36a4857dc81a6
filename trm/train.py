"""Train a model: ``python -m trm.train experiment=... key=value ...``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from trm.checkpoints import continuing, native
from trm.commands import composed, quiet_lightning, run_command
from trm.data.loading import load_data
from trm.data.module import PuzzleDataModule
from trm.data.puzzles import PuzzleData
from trm.inference.evaluation import evaluate
from trm.report import run
from trm.report.tables import accuracies, bits, result_table
from trm.report.thinking import thinking
from trm.results.files import FORMAT, birth_certificate, read_result, write_json
from trm.support import distributed
from trm.support.build import build
from trm.support.devices import why_precision
from trm.support.energy import Meter, declared_watts, footprint
from trm.support.errors import InputError
from trm.tasks.base import Task
from trm.training.assembly import averaging, data_module, precision, training_module
from trm.training.checks import (
    check_config,
    check_identifiers,
    check_monitors,
    check_processes,
)
from trm.training.guards import DivergenceError
from trm.training.module import DeepSupervision
from trm.training.progress import TrainingProgress
from trm.training.run_folder import kept_folder, run_folder
from trm.training.saving import AtomicCheckpointIO, Clock, LastCheckpoint, RunCard


def run_training(cfg: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train, keep the best checkpoint by validation, test it, and write ``result.json``.

    Args:
        cfg: the composed config ``train``
        overrides: of the command line that made it; kept in checkpoints, so that continuing the
            run need not repeat them

    Returns:
        the contents of ``result.json``

    Raises:
        InputError: a config that cannot be; no folder is left behind
        Stopped: a signal ended training; it can be continued
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    check_config(config)
    quiet_lightning(config["trainer"]["profiler"])
    seed_everything(config["seed"], workers=True, verbose=False)
    resumed = continuing.find(config["ckpt_path"], config["run_dir"])
    task = build(config["task"], Task, "task")
    check_monitors(config, task)
    data = None
    if config["model"].get("identifiers", 1) is None:  # as many as the data has
        data = load_data(config["data"], task)
        config["model"]["identifiers"] = data.identifiers
    model = native.build_model(config["model"], task)
    if config["init_from"] is not None and resumed is None:
        # Rows learned for other puzzles mean nothing here: identifiers_only starts from zero.
        keep_rows = not config["train"]["identifiers_only"]
        native.load_weights(model, native.read(config["init_from"]), keep_rows)
    module = training_module(config, task, model)
    # What takes long comes after what may be refused.
    data = data or load_data(config["data"], task)
    check_identifiers(model, data)
    if resumed is not None:
        continuing.check_continues(resumed, config, data.manifest["sha256"])
    datamodule = data_module(config, task, data)

    folder = resumed and continuing.home(resumed, config["run_dir"])
    folder = folder or run_folder(config, task.name)
    metadata = native.metadata(config, data.manifest, overrides)
    text = OmegaConf.to_yaml(OmegaConf.create(config))
    before = Clock(**resumed.clock) if resumed else Clock()
    card = RunCard(text, metadata, folder, before)
    files = _checkpoint_callbacks(config, folder, resumed)
    trainer = _trainer(cfg, config, folder, [card, *files])
    if trainer.is_global_zero:
        _print_heading(config, module, data, trainer, folder, resumed)
    keeps = not config["trainer"]["fast_dev_run"]
    with kept_folder(folder, begun=lambda: keeps and (card.begun or trainer.global_step > 0)):
        _fit(trainer, module, datamodule, resumed, files)
        result = _result(trainer, module, data, config, card, files)
        _test_and_report(module, data, result, folder, trainer)
    return result


class _Files(NamedTuple):
    """What keeps the checkpoints of a run."""

    best: ModelCheckpoint
    last: LastCheckpoint


def _checkpoint_callbacks(
    config: dict[str, Any], folder: Path, resumed: native.Checkpoint | None
) -> _Files:
    last_path = folder / "checkpoints" / "last.ckpt"
    best = ModelCheckpoint(
        folder / "checkpoints",
        "best",
        monitor=config["checkpoint"]["monitor"],
        mode=config["checkpoint"]["mode"],
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    last = LastCheckpoint(
        last_path,
        config["checkpoint"]["every_n_steps"],
        config["train"]["log_every_n_steps"],
        step=resumed.step if resumed and resumed.path == last_path.resolve() else 0,
    )
    return _Files(best, last)


def _trainer(
    cfg: DictConfig, config: dict[str, Any], folder: Path, callbacks: list[Callback]
) -> Trainer:
    callbacks = [TrainingProgress(config["train"]["batch_size"]), *callbacks]
    callbacks += averaging(config)
    callbacks += instantiate(cfg.callbacks or {}, _convert_="all").values()
    trainer: Trainer = instantiate(
        cfg.trainer,
        precision=precision(config["trainer"]),
        log_every_n_steps=config["train"]["log_every_n_steps"],
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=[
            instantiate(logger, save_dir=str(folder), _convert_="all")
            for logger in (cfg.logger or {}).values()
        ],
        plugins=[
            AtomicCheckpointIO(config["checkpoint"]["light"], config["checkpoint"]["moments"])
        ],
        _convert_="all",
    )
    check_processes(config["train"], trainer.world_size)
    return trainer


def _fit(
    trainer: Trainer,
    module: DeepSupervision,
    datamodule: PuzzleDataModule,
    resumed: native.Checkpoint | None,
    files: _Files,
) -> None:
    """Train to the end, and put the best weights into the model."""
    try:
        trainer.fit(module, datamodule, ckpt_path=resumed.path if resumed else None)
    except DivergenceError as error:
        kept = files.last
        good = f"{kept.path} (step {kept.step})" if kept.step else "none, it was too early"
        raise InputError(f"{error}. The last good checkpoint: {good}") from None
    except RuntimeError as error:
        if trainer.world_size > 1 and distributed.is_loss_of_contact(error):
            said = str(error).partition("\n")[0][:120]
            raise InputError(
                f"process {trainer.global_rank} of {trainer.world_size} lost contact ({said}): "
                f"another one ended, and what it said stands above or in its log; continue with "
                f"ckpt_path={Path(str(files.best.dirpath)) / 'last.ckpt'}"
            ) from None
        raise
    if files.best.best_model_path:
        native.load_weights(module.model, native.read(files.best.best_model_path))


def _result(
    trainer: Trainer,
    module: DeepSupervision,
    data: PuzzleData,
    config: dict[str, Any],
    card: RunCard,
    files: _Files,
) -> dict[str, Any]:
    """Gather what ``result.json`` says of training."""
    best, device, mine = files.best, trainer.strategy.root_device, card.clock
    spent = Clock(*distributed.summed(torch.tensor(mine, dtype=torch.float64)).tolist())
    score = best.best_model_score
    return {
        "format": FORMAT,
        "task": module.task.name,
        "parameters": module.model.size,
        "steps": trainer.global_step,
        "N_sup": module.N_sup,
        "training_wall_time_s": round(mine.wall_time_s, 3),
        "training_cpu_time_s": round(spent.cpu_time_s, 3),  # of all processes
        "footprint": _footprint(config["footprint"], spent, card.meter, device),
        "saving": _saving(trainer).report(),
        "processes": trainer.world_size,
        "device": str(device),
        "precision": str(trainer.precision),
        "checkpoint": best.best_model_path and os.path.relpath(best.best_model_path, card.folder),
        "val_exact_accuracy": None if score is None else float(score),
        "seed": config["seed"],
        "manifest": data.manifest,
        "certificate": birth_certificate(device),
        "config": config,
    }


def _footprint(
    config: dict[str, Any], spent: Clock, meter: Meter | None, device: torch.device
) -> dict[str, Any]:
    """Say what training took: of GPUs by the clock, of a CPU by the cores it kept busy."""
    device_s = spent.wall_time_s if device.type == "cuda" else spent.cpu_time_s
    watts = declared_watts(device, config["watts"])
    source = meter.source if meter is not None else None
    return footprint(device, device_s, spent.energy_j, source, watts, config["co2_g_per_kwh"])


def _saving(trainer: Trainer) -> AtomicCheckpointIO:
    return cast(AtomicCheckpointIO, trainer.strategy.checkpoint_io)


def _test_and_report(
    module: DeepSupervision,
    data: PuzzleData,
    result: dict[str, Any],
    folder: Path,
    trainer: Trainer,
) -> None:
    """Evaluate on the test puzzles, all processes together; the first one tells."""
    config, task = result["config"], module.task
    puzzles = data.splits["test"][: config["test"]["limit"]]
    console = Console(quiet=not trainer.is_global_zero)
    if len(puzzles) and not puzzles.y_true.any():
        console.print("the test puzzles have no solutions to compare with")
    elif len(puzzles):
        batch_size, device = config["train"]["eval_batch_size"], result["device"]
        evaluation = evaluate(
            module.model,
            task,
            puzzles,
            result["N_sup"],
            batch_size,
            device,
            precision=result["precision"],
        )
        result["test"] = accuracies(evaluation)
        result["test_solved"] = bits(evaluation.solved)
        result["test_wall_time_s"] = round(evaluation.wall_time_s, 3)
    if not trainer.is_global_zero:
        return
    write_json(folder / "result.json", result)  # before anything is shown, which a pipe may refuse
    if "test" in result:
        console.print(result_table(evaluation, run.title(result, evaluation.n)))
        console.print(thinking(task, puzzles, evaluation))
    if not config["trainer"]["fast_dev_run"]:
        lines = [
            f"result      {folder / 'result.json'}",
            f"checkpoint  {folder / result['checkpoint']}",
            f"saving      {run.saving(result)}",
            f"footprint   {run.footprint(result)}",
        ]
        console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _print_heading(
    config: dict[str, Any],
    module: DeepSupervision,
    data: PuzzleData,
    trainer: Trainer,
    folder: Path,
    resumed: native.Checkpoint | None,
) -> None:
    on = trainer.strategy.root_device
    why = f" ({why_precision(on)})" if config["trainer"]["precision"] == "auto" else ""
    device = f"{on}, {trainer.precision}{why}"
    model = type(module.model).__name__, module.model.size
    lines = run.heading(data.manifest, *model, device, trainer.world_size, str(folder))
    if resumed is not None:
        light = ", light: fresh puzzles take every slot" if resumed.is_light else ""
        lines.append(f"resumed  at step {resumed.step} from {resumed.path.name}{light}")
    Console().print("\n".join(lines), highlight=False, soft_wrap=True)


def _main(cfg: DictConfig) -> float | None:
    """Return the validated accuracy, for sweeps."""
    overrides = continuing.merged_overrides([], HydraConfig.get().overrides.task)
    resumed = continuing.find(cfg.ckpt_path, cfg.run_dir)
    if resumed is not None and resumed.overrides:
        # The run's own command line comes first: continuing it need not repeat that.
        overrides = continuing.merged_overrides(resumed.overrides, overrides)
        cfg = composed("train", overrides)
    if (
        cfg.ckpt_path == "auto"
        and resumed
        and continuing.is_finished(resumed, cfg.trainer.max_steps)
    ):
        finished = resumed.path.parents[1]
        print(f"the run in {finished} is finished; its result is in {finished / 'result.json'}")
        return read_result(finished)["val_exact_accuracy"]
    score: float | None = run_training(cfg, overrides)["val_exact_accuracy"]
    return score


if __name__ == "__main__":
    run_command(_main, "train")
