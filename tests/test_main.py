"""``trm`` and its words: what it says on its own, and how it passes on to the commands."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.test_package import loaded_after
from trm import __main__ as trm_words
from trm import __version__, solve
from trm.support.command_line import argument_parser, program, said_as_typed
from trm.support.completion import complete
from trm.support.config_help import config_help
from trm.support.files import CONF


@pytest.fixture
def typed(monkeypatch, capsys):
    """Type words after ``trm``; gives exit status, output and errors."""
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # put back afterwards

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/trm", *words])
        status = trm_words.main()
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)], ids=" ".join)
def test_trm_alone_says_what_to_do_first_on_one_screen(words, typed):
    status, out, _ = typed(*words)
    lines = out.splitlines()
    assert status == 0
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[3].split()[:2] == ["trm", "solve"]


def test_trm_alone_imports_nothing_heavy():
    modules = loaded_after("import sys, trm.__main__; sys.argv = ['trm']; trm.__main__.main()")
    assert not modules & {"torch", "numpy", "hydra", "rich"}


def test_it_knows_its_version(typed):
    assert typed("--version") == (0, f"trm {__version__}\n", "")


@pytest.mark.parametrize(("word", "meant"), [("sovle", "solve"), ("eval", "evaluate")])
def test_an_unknown_command_gets_one_line_and_the_nearest(word, meant, typed):
    status, out, err = typed(word, "and", "more")
    assert (status, out) == (2, "")
    assert err == f"error: {word} is no command of trm; did you mean {meant}?\n"


def test_a_part_that_is_not_installed_is_named_in_one_line_and_not_offered(typed, monkeypatch):
    missing = trm_words.Command("trm.tomorrow", "bring what is to come", "")
    monkeypatch.setitem(trm_words.COMMANDS, "tomorrow", missing)
    status, out, err = typed("tomorrow")
    assert (status, out) == (2, "")
    assert err == "error: trm tomorrow is not part of this installation: there is no trm.tomorrow\n"
    assert "tomorrow" not in typed()[1]


def test_a_word_calls_the_main_function_of_its_command_and_gives_its_exit_status(typed):
    status, out, _ = typed("describe", "sudoku-6x6")
    assert status == 0
    assert "sudoku_6x6" in out
    assert sys.argv == ["trm describe", "sudoku-6x6"]
    status, _, err = typed("describe", "/no/such/file")
    assert status == 2
    assert err.startswith("error: ")


@pytest.mark.parametrize("name", trm_words.COMMANDS)
def test_processes_that_a_command_starts_begin_as_with_python_m(name, typed, monkeypatch):
    called = []
    fake = type("Module", (), {"main": staticmethod(lambda: called.append(sys.argv[1:]))})
    monkeypatch.setattr(importlib, "import_module", lambda module: fake)
    assert typed(name, "-m", "a=1,2")[0] == 0
    assert called == [["-m", "a=1,2"]]
    spec = sys.modules["__main__"].__spec__
    assert spec.name in (f"trm.{name}", f"trm.{name}.__main__")
    assert "main" in Path(spec.origin).read_text()


def test_the_installed_script_calls_it():
    text = (Path(trm_words.__file__).parents[1] / "pyproject.toml").read_text()
    assert tomllib.loads(text)["project"]["scripts"] == {"trm": "trm.__main__:main"}


def test_a_usage_names_what_was_typed(monkeypatch):
    for argv0, name in (("trm solve", "trm solve"), ("/x/trm/solve.py", "python -m trm.solve")):
        monkeypatch.setattr(sys, "argv", [argv0])
        assert solve._parser().prog == program("trm.solve") == name
    monkeypatch.setattr(sys, "argv", ["python -m trm export"])
    text = "python -m trm.export x; python -m trm.export.solve y"
    said = "python -m trm export x; python -m trm.export.solve y"
    assert said_as_typed(text, "trm.export") == said
    assert argument_parser("trm.export", text).description == said


def test_the_help_of_a_config_names_what_was_typed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["trm train"])
    config_help("train", {}, {}, [CONF])
    assert "Train a model: trm train " in capsys.readouterr().out


def test_python_m_trm_is_the_same_program():
    command = [sys.executable, "-m", "trm", "sovle"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean solve?" in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trm tr", "train"),
        ("trm train experiment=maze_1", "experiment=maze_10x10"),
        ("trm evaluate checkp", "checkpoint="),
        ("trm solve sud", ""),
    ],
)
def test_a_shell_completes_commands_and_their_configs(line, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["trm", "-sc", "query=bash"])
    monkeypatch.setenv("COMP_LINE", line)
    complete([*trm_words.COMMANDS])
    assert capsys.readouterr().out.strip() == words
