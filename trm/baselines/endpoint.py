"""Language models behind an endpoint that speaks as OpenAI's does."""

import ipaddress
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from trm.baselines.backends import EXTRA, CapReached, Decoding, Reply, RequestFailed
from trm.baselines.prompts import Message
from trm.baselines.spending import Budget
from trm.support.errors import InputError

OPENAI = "https://api.openai.com/v1"
_NO_KEY = "none"  # what a server without keys is sent, since the client insists on one
_SHORTEST_SECRET = 8  # characters; shorter keys are words such as "none", and words are no secret
_RETRIED = (408, 409, 429)  # and all of 500 and above
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Address:
    """Where an endpoint is, and the key it asks for.

    Attributes:
        base_url: up to and with ``/v1``
        key: sent with every request, and nowhere else; None for a server without keys
    """

    base_url: str
    key: str | None

    @classmethod
    def of(cls, base_url: str, api_key_env: str | None) -> "Address":
        """Look up the key that belongs to a URL; a local server needs none.

        Args:
            base_url: up to and with ``/v1``
            api_key_env: environment variable that holds the key; None for OPENAI_API_KEY at OpenAI

        Raises:
            InputError: no such URL, no key, or one that would travel in the open
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"--base-url {base_url} is no http URL such as {OPENAI}")
        if parts.username or parts.password or parts.query:
            raise InputError("--base-url must not carry secrets; name them by --api-key-env")
        if api_key_env is None and is_openai(base_url):
            api_key_env = "OPENAI_API_KEY"
        if api_key_env is None:
            if is_local(base_url):
                return cls(base_url, None)
            # OPENAI_API_KEY is OpenAI's: nobody else is sent it unasked.
            raise InputError(f"{base_url} needs --api-key-env, the variable that holds its key")
        key = os.environ.get(api_key_env, "").strip()
        if not key:
            raise InputError(f"{base_url} needs a key; set the environment variable {api_key_env}")
        if parts.scheme == "http" and not is_local(base_url):
            raise InputError(f"--base-url {base_url} would send the key unencrypted; take https")
        return cls(base_url, key)

    def __repr__(self) -> str:
        return f"Address({self.base_url})"  # a key is in no message, not even by accident


class Endpoint:
    """A model at an endpoint, asked again after failures that pass.

    Args:
        model: as the endpoint calls it
        address: where it is
        decoding: how replies are drawn
        budget: what may be spent
        timeout_s: seconds until a request counts as lost
        retries: further tries of a request
        sleep: how to wait

    Raises:
        InputError: openai is not installed
    """

    def __init__(
        self,
        model: str,
        address: Address,
        decoding: Decoding,
        budget: Budget,
        timeout_s: float = 120.0,
        retries: int = 5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise InputError(f"the endpoint {address.base_url} {EXTRA}") from None
        self.model, self.address, self.decoding, self.budget = model, address, decoding, budget
        self.retries, self.sleep = retries, sleep
        self.reached = False  # whether a request was ever answered
        self._openai = openai
        self._client: Any = openai.OpenAI(
            api_key=address.key or _NO_KEY,
            base_url=address.base_url,
            timeout=timeout_s,
            max_retries=0,  # the cap has to know of every single request
        )

    def complete(self, messages: list[Message]) -> Reply:
        """Send a prompt, again and ever later while there is hope."""
        worst, usd = self.budget.worst(messages, self.decoding.max_tokens), 0.0
        for tried in range(self.retries + 1):
            try:
                self.budget.reserve(worst)
            except CapReached as reached:
                raise CapReached(str(reached), usd) from None
            cost = worst  # unless we learn better: an answer that was lost is paid for
            try:
                reply = self._ask(messages)
                cost = self.budget.cost(reply.prompt_tokens, reply.completion_tokens)
                self.reached = True
                return replace(reply, usd=usd + cost)
            except self._openai.OpenAIError as error:
                # What was refused is not paid for; what timed out may have been answered.
                cost = 0.0 if isinstance(error, self._openai.APIStatusError) else worst
                failed = RequestFailed(self._scrubbed(error), self._is_hopeless(error), usd + cost)
                if failed.hopeless or tried == self.retries or not self._may_pass(error):
                    raise failed from None
                wait_s = _wait_s(tried, error)
            finally:
                self.budget.settle(worst, cost)
            usd += cost
            self.sleep(wait_s)
        raise AssertionError("the last try has returned or raised")

    def _ask(self, messages: list[Message]) -> Reply:
        start = time.perf_counter()
        try:
            answer = self._client.chat.completions.create(
                model=self.model,
                messages=messages,
                max_tokens=self.decoding.max_tokens,
                temperature=self.decoding.temperature,
                seed=self.decoding.seed,
            )
            seconds = time.perf_counter() - start
            text = answer.choices[0].message.content or ""
            used = answer.usage
            # Where they are not told, the bounds that were set aside.
            read = used.prompt_tokens if used else self.budget.most_tokens(messages)
            written = used.completion_tokens if used else self.decoding.max_tokens
        except (ValueError, AttributeError, IndexError, TypeError):  # no JSON, or another form
            raise self._openai.OpenAIError("the endpoint's answer is no chat completion") from None
        return Reply(self._without_key(text), int(read), int(written), seconds)

    def _is_hopeless(self, error: Exception) -> bool:
        """Tell whether all requests will fail alike, as far as one can know."""
        if isinstance(error, self._openai.APITimeoutError):
            return False
        if not isinstance(error, self._openai.APIStatusError):  # nobody there, or someone else
            return not self.reached
        if getattr(error, "code", None) == "insufficient_quota":
            return True
        return not self._may_pass(error)

    def _may_pass(self, error: Exception) -> bool:
        if isinstance(error, self._openai.APIConnectionError):  # and timeouts, which are among them
            return True
        status = getattr(error, "status_code", 0)
        return status in _RETRIED or status >= 500

    def _scrubbed(self, error: Exception) -> str:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        message = f"{self.address.base_url}, model {self.model}: {error}{cause}"
        return self._without_key(" ".join(message.split()))[:500]

    def _without_key(self, text: str) -> str:
        key = self.address.key
        return text.replace(key, "***") if key and len(key) >= _SHORTEST_SECRET else text


def is_openai(base_url: str) -> bool:
    """Tell whether a URL is OpenAI's own."""
    return urlsplit(base_url).hostname == urlsplit(OPENAI).hostname


def is_local(base_url: str) -> bool:
    """Tell whether a URL is of this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wait_s(tried: int, error: Exception) -> float:
    """Double the wait with every try; the jitter keeps threads from coming back all at once."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        retry_after_s = float(headers.get("retry-after", 0))
    except ValueError:  # a date
        retry_after_s = 0.0
    wait_s: float = max(retry_after_s, 2.0**tried) * random.uniform(0.75, 1.25)
    return min(_LONGEST_WAIT_S, wait_s)
