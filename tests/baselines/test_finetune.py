"""A language model that is trained further on an experiment's puzzles."""

import json

import pytest
import torch

from tests.baselines.test_llm import SMALL, gguf, granite, offline_and_without_keys
from trm.baselines import finetune, llm
from trm.baselines.local import open_local
from trm.baselines.prompts import Prompts
from trm.tasks import Sudoku

__all__ = ["gguf", "granite", "offline_and_without_keys"]  # fixtures

SOLVED = "1234341221434321"


@pytest.mark.parametrize("kind", ["granite", "gguf"])
def test_it_learns_and_is_opened_like_any_other(kind, request, tmp_path, capsys):
    given, out = request.getfixturevalue(kind), tmp_path / "tuned"
    words = [*SMALL, "--model", str(given), "--output", str(out), "--minutes", "0.1"]
    assert finetune.main([*words, "--lr", "1e-2", "--batch-size", "4"]) == 0
    said = capsys.readouterr().out
    about = json.loads((out / finetune.ABOUT).read_text())
    assert about["last_loss"] < 0.8 * about["first_loss"]
    assert about["seconds"] > 6
    assert f"{about['steps']} steps of 4 puzzles, {about['tokens']:,} tokens" in said
    assert about["certificate"]["torch"] == torch.__version__
    assert llm.main([*SMALL, "--model", str(out), "--max-tokens", "8", "--limit", "2"]) == 0
    before, after = (open_local(str(folder))[1].state_dict() for folder in (given, out))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_answer_alone_counts(granite):
    tokenizer, _ = open_local(str(granite))
    task = Sudoku(2, 2)
    messages = Prompts.read(task).messages(task.encode(SOLVED.replace("1", ".")))
    batch = finetune.encoded(tokenizer, [(messages, "ANSWER: 12"), (messages, "ANSWER: 1")])
    for row, answer in zip(range(2), ("ANSWER: 12", "ANSWER: 1"), strict=True):
        tokens, labels = batch["input_ids"][row], batch["labels"][row]
        counted = labels >= 0
        assert torch.equal(tokens[counted], labels[counted])
        assert tokenizer.decode(labels[counted][:-1]) == answer
        assert labels[counted][-1] == tokenizer.eos_token_id
        read = tokenizer.decode(tokens[~counted & batch["attention_mask"][row].bool()])
        assert messages[0]["content"] in read
        assert read.endswith("assistant: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "0"], "--minutes 0.0 and --lr 0.0001 must be above 0"),
        (["--batch-size", "0"], "--batch-size 0 must be at least 1"),
        (["--lr", "1e9"], "take a lower --lr"),
        (["--model", "nothing/here"], "model nothing/here is not on this machine"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_and_nothing_is_left(
    granite, tmp_path, capsys, words, said
):
    out = tmp_path / "tuned"
    given = [*SMALL, "--model", str(granite), "--output", str(out), "--minutes", "0.2", *words]
    assert finetune.main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not [path for path in tmp_path.iterdir() if "tuned" in path.name]


def test_a_folder_that_holds_something_stays(granite, tmp_path, capsys):
    assert finetune.main([*SMALL, "--model", str(granite), "--output", str(granite)]) == 2
    assert "is not empty; name a new folder" in capsys.readouterr().err
