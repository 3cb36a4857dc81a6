"""Write the pages that code and configs know better: ``docs/generated``, never committed."""

import io
import json
import os
import runpy
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args, get_type_hints
from unittest.mock import patch

import yaml

import trm
import trm.models
import trm.tasks
from trm.__main__ import COMMANDS
from trm.__main__ import main as run_trm
from trm.serve import PAGE
from trm.support.config_help import Commented, plain

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CONF = ROOT / "conf"
NOTEBOOKS = ROOT / "notebooks"
PLAY = PAGE / "index.html"  # solves in the browser; "make demo" builds it

# Commands that are no word of "trm".
FURTHER = ("trm.export.solve", "trm.baselines.llm", "trm.baselines.finetune")
CONFIGS = {
    CONF / "train.yaml": "trm.train",
    CONF / "evaluate.yaml": "trm.evaluate",
    ROOT / "experiments" / "run.yaml": "experiments.run",
}
# What users write against as well, though no public name mentions it.
BESIDE = ("trm.inference.selectors.Signals",)
# Options of these groups are whole recipes: their YAML says more than a table.
RECIPES = ("experiment", "ablation", "debug")


def write(folder: Path) -> None:
    """Write every page, leaving alone what is as it should be: Sphinx reads the others again."""
    wanted = {folder / name: text for name, text in pages().items()}
    for path in {*folder.rglob("*.md")} - {*wanted}:
        path.unlink()  # of a notebook that is no longer there
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the text of every page by its name within the folder."""
    return {name: make() for name, make in INCLUDED.items()} | tutorials()


def play() -> str:
    """Link the page that solves in the browser, if it is there."""
    link = '<p><a href="play/index.html">Solve a puzzle in the browser</a></p>'
    return f"{link}\n" if PLAY.is_file() else "\n"


def command_line() -> str:
    """Show what every command answers to ``--help``."""
    words = [name for name, command in COMMANDS.items() if find_spec(command.module)]
    told = {"trm": ["trm"], **{f"trm {name}": ["trm", name] for name in words}}
    told |= {f"python -m {module}": [module] for module in FURTHER}
    return "\n".join(
        f"## {typed}\n\n```text\n$ {typed} --help\n{_help(call)}```\n"
        for typed, call in told.items()
    )


def _help(call: Sequence[str]) -> str:
    out = io.StringIO()
    with (
        patch.object(sys, "argv", [*call, "--help"]),
        patch.object(sys.modules["__main__"], "__spec__", None),  # trm sets it
        patch.dict(os.environ, COLUMNS="100"),
        redirect_stdout(out),
        suppress(SystemExit),
    ):
        run_trm() if call[0] == "trm" else runpy.run_module(call[0], run_name="__main__")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def configuration() -> str:
    """Tell every key of every config, with its comment."""
    text = ""
    for file, module in CONFIGS.items():
        text += f"## Keys of `{module}`\n\n{_keys(file)}\n"
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir()):
        text += f"## {folder.name}\n\n"
        files = sorted(folder.glob("*.yaml"))
        if folder.name in RECIPES:
            text += "".join(_recipe(file) for file in files)
        else:
            text += "".join(_option(file) for file in files)
    return text


def _option(file: Path) -> str:
    """Show an option of a group: what it is, what it begins with, its keys."""
    inherits = Commented.of(file.read_text(encoding="utf-8")).inherits
    text = f"### `{file.parent.name}={file.stem}`\n\n"
    if about := heading(file):
        text += f"{about}.\n\n"
    if inherits:
        text += f"Begins with {' and '.join(f'`{name}`' for name in inherits)}.\n\n"
    return text + _keys(file, f"{file.parent.name}.")


def _recipe(file: Path) -> str:
    body = file.read_text(encoding="utf-8").partition("_global_\n")[2]
    lines = body.splitlines()
    while lines and lines[0].startswith("#"):
        del lines[0]
    text = f"### `{file.parent.name}={file.stem}`\n\n{heading(file)}.\n\n"
    return text + "```yaml\n" + "\n".join(lines).strip("\n") + "\n```\n\n"


def _keys(file: Path, prefix: str = "") -> str:
    """Return a table of a file's keys, their values and what the comments say."""
    text = file.read_text(encoding="utf-8")
    config, comments = yaml.safe_load(text) or {}, Commented.of(text)
    groups = "".join(
        f"| `{group}` | `{option}` | {_cell(comments.groups.get(group, ''))} |\n"
        for group, option in _groups(config.get("defaults", []))
    )
    rows, told = "", set[str]()
    for key, value in _flat(config):
        section = key.rpartition(".")[0]
        about = comments.keys.get(key) or (section not in told and comments.keys.get(section)) or ""
        told.add(section)  # whose comment stands at its first key
        rows += f"| `{prefix}{key}` | `{plain(value)}` | {_cell(about)} |\n"
    text = ""
    if groups and not prefix:
        text += f"| group | option | what it is |\n| --- | --- | --- |\n{groups}\n"
    return text + (f"| key | value | what it is |\n| --- | --- | --- |\n{rows}\n" if rows else "")


