"""Ask a language model: ``python -m trm.baselines.llm --model granite-1b --task sudoku_6x6``."""

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console

from trm.baselines.asking import Asking, Question
from trm.baselines.backends import PRESETS, Backend, Decoding
from trm.baselines.endpoint import OPENAI, Address, Endpoint, is_local
from trm.baselines.local import LocalModel, check_fetchable, source
from trm.baselines.prompts import Prompts, demonstrations, examples_for
from trm.baselines.scoring import score, score_table, summary
from trm.baselines.spending import Budget
from trm.baselines.store import FORMAT, KIND, Store
from trm.commands import MENDABLE, composed, one_line
from trm.data.loading import load_data
from trm.data.puzzles import PuzzleData, Puzzles
from trm.report.fitting import Fitting
from trm.results.files import birth_certificate, write_json
from trm.support.build import build
from trm.support.command_line import command, progress_bar
from trm.support.devices import pick_device
from trm.support.errors import InputError
from trm.support.files import check_writable
from trm.tasks import Arc
from trm.tasks.base import Task

_SPLIT = "test"
_DONE, _STOPPED = 0, 1  # exit status
_CAP_USD = 1.0  # where replies cost money and nobody said how much they may cost


@command(MENDABLE, partial(one_line, config_name="train"))
def main(arguments: Sequence[str] | None = None) -> int:
    """Ask and print; 0 if all puzzles were asked, 1 if it stopped before, 2 if it never began."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    if options.rescore is None and not (options.model and options.task):
        parser.error("give --model and --task, or --rescore FILE")
    _check(options)
    if options.rescore is not None:
        _report(score(Store.read(options.rescore), options.limit), options)
        return _DONE
    return _run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trm.baselines.llm",
        description="Put the test puzzles of an experiment to a language model, in words.",
        epilog="Every reply is stored as it comes; the same command goes on where it stopped. "
        "Exit status: 0 if all puzzles were asked, 1 if it stopped before, 2 if it could not "
        "begin.",
    )
    add = parser.add_argument
    add("--model", help=f"{', '.join(PRESETS)}, a folder, a GGUF file, an identifier")
    add("--task", help="an experiment of conf/experiment, such as sudoku_6x6")
    add("overrides", nargs="*", help="of the experiment, such as data.test=50")
    add("--data", help="data.path of the experiment")
    add("--limit", type=int, help="puzzles, from the first of the test split (all)")
    add("--shots", type=int, default=0, help="solved training puzzles in the prompt (0)")
    add("--seed", type=int, default=0, help="of the shots and of sampling (0)")
    add("--template", type=Path, help="prompt with $puzzle, see trm/baselines/prompts")
    add("--max-tokens", type=int, default=1024, help="of a reply (1024)")
    add("--temperature", type=float, default=0.0, help="0: the likeliest token each time (0)")
    add("--store", type=Path, help="JSON lines (logs/llm/<model>_<task>_<shots>shot.jsonl)")
    add("--output", type=Path, help="file for the numbers, as JSON")
    add("--rescore", type=Path, metavar="FILE", help="score a store again; asks nobody")
    local = parser.add_argument_group("models on this machine")
    local.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    local.add_argument("--batch-size", type=int, default=1, help="puzzles answered together (1)")
    local.add_argument("--download", action="store_true", help="fetch a model that is not here")
    remote = parser.add_argument_group("models behind an OpenAI-style endpoint")
    add = remote.add_argument
    add("--base-url", help=f"up to /v1 ({OPENAI} for OpenAI's models)")
    add("--api-key-env", metavar="NAME", help="variable with the key (OPENAI_API_KEY at OpenAI)")
    add("--concurrency", type=int, default=1, help="requests at a time (1)")
    add("--timeout", type=float, default=120.0, help="seconds for a request (120)")
    add("--retries", type=int, default=5, help="further tries of a request (5)")
    add("--max-usd", type=float, help=f"what a store may cost in all ({_CAP_USD:g})")
    add("--usd-per-million-in", type=float, help="price of prompt tokens")
    add("--usd-per-million-out", type=float, help="price of completion tokens")
    return parser


def _check(options: argparse.Namespace) -> None:
    least = {"limit": 1, "shots": 0, "seed": 0, "concurrency": 1, "retries": 0, "batch_size": 1}
    for name, bound in least.items():
        if getattr(options, name) is not None and getattr(options, name) < bound:
            option = name.replace("_", "-")
            raise InputError(f"--{option} {getattr(options, name)} must be at least {bound}")
    if options.batch_size > 1 and options.temperature:
        raise InputError("--batch-size above 1 needs --temperature 0: draws depend on the batch")
    if not options.timeout > 0:
        raise InputError(f"--timeout {options.timeout} must be more than 0 seconds")
    if options.output:
        check_writable(options.output, "--output ")


def _run(options: argparse.Namespace) -> int:
    decoding = Decoding(options.max_tokens, options.temperature, options.seed)
    base_url = _base_url(options)
    address = None if base_url is None else Address.of(base_url, options.api_key_env)
    if address is not None and options.batch_size > 1:
        raise InputError("--batch-size is for models on this machine; endpoints: --concurrency")
    price, cap = _money(options, base_url)
    if address is None and options.download:
        check_fetchable(source(options.model))  # before puzzles are made, which takes longer
    task, data, _ = data_of(options.task, options.overrides, options.data)
    if isinstance(task, Arc) and options.shots:
        raise InputError("ARC prompts show the pairs of the task asked; leave --shots at 0")
    prompts = Prompts.read(task, options.template)
    header = _header(options, task, data, prompts, base_url)
    total, questions = _questions(options, prompts, data)
    store = Store.open(options.store or _default_store(options), header)
    budget = Budget(price, cap, spent=store.usd)
    if address is None:
        device = pick_device(options.device)
        backend: Backend = LocalModel(source(options.model), decoding, device, options.download)
        concurrency = 1
    else:
        backend = Endpoint(
            _model(options), address, decoding, budget, options.timeout, options.retries
        )
        concurrency = options.concurrency
    with progress_bar("asking", total) as on_done:
        stopped = Asking(backend, store, on_done).run(questions, concurrency, options.batch_size)
    _report(score(store, options.limit), options)
    if stopped is not None:
        print(f"stopped before the last puzzle: {stopped}", file=sys.stderr)
    return _DONE if stopped is None else _STOPPED


def _report(result: dict[str, Any], options: argparse.Namespace) -> None:
    console = Console()
    title = f"{result['task']}: {result['n']} {result['split']} puzzles, {result['model']}"
    console.print(title, style="bold", highlight=False)
    console.print(Fitting(score_table(result)))
    console.print(summary(result), highlight=False)
    if options.output is not None:
        write_json(options.output, result)


def _model(options: argparse.Namespace) -> str:
    return PRESETS[options.model].model if options.model in PRESETS else str(options.model)


def _base_url(options: argparse.Namespace) -> str | None:
    """Return where the model is asked; None for this process."""
    if options.base_url is not None:
        return str(options.base_url).rstrip("/")
    preset = PRESETS.get(options.model)
    return OPENAI if preset is not None and preset.price is not None else None


def _money(
    options: argparse.Namespace, base_url: str | None
) -> tuple[tuple[float, float], float | None]:
    """Return the price of tokens and the cap. Only what is local may be free.

    Raises:
        InputError: a price is missing
    """
    price_in, price_out = options.usd_per_million_in, options.usd_per_million_out
    if (price_in is None) != (price_out is None):
        raise InputError("--usd-per-million-in and --usd-per-million-out go together")
    free = base_url is None or is_local(base_url)
    preset = PRESETS.get(options.model)
    price = preset.price if preset is not None and not free else None
    if price_in is not None:
        price = price_in, price_out
    cap = options.max_usd
    if price is None:
        if not free or cap is not None:
            raise InputError(
                f"the price of {options.model} is not known here; give --usd-per-million-in and "
                f"--usd-per-million-out"
            )
        price = (0.0, 0.0)
    elif cap is None and not free:
        cap = _CAP_USD
    return price, cap


def data_of(
    experiment: str, overrides: Sequence[str], path: str | None
) -> tuple[Task, PuzzleData, dict[str, Any]]:
    """Load the data of an experiment as training does.

    Args:
        experiment: of ``conf/experiment``
        overrides: of its config
        path: ``data.path``, if it is to be said

    Returns:
        task and data, and what the config says of these

    Raises:
        InputError: data that cannot be read
        HydraException: an experiment or override that does not exist
    """
    words = [f"experiment={experiment}", *overrides]
    words += [] if path is None else ["data.path=" + _quoted(path)]
    config: Any = OmegaConf.to_container(composed("train", words), resolve=True)
    task = build(config["task"], Task, "task")
    return task, load_data(config["data"], task), config["data"]


def _quoted(path: str) -> str:
    """Write a path so that Hydra reads it as it is."""
    escaped = path.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _header(
    options: argparse.Namespace,
    task: Task,
    data: PuzzleData,
    prompts: Prompts,
    base_url: str | None,
) -> dict[str, Any]:
    on_device = pick_device(options.device) if base_url is None else torch.device("cpu")
    return {
        "kind": KIND,
        "format": FORMAT,
        "model": _model(options),
        "backend": "transformers" if base_url is None else base_url,
        "task": task.name,
        "task_settings": task.settings(),
        "experiment": options.task,
        "split": _SPLIT,
        "data_sha256": data.manifest["sha256"],
        "template": hashlib.sha256(prompts.template.encode()).hexdigest(),
        "shots": options.shots,
        "seed": options.seed,
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        **({"batch_size": options.batch_size} if options.batch_size > 1 else {}),
        "certificate": birth_certificate(on_device),
    }


def _default_store(options: argparse.Namespace) -> Path:
    name = Path(options.model).name
    text = f"{name}_{options.task}_{options.shots}shot"
    return Path("logs", "llm", re.sub(r"[^\w.-]+", "-", text) + ".jsonl")


def _questions(
    options: argparse.Namespace, prompts: Prompts, data: PuzzleData
) -> tuple[int, Iterator[Question]]:
    """Count the puzzles of the test split, and return them with prompts made when wanted."""
    task, puzzles = prompts.task, data.splits[_SPLIT][: options.limit]
    if isinstance(task, Arc):
        shown: Sequence[Puzzles | None] = demonstrations(data, puzzles)
    else:
        shown = [examples_for(data, options.shots, options.seed)] * len(puzzles)
    triples = zip(puzzles.x_input, puzzles.y_true, shown, strict=True)
    questions = (
        Question(index, task.decode(x_input), task.decode(y_true), prompts.messages(x_input, few))
        for index, (x_input, y_true, few) in enumerate(triples)
    )
    return len(puzzles), questions


if __name__ == "__main__":
    sys.exit(main())
