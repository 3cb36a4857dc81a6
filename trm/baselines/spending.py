"""Money: what requests cost, and a cap that no request in flight can break."""

import threading

from trm.baselines.backends import CapReached
from trm.baselines.prompts import Message
from trm.support.errors import InputError

# Tokens around each message that no prompt shows; OpenAI's formats have about four.
_TOKENS_PER_MESSAGE = 16


class Budget:
    """Counts what is spent and what requests in flight may still cost.

    Args:
        price: USD per million tokens of prompts and of completions
        cap: USD that may be spent, None for no cap
        spent: USD that are spent already

    Raises:
        InputError: a negative price or cap
    """

    def __init__(
        self, price: tuple[float, float], cap: float | None = None, spent: float = 0.0
    ) -> None:
        if not min(price) >= 0 or (cap is not None and not cap >= 0):
            raise InputError(f"--max-usd {cap} and prices {price} must not be negative")
        self.price, self.cap, self.spent = price, cap, spent
        self._in_flight: list[float] = []
        self._settled = threading.Condition()

    def worst(self, messages: list[Message], max_tokens: int) -> float:
        """Bound what a request can cost."""
        return self.cost(self.most_tokens(messages), max_tokens)

    @staticmethod
    def most_tokens(messages: list[Message]) -> int:
        """Bound the tokens of a prompt: none is shorter than a byte."""
        return sum(len(message["content"].encode()) + _TOKENS_PER_MESSAGE for message in messages)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what tokens cost, in USD."""
        return (prompt_tokens * self.price[0] + completion_tokens * self.price[1]) / 1e6

    def reserve(self, worst: float) -> None:
        """Set aside what a request may cost; while others are in flight, wait for what they leave.

        Raises:
            CapReached: it might not be covered
        """
        with self._settled:
            while self.cap is not None and self.spent + sum(self._in_flight) + worst > self.cap:
                if not self._in_flight:
                    raise CapReached(
                        f"the next request may cost {worst:.4f} USD, and {self.spent:.4f} of "
                        f"--max-usd {self.cap:g} are spent"
                    )
                self._settled.wait()
            self._in_flight.append(worst)

    def settle(self, worst: float, usd: float) -> None:
        """Book what a request did cost instead of what was set aside for it."""
        with self._settled:
            self._in_flight.remove(worst)
            self.spent += usd
            self._settled.notify_all()
