import threading

import pytest

from tests.baselines.test_store import HEADER, PUZZLE, SOLVED
from trm.baselines.asking import Asking, Question
from trm.baselines.backends import CapReached, Reply, RequestFailed
from trm.baselines.scoring import score
from trm.baselines.spending import Budget
from trm.baselines.store import Store
from trm.support.errors import InputError

MESSAGES = [{"role": "user", "content": "0123456789"}]


def questions(count: int):
    return (Question(index, PUZZLE, SOLVED, MESSAGES) for index in range(count))


class Scripted:
    """Answers request by request as told, from whichever thread it is asked."""

    def __init__(self, script) -> None:
        self.script, self.asked, self.lock = script, 0, threading.Lock()

    def complete(self, messages):
        with self.lock:
            said = self.script(self.asked)
            self.asked += 1
        if isinstance(said, Exception):
            raise said
        return Reply(said, 10, 5, 0.1, 0.0)


def nonsense(number: int):
    odd = (
        "",
        "\x00",
        "ANSWER:",
        "```",
        "\ud800",
        "1234\n" * 50,
        "[" * 99,
        f"ANSWER: {SOLVED[:-1]}",
    )
    if number % 10 == 3:
        return RequestFailed(f"failure {number}", hopeless=True)
    return odd[number % len(odd)]


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_run_survives_a_thousand_bad_replies_and_counts_them(tmp_path, concurrency):
    store = Store.open(tmp_path / "store.jsonl", HEADER)
    assert Asking(Scripted(nonsense), store).run(questions(1000), concurrency) is None
    result = score(Store.read(store.path))
    assert (result["n"], result["no_grid"], result["errors"]) == (900, 900, 100)
    assert (result["exact_accuracy"], result["valid_accuracy"]) == (0, 0)
    good = Scripted(lambda number: f"ANSWER: {SOLVED}")
    Asking(good, store).run(questions(1000), concurrency)
    assert good.asked == 100  # those without a reply
    assert score(store)["exact_accuracy"] == 0.1


def test_a_first_failure_that_concerns_all_leaves_no_store(tmp_path):
    store = Store.open(tmp_path / "store.jsonl", HEADER)
    backend = Scripted(lambda number: RequestFailed("no such model", hopeless=True))
    with pytest.raises(InputError, match="no such model"):
        Asking(backend, store).run(questions(10), 4)
    assert backend.asked == 1
    assert not store.path.exists()


def test_twenty_failures_in_a_row_end_a_run(tmp_path):
    store = Store.open(tmp_path / "store.jsonl", HEADER)
    backend = Scripted(lambda number: RequestFailed("timeout") if number else "hm")
    stopped = Asking(backend, store).run(questions(100), 1)
    assert stopped == "20 requests in a row failed, the last: timeout"
    assert backend.asked == 21
    assert score(store)["errors"] == 20


def test_what_is_in_flight_when_the_cap_is_reached_is_kept(tmp_path):
    store = Store.open(tmp_path / "store.jsonl", HEADER)
    backend = Scripted(lambda number: CapReached("spent") if number == 5 else "hm")
    assert Asking(backend, store).run(questions(100), 4) == "spent"
    assert len(store.entries) == backend.asked - 1


def test_an_interrupted_run_keeps_what_was_paid_for(tmp_path):
    store = Store.open(tmp_path / "store.jsonl", HEADER)
    backend = Scripted(lambda number: "hm")

    def interrupt(done: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Asking(backend, store, interrupt).run(questions(100), 4)
    assert len(store.entries) == backend.asked


def test_the_worst_case_counts_a_token_for_every_byte_and_all_that_may_be_said():
    budget = Budget((2.0, 10.0))
    assert budget.most_tokens(MESSAGES) == 10 + 16
    assert budget.worst(MESSAGES, 100) == pytest.approx((26 * 2 + 100 * 10) / 1e6)


def test_spent_and_in_flight_together_stay_under_the_cap():
    budget = Budget((1.0, 1.0), cap=1.0, spent=0.25)
    budget.reserve(0.5)
    budget.settle(0.5, 0.125)
    with pytest.raises(CapReached, match=r"may cost 0.6300 USD, and 0.3750 of --max-usd 1"):
        budget.reserve(0.63)
    budget.reserve(0.625)  # to the cent
    with pytest.raises(InputError, match="must not be negative"):
        Budget((-1.0, 0.0))


def test_a_request_waits_for_what_those_in_flight_leave():
    budget, asked = Budget((1.0, 1.0), cap=1.0), threading.Event()
    budget.reserve(0.75)

    def ask() -> None:
        budget.reserve(0.75)
        asked.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert not asked.wait(0.1)
    budget.settle(0.75, 0.25)
    assert asked.wait(5)
    thread.join()
