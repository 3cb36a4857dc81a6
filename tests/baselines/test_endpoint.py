"""The OpenAI client against a server that fails in every way: real sockets, scripted answers."""

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trm.baselines import endpoint
from trm.baselines.backends import CapReached, Decoding, RequestFailed
from trm.baselines.endpoint import OPENAI, Address, Endpoint
from trm.baselines.spending import Budget
from trm.support.errors import InputError

KEY = "sk-a-key-that-nobody-may-see"
MESSAGES = [{"role": "user", "content": "Solve this."}]


class Server(ThreadingHTTPServer):
    """Answers request after request as scripted, the last for ever.

    Each is a status and a body, or None for silence.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.silence = [], [], threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append((self.path, body, self.headers.get("authorization")))
        script = self.server.script
        answer = script.pop(0) if len(script) > 1 else script[0]
        if answer is None:
            self.server.silence.wait(30)
            return
        status, contents = answer
        text = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.silence.set()
        server.shutdown()
        thread.join()


def answer(text: str = "hm", read: int = 100, written: int = 20) -> tuple[int, dict]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    used = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    known = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    return 200, known | {"choices": [choice], "usage": used}


def error(status: int, said: str = "no", code: str | None = None) -> tuple[int, dict]:
    return status, {"error": {"message": said, "code": code, "type": "t", "param": None}}


def model(server: Server, budget: Budget | None = None, key: str | None = KEY, **settings):
    waits: list[float] = []
    decoding = Decoding(max_tokens=50, temperature=0.5, seed=3)
    made = Endpoint(
        "m",
        Address(server.url, key),
        decoding,
        budget or Budget((1.0, 2.0)),
        sleep=waits.append,
        **settings,
    )
    made.waits = waits
    return made


def test_a_request_says_what_was_asked_and_a_reply_what_it_took(server):
    server.script = [answer("4321")]
    budget = Budget((1.0, 2.0), cap=1.0)
    reply = model(server, budget).complete(MESSAGES)
    ((path, body, key),) = server.requests
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "m",
        "messages": MESSAGES,
        "max_tokens": 50,
        "temperature": 0.5,
        "seed": 3,
    }
    assert key == f"Bearer {KEY}"
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("4321", 100, 20)
    assert reply.usd == budget.spent == pytest.approx((100 * 1 + 20 * 2) / 1e6)
    assert reply.seconds > 0


def test_what_passes_is_tried_again_and_ever_later(server):
    server.script = [error(429), error(500), error(503), answer()]
    asked = model(server)
    assert asked.complete(MESSAGES).text == "hm"
    for tried, wait_s in enumerate(asked.waits):
        assert 0.75 * 2**tried <= wait_s <= 1.25 * 2**tried
    assert len(asked.waits) == 3


def test_an_end_of_tries_is_one_failed_puzzle(server):
    server.script = [error(500, "overloaded")]
    with pytest.raises(RequestFailed, match="overloaded") as failed:
        model(server, retries=2).complete(MESSAGES)
    assert not failed.value.hopeless
    assert failed.value.usd == 0
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "refusal",
    [
        error(401, f"Incorrect API key provided: {KEY}"),
        error(404, "The model `m` does not exist", "model_not_found"),
        error(400, "max_tokens is too large"),
        error(429, "You exceeded your current quota", "insufficient_quota"),
        (200, {"object": "something else"}),
        (200, b"<html>welcome</html>"),
    ],
)
def test_what_will_not_pass_is_not_tried_again_and_tells_no_key(server, refusal):
    server.script = [refusal]
    with pytest.raises(RequestFailed) as failed:
        model(server).complete(MESSAGES)
    assert failed.value.hopeless
    assert len(server.requests) == 1
    assert KEY not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_server_that_sends_the_key_back_does_not_put_it_on_record(server):
    server.script = [answer(f"your key is {KEY}")]
    assert model(server).complete(MESSAGES).text == "your key is ***"
    assert KEY not in repr(model(server).address)


def test_a_lost_answer_is_paid_for(server):
    budget = Budget((1.0, 2.0), cap=1.0)
    server.script = [None, answer()]
    asked = model(server, budget, timeout_s=0.5)
    reply = asked.complete(MESSAGES)
    assert reply.usd == budget.spent == budget.worst(MESSAGES, 50) + 140 / 1e6


def test_nothing_is_sent_that_might_break_the_cap(server):
    server.script = [answer(read=30, written=50)]
    budget = Budget((1.0, 2.0))
    budget.cap = 1.5 * budget.worst(MESSAGES, 50)
    asked = model(server, budget)
    asked.complete(MESSAGES)
    with pytest.raises(CapReached):
        asked.complete(MESSAGES)
    assert len(server.requests) == 1
    assert budget.spent <= budget.cap


def test_threads_together_stay_under_the_cap(server):
    server.script = [answer(read=27, written=50)]
    budget = Budget((1.0, 2.0))
    budget.cap = 10.2 * budget.worst(MESSAGES, 50)
    asked = model(server, budget)

    def ask() -> None:
        for _ in range(10):
            with suppress(CapReached):
                asked.complete(MESSAGES)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(server.requests) == 10
    assert budget.spent == pytest.approx(10 * 127 / 1e6)


def test_a_refused_connection_is_hopeless_at_first_and_passes_later(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    server.script = [answer()]
    asked = model(server, retries=1)
    asked._client.base_url = nobody
    with pytest.raises(RequestFailed, match="Connection refused") as failed:
        asked.complete(MESSAGES)
    assert (failed.value.hopeless, asked.waits) == (True, [])
    asked._client.base_url = server.url
    asked.complete(MESSAGES)
    asked._client.base_url = nobody
    with pytest.raises(RequestFailed) as failed:
        asked.complete(MESSAGES)
    assert (failed.value.hopeless, len(asked.waits)) == (False, 1)


def test_only_openai_is_sent_the_key_of_openai_unasked(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER", "other-key")
    assert Address.of(OPENAI, None).key == KEY
    assert Address.of("http://localhost:8000/v1", None).key is None
    assert Address.of("https://example.org/v1", "OTHER").key == "other-key"
    for url, variable, said in (
        ("https://example.org/v1", None, "--api-key-env"),
        ("http://example.org/v1", "OTHER", "take https"),
        ("https://me:secret@example.org/v1", "OTHER", "must not carry secrets"),
        ("https://example.org/v1", "MISSING", "set the environment variable MISSING"),
        ("example.org", None, "no http URL"),
    ):
        with pytest.raises(InputError, match=said) as refused:
            Address.of(url, variable)
        assert "secret@" not in str(refused.value)


def test_a_server_without_keys_is_sent_none(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.script = [answer("none of it")]
    reply = model(server, key=Address.of(server.url, None).key).complete(MESSAGES)
    assert reply.text == "none of it"
    assert server.requests[0][2] == f"Bearer {endpoint._NO_KEY}"
