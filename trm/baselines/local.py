"""Language models that run here, through transformers."""

import json
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from trm.baselines.backends import EXTRA, Decoding, Reply, RequestFailed
from trm.baselines.prompts import Message
from trm.support.errors import InputError

_HUB_TIMEOUT_S = 10.0


class LocalModel:
    """A causal language model of a folder, or of the local cache of the Hugging Face Hub.

    A model that is not here is fetched only if ``download`` allows it.

    Raises:
        InputError: transformers is not installed, or there is no such model here
    """

    def __init__(
        self, model: str, decoding: Decoding, device: torch.device, download: bool = False
    ) -> None:
        try:
            import transformers
        except ImportError:
            raise InputError(f"the local model {model} {EXTRA}") from None
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.decoding = decoding
        try:
            tokenizer, loaded = _opened(model, download)
        except InputError:  # a ValueError, too
            raise
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InputError(_why_not(model, download, error)) from None
        self.tokenizer, self.model = tokenizer, loaded.to(device).eval()
        self._one_at_a_time = threading.Lock()

    def complete(self, messages: list[Message]) -> Reply:
        """Answer a prompt; the same prompt gets the same answer whenever it comes."""
        on_gpu = self.model.device.type == "cuda"
        devices = [self.model.device] if on_gpu else []
        with self._one_at_a_time, torch.random.fork_rng(devices):
            text = json.dumps([self.decoding.seed, messages])
            torch.manual_seed(zlib.crc32(text.encode()))
            start = time.perf_counter()
            try:
                return self._generate(messages, start)
            except (RuntimeError, ValueError, IndexError) as error:  # memory, a prompt too long
                raise RequestFailed(f"{type(error).__name__}: {error}") from None

    @torch.inference_mode()
    def _generate(self, messages: list[Message], start: float) -> Reply:
        inputs = self._inputs(messages).to(self.model.device)
        prompt_tokens = inputs["input_ids"].shape[1]
        most = getattr(self.model.config, "max_position_embeddings", None) or 10**9
        if prompt_tokens >= most:
            raise RequestFailed(f"the prompt has {prompt_tokens} tokens, the model reads {most}")
        warm = self.decoding.temperature > 0
        drawn = {"do_sample": True, "temperature": self.decoding.temperature} if warm else {}
        # Without sampling, the settings for it that a model brings along would only warn.
        plain = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        end = self.tokenizer.pad_token_id
        output = self.model.generate(
            **inputs,
            max_new_tokens=min(self.decoding.max_tokens, most - prompt_tokens),
            pad_token_id=self.tokenizer.eos_token_id if end is None else end,
            **(drawn or plain),
        )
        completion = output[0, prompt_tokens:]
        text = self.tokenizer.decode(completion, skip_special_tokens=True)
        return Reply(text, prompt_tokens, len(completion), time.perf_counter() - start)

    def _inputs(self, messages: list[Message]) -> Any:
        if self.tokenizer.chat_template:
            return self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        plain = "\n\n".join(message["content"] for message in messages)
        return self.tokenizer(plain, return_tensors="pt", return_token_type_ids=False)


def _opened(model: str, download: bool) -> tuple[Any, Any]:
    """Return the tokenizer and the model, fetched only if they are not here and may be.

    Raises:
        InputError: the Hugging Face Hub does not answer, or does not have it
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def opened(local: bool) -> tuple[Any, Any]:
        # Code that comes with a model is not run, nor asked about.
        here = {"local_files_only": local, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(model, **here)
        return tokenizer, AutoModelForCausalLM.from_pretrained(model, dtype="auto", **here)

    try:
        return opened(local=True)
    except (OSError, ValueError, KeyError, ImportError):
        if not download or Path(model).is_dir():
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
        if Path(model).is_dir() or isinstance(try_to_load_from_cache(model, "config.json"), str):
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
    if Path(model).is_dir():
        return f"{model} holds no causal language model ({_in_short(error)})"
    if download:
        return f"model {model} cannot be downloaded ({_in_short(error)})"
    return (
        f"model {model} is not on this machine; give --model a folder that holds it (config.json, "
        f"*.safetensors and tokenizer.json), allow --download, or name an endpoint by --base-url"
    )


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
