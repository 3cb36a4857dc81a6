"""Ask a backend puzzle by puzzle, keep every reply, and know when to stop."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice

from trm.baselines.backends import Backend, BatchBackend, CapReached, Reply, RequestFailed
from trm.baselines.prompts import Message
from trm.baselines.store import Entry, Store
from trm.support.errors import InputError

_MOST_ERRORS = 20  # in a row


@dataclass(frozen=True)
class Question:
    """A puzzle of a split and its prompt; ``Task.decode`` wrote ``puzzle`` and ``y_true``."""

    index: int
    puzzle: str
    y_true: str
    messages: list[Message]


class Asking:
    """One run over some questions, storing every reply at once; ``on_done`` gets their number."""

    def __init__(
        self, backend: Backend, store: Store, on_done: Callable[[int], None] = lambda done: None
    ) -> None:
        self.backend, self.store, self.on_done = backend, store, on_done
        self.done = self.failed_in_a_row = 0
        self.succeeded = False
        self.stopped: str | None = None

    def run(
        self, questions: Iterator[Question], concurrency: int, batch_size: int = 1
    ) -> str | None:
        """Ask all that have no reply yet; say why, if it ended before the last.

        The first question goes alone: what is wrong with everything shows there. Batches, of a
        ``BatchBackend``, count as one request each.

        Raises:
            InputError: no question can be answered, so none was stored
        """
        waiting = (q for q in questions if not self._is_done(q))
        running: dict[Future[Reply], Question] = {}
        with ThreadPoolExecutor(concurrency) as pool:
            try:
                while not self.stopped:
                    size, most = (batch_size, concurrency) if self.succeeded else (1, 1)
                    while len(running) <= (most - 1) * size:
                        if not (batch := list(islice(waiting, size))):
                            break
                        running |= zip(self._submit(pool, batch), batch, strict=True)
                    if not running:
                        break
                    self._keep(running)
            finally:  # also when interrupted: what was paid for is kept
                while running:
                    self._keep(running)
        return self.stopped

    def _submit(self, pool: ThreadPoolExecutor, batch: list[Question]) -> list[Future[Reply]]:
        if len(batch) == 1:
            return [pool.submit(self.backend.complete, batch[0].messages)]
        futures: list[Future[Reply]] = [Future() for _ in batch]
        pool.submit(self._answer, [question.messages for question in batch], futures)
        return futures

    def _answer(self, prompts: list[list[Message]], futures: list[Future[Reply]]) -> None:
        """Keep what was promised for a batch, whatever happens: others wait for it."""
        try:
            replies = self._together(prompts)
        except Exception as error:
            for future in futures:
                future.set_exception(error)
            return
        for prompt, future, reply in zip(prompts, futures, replies, strict=True):
            try:
                future.set_result(reply or self.backend.complete(prompt))
            except Exception as error:
                future.set_exception(error)

    def _together(self, prompts: list[list[Message]]) -> list[Reply] | list[None]:
        """Answer a batch; None for each if that fails, for the sake of one of them perhaps."""
        assert isinstance(self.backend, BatchBackend)
        try:
            replies = self.backend.complete_batch(prompts)
        except RequestFailed:
            return [None] * len(prompts)
        assert len(replies) == len(prompts)
        return replies

    def _is_done(self, question: Question) -> bool:
        is_done = self.store.has_reply(question.index)
        self._count(is_done)
        return is_done

    def _count(self, done: int) -> None:
        self.done += done
        self.on_done(self.done)

    def _keep(self, running: dict[Future[Reply], Question]) -> None:
        """Wait for some question and store what came of it."""
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            question = running.pop(future)
            entry: Entry = asdict(question)
            try:
                reply = asdict(future.result())
                entry |= {"reply": reply.pop("text")} | reply
                self.succeeded, self.failed_in_a_row = True, 0
            except CapReached as reached:
                self.stopped = self.stopped or str(reached)
                if not reached.usd:
                    continue
                entry |= {"error": str(reached), "usd": reached.usd}
            except RequestFailed as failed:
                if failed.hopeless and not self.succeeded:
                    raise InputError(str(failed)) from None
                entry |= {"error": str(failed), "usd": failed.usd}
                self.failed_in_a_row += 1
                if self.failed_in_a_row >= _MOST_ERRORS:
                    self.stopped = f"{_MOST_ERRORS} requests in a row failed, the last: {failed}"
            self.store.append(entry)
            self._count(1)
