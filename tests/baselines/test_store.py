import errno
import io
import json

import pytest

import trm.baselines.store
from trm.baselines.scoring import score
from trm.baselines.store import KIND, Store
from trm.support.errors import InputError

HEADER = {
    "kind": KIND,
    "format": 1,
    "model": "m",
    "backend": "b",
    "task": "sudoku_4x4",
    "task_settings": {"_target_": "trm.tasks.Sudoku", "box_rows": 2, "box_cols": 2},
    "split": "test",
    "data_sha256": "0",
    "shots": 0,
    "certificate": {"commit": "a"},
}
SOLVED = "1234341221434321"
PUZZLE = "1234341221434..."
VALID = "1234341243212143"  # obeys the rules, but for a clue of PUZZLE
USED = {"prompt_tokens": 3, "completion_tokens": 2, "seconds": 1.0, "usd": 0.5}


def said(index: int, reply: str = f"ANSWER: {SOLVED}") -> dict:
    return {"index": index, "puzzle": PUZZLE, "y_true": SOLVED, "reply": reply, **USED}


def failed(index: int) -> dict:
    return {"index": index, "puzzle": PUZZLE, "y_true": SOLVED, "error": "e", "usd": 0.25}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "store.jsonl"


def test_nothing_is_written_before_the_first_reply(path):
    store = Store.open(path, HEADER)
    assert not path.parent.exists()
    store.append(said(0))
    header, line = map(json.loads, path.read_text().splitlines())
    assert header == HEADER
    assert line == said(0)


def test_a_run_goes_on_after_what_has_a_reply_and_errors_stay_paid(path):
    first = Store.open(path, HEADER)
    first.append(said(0))
    first.append(failed(1))
    again = Store.open(path, HEADER | {"certificate": {"commit": "b"}})
    assert (again.has_reply(0), again.has_reply(1), again.has_reply(2)) == (True, False, False)
    assert again.usd == 0.75
    again.append(said(1))
    assert Store.open(path, HEADER).has_reply(1)
    assert Store.read(path).usd == 1.25
    assert (score(again)["n"], score(again)["errors"]) == (2, 0)


def test_a_line_that_was_cut_short_is_dropped_wherever_the_cut_was(path):
    store = Store.open(path, HEADER)
    store.append(said(0))
    store.append(said(1, "half of \ud800 a character\u2028"))
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:cut])
        store = Store.open(path, HEADER)
        assert len(store.entries) == max(0, sum(end <= cut for end in ends) - 1)
        for index in (0, 1):
            if not store.has_reply(index):
                store.append(said(index))
        assert sorted(Store.read(path).entries) == [0, 1]


def test_a_full_disk_leaves_whole_lines(path, monkeypatch):
    store = Store.open(path, HEADER)
    store.append(said(0))
    before = path.read_bytes()

    class Full(io.FileIO):
        def write(self, contents: bytes) -> int:
            super().write(contents[:9])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trm.baselines.store, "open", Full, raising=False)
    with pytest.raises(InputError, match="No space left on device"):
        store.append(said(1))
    assert path.read_bytes() == before


def test_other_settings_are_refused_in_one_line(path):
    Store.open(path, HEADER).append(said(0))
    for changed, message in (
        ({"shots": 3}, "was made with shots=0, now it is 3"),
        ({"model": "n"}, 'model="m", now it is "n"'),
        ({"more": 1}, "more=null, now it is 1"),
    ):
        with pytest.raises(InputError, match=message) as error:
            Store.open(path, HEADER | changed)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "contents",
    [
        "a diary",
        "a diary\n",
        "{}\n",
        "[1]\n",
        '{"kind": "x", "format": 1}\n',
        json.dumps(HEADER) + "\nnot json\n" + json.dumps(said(0)) + "\n",
        json.dumps(HEADER) + '\n{"index": 0}\n',
    ],
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path, contents):
    file = tmp_path / "file"
    file.write_text(contents)
    with pytest.raises(InputError):
        Store.open(file, HEADER)
    assert file.read_text() == contents


def test_replies_are_judged_by_the_task(path):
    store = Store.open(path, HEADER)
    for index, reply in enumerate(("no idea", f"ANSWER: {SOLVED}", f"ANSWER: {VALID}")):
        store.append(said(index, reply))
    store.append(failed(3))
    result = score(Store.read(path))
    assert (result["n"], result["no_grid"], result["errors"]) == (3, 1, 1)
    assert result["exact_accuracy"] == result["valid_accuracy"] == pytest.approx(1 / 3)
    low, high = result["exact_interval"]
    assert 0 < low < 1 / 3 < high < 1
    assert (result["prompt_tokens"], result["completion_tokens"]) == (9, 6)
    assert (result["seconds_median"], result["usd"]) == (1.0, 1.75)
    assert score(store, limit=1)["n"] == 1


def test_a_store_of_errors_has_no_accuracy(path):
    store = Store.open(path, HEADER)
    store.append(failed(0))
    result = score(store)
    assert (result["n"], result["errors"], result["exact_accuracy"]) == (0, 1, None)
    json.dumps(result, allow_nan=False)
