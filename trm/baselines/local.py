"""Language models that run here, through transformers."""

import json
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import torch

from trm.baselines.backends import EXTRA, Decoding, Reply, RequestFailed
from trm.baselines.prompts import Message
from trm.support.errors import InputError


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
        is_folder = Path(model).is_dir()
        # Code that comes with a model is not run, nor asked about.
        here = {"local_files_only": is_folder or not download, "trust_remote_code": False}
        try:
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model, **here)
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                model, dtype="auto", **here
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InputError(_why_not(model, is_folder, download, error)) from None
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


def _why_not(model: str, is_folder: bool, download: bool, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    if is_folder:
        return f"{model} holds no causal language model ({reason})"
    if download:
        return f"model {model} cannot be downloaded ({reason})"
    return (
        f"model {model} is not on this machine; give --model a folder that holds it (config.json, "
        f"*.safetensors and tokenizer.json), allow --download, or name an endpoint by --base-url"
    )
