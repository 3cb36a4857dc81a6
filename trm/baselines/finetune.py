"""Train a language model further: ``python -m trm.baselines.finetune --model smollm2 ...``.

It sees what a network of ours would see, the training puzzles of an experiment with a fresh
symmetry each time, as text: the prompt of ``trm.baselines.llm``, and the answer, which alone
counts. The folder that it leaves is opened by ``trm.baselines.llm --model FOLDER``.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trm.baselines.llm import data_of
from trm.baselines.local import open_local, prompt_text, source
from trm.baselines.prompts import Message, Prompts, grid_text
from trm.commands import MENDABLE, one_line
from trm.data.sampler import Sampler
from trm.results.files import FORMAT, birth_certificate, write_json
from trm.support.command_line import argument_parser, command, progress_bar
from trm.support.devices import pick_device
from trm.support.errors import InputError
from trm.support.files import check_free, folder_whole
from trm.tasks import Arc

ABOUT = "finetuning.json"
_NO_LOSS = -100  # torch's label for "does not count"
_WARMUP = 0.05  # share of the time in which the rate rises
_CLIP = 1.0


@command(MENDABLE, partial(one_line, config_name="train"))
def main(arguments: Sequence[str] | None = None) -> int:
    """Train and write; 2 if nothing was written."""
    options = _parser().parse_intermixed_args(arguments)
    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size} must be at least 1")
    if not (options.minutes > 0 and options.lr > 0):
        raise InputError(f"--minutes {options.minutes} and --lr {options.lr} must be above 0")
    check_free(options.output, "--output ")
    device = pick_device(options.device)
    task, data, config = data_of(options.task, options.overrides, options.data)
    if isinstance(task, Arc):
        raise InputError("ARC's prompts show the pairs of each task; take Sudoku or mazes")
    prompts = Prompts.read(task, options.template)
    tokenizer, model = open_local(source(options.model))
    model = _savable(model)
    train, augmentations = data.splits["train"], config["augmentations"]
    sampler = Sampler(train, task, options.batch_size, options.seed, augmentations)

    def batch(k: int) -> dict[str, Tensor]:
        puzzles = sampler.batch(k)
        pairs = zip(puzzles.x_input.numpy(), puzzles.y_true.numpy(), strict=True)
        texts = [
            (prompts.messages(x), f"ANSWER:\n```\n{grid_text(task, y)}\n```") for x, y in pairs
        ]
        return {name: rows.to(device) for name, rows in encoded(tokenizer, texts).items()}

    model.to(device)
    told = trained(model, batch, options.minutes * 60, options.lr)
    about = {"format": FORMAT, "model": options.model, "task": task.name, **told}
    about |= {"data_sha256": data.manifest["sha256"], "lr": options.lr, "seed": options.seed}
    about |= {"batch_size": options.batch_size, "certificate": birth_certificate(device)}
    with folder_whole(options.output, "--output ") as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / ABOUT, about)
    print(
        f"{told['steps']} steps of {options.batch_size} puzzles, {told['tokens']:,} tokens, "
        f"{told['seconds'] / 60:.1f} min, loss {told['first_loss']:.2f} to {told['last_loss']:.2f}"
    )
    print(options.output)
    return 0


def _savable(model: Any) -> Any:
    """Return it as one of plain weights: those of a GGUF file are so by now, but marked."""
    if not hasattr(model.config, "quantization_config"):
        return model
    config = deepcopy(model.config)
    del config.quantization_config
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    return plain


def encoded(tokenizer: Any, texts: Sequence[tuple[list[Message], str]]) -> dict[str, Tensor]:
    """Tokenize prompts with their answers, padded on the right; labels are of the answers alone.

    Args:
        tokenizer: of transformers; without a chat template prompts are plain text
        texts: messages, and what is to be replied

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels``, each (batch, longest) int64
    """
    rows, labels = [], []
    for messages, answer in texts:
        asked = tokenizer(
            prompt_text(tokenizer, messages), add_special_tokens=not tokenizer.chat_template
        ).input_ids
        reply = [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        rows.append(torch.tensor(asked + reply))
        labels.append(torch.tensor([_NO_LOSS] * len(asked) + reply))
    masks = [torch.ones_like(row) for row in rows]
    padded = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    return {
        "input_ids": padded(rows),
        "attention_mask": padded(masks),
        "labels": padded(labels, padding_value=_NO_LOSS),
    }


def trained(model: Any, batch: Any, seconds: float, lr: float) -> dict[str, Any]:
    """Train for so long by AdamW; the rate rises at first and falls along a cosine to zero.

    Args:
        model: of transformers; changed in place
        batch: gives step k's tokens
        seconds: on the clock; a step that has begun is ended
        lr: highest learning rate

    Returns:
        steps, tokens, seconds, and the loss of the first and of the last tenth of the steps

    Raises:
        InputError: a loss that is not finite
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    losses: list[float] = []
    tokens, start = 0, time.perf_counter()
    model.train()
    with progress_bar("training", math.ceil(seconds)) as on_seconds:
        while (elapsed := time.perf_counter() - start) < seconds:
            done = elapsed / seconds
            for group in optimizer.param_groups:
                group["lr"] = lr * min(
                    (done + 1e-3) / _WARMUP, 0.5 + 0.5 * math.cos(math.pi * done)
                )
            inputs = batch(len(losses))
            loss = model(**inputs).loss
            if not loss.isfinite():
                raise InputError(f"the loss of step {len(losses)} is {loss}; take a lower --lr")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            tokens += int(inputs["attention_mask"].sum())
            on_seconds(int(elapsed))
    model.eval()
    tenth = max(1, len(losses) // 10)
    first, last = (sum(some) / tenth for some in (losses[:tenth], losses[-tenth:]))
    return {
        **{"steps": len(losses), "tokens": tokens, "seconds": time.perf_counter() - start},
        **{"first_loss": first, "last_loss": last},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("trm.baselines.finetune", __doc__)
    add = parser.add_argument
    add("--model", required=True, help="as trm.baselines.llm takes it")
    add("--task", required=True, help="an experiment of conf/experiment, such as sudoku_4x4")
    add("overrides", nargs="*", help="of the experiment, such as data.train=50")
    add("--output", type=Path, required=True, help="a new folder")
    add("--minutes", type=float, default=10.0, help="of training (10)")
    add("--lr", type=float, default=1e-4, help="highest learning rate (1e-4)")
    add("--batch-size", type=int, default=8, help="puzzles of a step (8)")
    add("--data", help="data.path of the experiment")
    add("--template", type=Path, help="prompt with $puzzle, see trm/baselines/prompts")
    add("--seed", type=int, default=0, help="of the puzzles' order and symmetries (0)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