def _groups(defaults: list[Any]) -> Iterator[tuple[str, str]]:
    for entry in defaults:
        if isinstance(entry, Mapping):
            for name, option in entry.items():
                if "hydra/" not in name:
                    yield name.removeprefix("optional "), plain(option)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if not prefix and name in ("defaults", "hydra"):
            continue
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(text: str) -> str:
    """Keep what Markdown would read as markup as it is."""
    for symbol in "\\|<>*_[]$":
        text = text.replace(symbol, f"\\{symbol}")
    return text


def heading(file: Path) -> str:
    """Return the comment that a config begins with, in one line, without a full stop."""
    said = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            said.append(line.removeprefix("#").strip())
    return _cell(" ".join(said).rstrip("."))


def since() -> str:
    """List the overlays of ``conf/ablation`` that are no ablations of the paper."""
    return _overlays(of_paper=False)


def ablations() -> str:
    """List those that are rows of the paper's tables."""
    return _overlays(of_paper=True)


def _overlays(of_paper: bool) -> str:
    told = {file.stem: heading(file) for file in sorted((CONF / "ablation").glob("*.yaml"))}
    rows = "".join(
        f"| `{name}` | {text} |\n"
        for name, text in told.items()
        if text.startswith("Table ") == of_paper
    )
    return f"| `ablation=` | what it changes |\n| --- | --- |\n{rows}"


def api() -> str:
    """Say which objects autodoc is to describe, each of them once."""
    groups = {
        "Names of `trm`": [f"trm.{name}" for name in trm.__all__ if name[0] != "_"],
        "Models": [f"trm.models.{name}" for name in trm.models.__all__],
        "Tasks": [f"trm.tasks.{name}" for name in trm.tasks.__all__],
        "Beside them": list(BESIDE),
    }
    text, told = "", dict[int, Any]()
    for title, names in groups.items():
        things = {name: _named(name) for name in names}
        if title == "Beside them":
            things |= {f"{t.__module__}.{t.__qualname__}": t for t in _mentioned(told.values())}
        text += f"## {title}\n\n```{{eval-rst}}\n"
        for name, thing in sorted(things.items()):
            if id(thing) not in told:
                told[id(thing)] = thing
                text += _described(name, thing)
        text += "```\n\n"
    return text


def _described(name: str, thing: Any) -> str:
    if not isinstance(thing, type):
        return f".. auto{'function' if callable(thing) else 'data'}:: {name}\n\n"
    if issubclass(thing, Exception):
        return f".. autoexception:: {name}\n\n"
    return f".. autoclass:: {name}\n   :members:\n   :show-inheritance:\n\n"


def _named(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def _mentioned(things: Iterable[Any]) -> list[type]:
    """Find the classes of ours that things take, give and come from, and those in turn."""
    found, left = list[type](), [*things]
    while left:
        for kind in _kinds(left.pop()):
            if kind not in found:
                found.append(kind)
                left.append(kind)
    return found


def _kinds(thing: Any) -> Iterator[type]:
    hints: list[Any] = [thing]
    if isinstance(thing, type):
        hints += [*thing.__bases__, getattr(thing, "options_class", None)]
        members = [m for name, m in vars(thing).items() if name == "__init__" or name[0] != "_"]
        members = [getattr(m, "fget", None) or getattr(m, "__func__", m) for m in members]
    else:
        members = []
    for member in (thing, *members):
        with suppress(NameError, TypeError):  # imported for type checkers alone, or no function
            hints += get_type_hints(member).values()
    while hints:
        hint = hints.pop()
        hints += hint if isinstance(hint, list) else get_args(hint)
        if isinstance(hint, type) and hint.__module__.startswith("trm."):
            yield hint


def tutorials() -> dict[str, str]:
    """Turn the notebooks into pages: text, code and the outputs that they keep."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        first, *others = [_written(cell) for cell in cells]
        note = f"Run it: `notebooks/{path.name}`. The tests run it as well."
        found[f"tutorials/{path.stem}.md"] = "\n\n".join([first, note, *others]) + "\n"
    return found


def _written(cell: Mapping[str, Any]) -> str:
    source = "".join(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        return source
    blocks = [f"```python\n{source}\n```"]
    if text := "".join(map(_text, cell["outputs"])).rstrip():
        blocks.append(f"````text\n{text}\n````")
    for output in cell["outputs"]:
        if encoded := output.get("data", {}).get("image/png"):
            picture = "".join(encoded).replace("\n", "")
            blocks.append(f"![what the cell draws](data:image/png;base64,{picture})")
    return "\n\n".join(blocks)


def _text(output: Mapping[str, Any]) -> str:
    """Return what an output prints: streams bit by bit, all else on lines of its own."""
    if "text" in output:
        return "".join(output["text"])
    data = output.get("data", {})
    text = "" if "image/png" in data else "".join(data.get("text/plain", ""))
    return text and text.rstrip("\n") + "\n"


# Pages that another page includes; Sphinx builds none of its own from them.
INCLUDED = {
    "play.md": play,
    "command_line.md": command_line,
    "configuration.md": configuration,
    "since.md": since,
    "ablations.md": ablations,
    "api.md": api,
}
