"""Train a model: ``python -m trm.train experiment=... key=value ...``."""

from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from trm.checkpoints import continuing, native
from trm.checkpoints.opening import load_into
from trm.commands import composed, quiet_lightning, run_command
from trm.data.loading import load_data
from trm.data.puzzles import Puzzles
from trm.inference.evaluation import Evaluation, evaluate
from trm.models.recursion import RecursiveModel
from trm.report import run
from trm.report.tables import accuracies, result_table
from trm.report.thinking import thinking
from trm.results.files import bits, read_result, write_json
from trm.support.build import build
from trm.support.devices import why_precision
from trm.tasks.base import Task
from trm.training.assembly import (
    data_module,
    kept_files,
    lightning_trainer,
    other_sizes,
    training_module,
)
from trm.training.checks import check_identifiers, check_monitors
from trm.training.config import TrainingConfig
from trm.training.fitting import TrainingRun, fit, outcome
from trm.training.memory import check_memory
from trm.training.run_folder import kept_folder, run_folder
from trm.training.saving import Clock, RunCard


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
    config = TrainingConfig.of(cfg)
    quiet_lightning(str(config.trainer.profiler or ""))
    seed_everything(config.seed, workers=True, verbose=False)
    training = _assembled(config, overrides)
    trainer, card = training.trainer, training.card
    if trainer.is_global_zero:
        _print_heading(training)
    keeps = not config.trainer.fast_dev_run
    with kept_folder(card.folder, begun=lambda: keeps and (card.begun or trainer.global_step > 0)):
        fit(training)
        result = outcome(training)
        _test_and_report(training, result)
    return result


def _assembled(config: TrainingConfig, overrides: Sequence[str]) -> TrainingRun:
    """Make the parts of a run; whatever may be refused is refused here, before what takes long."""
    resumed = continuing.find(config.ckpt_path, config.run_dir)
    task = build(config.task, Task, "task")
    check_monitors(config, task)
    data = load_data(config.data, task) if config.counts_identifiers else None
    if data is not None:
        config = config.changed("model", identifiers=data.identifiers)
    model = _model(config, task, is_new=resumed is None)
    module = training_module(config, task, model)
    data = data or load_data(config.data, task)
    data.need("train", "val", "test")
    check_identifiers(model, data)
    if resumed is not None:
        continuing.check_continues(resumed, config.plain, data.manifest["sha256"])
        shapes = native.shapes_of(resumed.weights)  # others, where the model's code has changed
        native.check_fits(model, shapes, str(resumed.path))
    puzzles = data_module(config, task, data, other_sizes(config, module))
    folder = resumed and continuing.home(resumed, config.run_dir)
    folder = folder or run_folder(config, task.name)
    metadata = native.metadata(config.plain, data.manifest, overrides)
    text = OmegaConf.to_yaml(OmegaConf.create(config.plain))
    card = RunCard(text, metadata, folder, Clock(**resumed.clock) if resumed else Clock())
    files = kept_files(config, folder, resumed)
    trainer = lightning_trainer(config, folder, [card, *files])
    check_memory(module, config.train.batch_size, trainer)
    return TrainingRun(config, module, puzzles, resumed, card, files, trainer)


def _model(config: TrainingConfig, task: Task, is_new: bool) -> RecursiveModel:
    """Make the model, with the weights that a new run is to start from."""
    model = native.build_model(config.model, task)
    if config.init_from is not None and is_new:
        # Rows learned for other puzzles mean nothing here: identifiers_only starts from zero.
        keep_rows = not config.train.identifiers_only
        load_into(model, config.init_from, task, keep_rows)
    return model


def _print_heading(training: TrainingRun) -> None:
    trainer, model, resumed = training.trainer, training.module.model, training.resumed
    on = trainer.strategy.root_device
    why = f" ({why_precision(on)})" if training.config.trainer.precision == "auto" else ""
    device = f"{on}, {trainer.precision}{why}"
    manifest, folder = training.puzzles.data.manifest, str(training.card.folder)
    name = type(model).__name__
    lines = run.heading(manifest, name, model.size, device, trainer.world_size, folder)
    if resumed is not None:
        light = ", light: fresh puzzles take every slot" if resumed.is_light else ""
        lines.append(f"resumed  at step {resumed.step} from {resumed.path.name}{light}")
    Console().print("\n".join(lines), highlight=False, soft_wrap=True)


def _test_and_report(training: TrainingRun, result: dict[str, Any]) -> None:
    """Evaluate on the test puzzles, all processes together; the first one tells."""
    config, is_first = training.config, training.trainer.is_global_zero
    puzzles = training.puzzles.data.splits["test"][: config.test.limit]
    console = Console(quiet=not is_first)
    if len(puzzles) and not puzzles.y_true.any():
        console.print("the test puzzles have no solutions to compare with")
    elif len(puzzles):
        evaluation = _test(training, puzzles)
        result["test"] = accuracies(evaluation)
        result["test_solved"] = bits(evaluation.solved)
        result["test_wall_time_s"] = round(evaluation.wall_time_s, 3)
    if not is_first:
        return
    folder = training.card.folder
    write_json(folder / "result.json", result)  # before anything is shown, which a pipe may refuse
    if "test" in result:
        console.print(result_table(evaluation, run.title(result, evaluation.n)))
        console.print(thinking(training.module.task, puzzles, evaluation))
    if not config.trainer.fast_dev_run:
        lines = [
            f"result      {folder / 'result.json'}",
            f"checkpoint  {folder / result['checkpoint']}",
            f"saving      {run.saving(result)}",
            f"footprint   {run.footprint(result)}",
        ]
        console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _test(training: TrainingRun, puzzles: Puzzles) -> Evaluation:
    module, trainer = training.module, training.trainer
    return evaluate(
        module.model,
        module.task,
        puzzles,
        module.N_sup,
        training.config.train.eval_batch_size,
        str(trainer.strategy.root_device),
        precision=str(trainer.precision),
    )


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


def main() -> None:
    """Train as the command line says."""
    run_command(_main, "train", continuing.completed)


if __name__ == "__main__":
    main()
