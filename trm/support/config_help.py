"""The help of a command with a config: its groups, and its keys with their comments."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trm.support.command_line import said_as_typed

_KEY = re.compile(r"( *)([\w']+):([^#]*?)(?: +# *(.*))?")
_GROUP = re.compile(r" *- (?:optional )?(\w+): [^#]*?(?: +# *(.*))?")
_COMMENT = re.compile(r" *# ?(.*)")
_AS_TRAINED = "as_trained"  # an option for commands alone whose default it is


@dataclass
class Commented:
    """What the comments of a config file say.

    Attributes:
        heading: the first line
        groups: comments in the list ``defaults``, by group; those that have none, too
        keys: comments on keys and sections, by their dotted names
        inherits: other options of the same group that it begins with
        is_recipe: whether its keys are those of the whole config, and not of its group
    """

    heading: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    inherits: list[str] = field(default_factory=list)
    is_recipe: bool = False

    @classmethod
    def of(cls, text: str) -> "Commented":
        """Read a file; a comment on a line of its own goes on with the one above it."""
        found = cls()
        above: list[tuple[int, str]] = []  # sections around a line, with their indents
        last = ""
        for line in text.splitlines():
            if match := _GROUP.fullmatch(line):
                found.groups[match[1]] = match[2] or ""
            elif match := _KEY.fullmatch(line):
                above = [section for section in above if section[0] < len(match[1])]
                above.append((len(match[1]), match[2].strip("'")))
                last = ".".join(name for _, name in above)
                found.keys[last] = match[4] or ""
            elif match := re.fullmatch(r" +- (\w+)", line):
                found.inherits += [match[1]] * (match[1] != "_self_")
            elif match := _COMMENT.fullmatch(line):
                if last:
                    found.keys[last] = f"{found.keys[last]} {match[1]}".strip()
                elif match[1].startswith("@package"):
                    found.is_recipe = match[1].endswith("_global_")
                else:
                    found.heading = found.heading or match[1]
            else:
                last = ""
        return found


def config_help(
    name: str, config: Mapping[str, Any], choices: Mapping[str, Any], folders: Sequence[Path]
) -> None:
    """Print what may stand on the command line.

    Args:
        name: of the command's config file
        config: as composed, not resolved
        choices: option of each group, as composed
        folders: that hold config files
    """
    own = _commented(folders, name)
    options = {group: _options(folders, group, choices.get(group)) for group in own.groups}
    comments = comments_on_keys(name, choices, folders)
    console = Console(width=None if Console().is_terminal else 120)
    parts: list[RenderableType] = [
        said_as_typed(own.heading, f"trm.{name}"),
        "\nGroups of keys, as in GROUP=OPTION:",
        _grid((group, ", ".join(options[group]), own.groups[group]) for group in own.groups),
        "\nKeys, as in KEY=VALUE, with the values that they have now:",
        _grid(_rows(config, comments)),
        "\nAlso: --cfg job prints the config and does no more; -m takes several values, as in\n"
        f"{next(iter(own.groups))}=A,B; --config-dir FOLDER adds options of yours; --hydra-help.",
    ]
    console.print(*parts, sep="\n", highlight=False, markup=False)


def comments_on_keys(
    name: str, choices: Mapping[str, Any], folders: Sequence[Path]
) -> dict[str, str]:
    """Return the comments on keys and sections, by their dotted names.

    Args:
        name: of the command's config file
        choices: option of each group, as composed
        folders: that hold config files
    """
    own = _commented(folders, name)
    comments = dict(own.keys)
    for group in own.groups:
        for option in re.findall(r"\w+", str(choices.get(group))):  # of some there is a list
            comments |= _of_option(folders, group, option)
    return comments


def _grid(rows: Iterator[tuple[str, ...]]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(Text, row))  # as text, in which brackets are brackets
    for column in table.columns:
        column.overflow = "fold"  # on a narrow terminal long words are broken, not cut
    return Padding(table, (0, 0, 0, 2), expand=False)


def _rows(config: Mapping[str, Any], comments: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield every key with its value, and its comment; a section's stands at its first key."""
    told = set()
    for key, value in _flat(config):
        names = key.split(".")
        sections = [".".join(names[: end + 1]) for end in range(len(names))]
        said = [comments[name] for name in sections if comments.get(name) and name not in told]
        told |= {*sections}
        yield f"{key}={plain(value)}", "; ".join(said)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif name not in ("_target_", "_partial_"):
            yield f"{prefix}{name}", value


def plain(value: Any) -> str:
    """Write a value as it may stand on the command line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return str(text).removesuffix("...\n").strip()


def _options(folders: Sequence[Path], group: str, chosen: Any) -> list[str]:
    names = {file.stem for folder in folders for file in (folder / group).glob("*.yaml")}
    return sorted(name for name in names if name != _AS_TRAINED or chosen == _AS_TRAINED)


def _of_option(folders: Sequence[Path], group: str, option: str) -> dict[str, str]:
    """Return the comments on the keys of an option and of those that it begins with."""
    commented = _commented(folders, f"{group}/{option}")
    comments: dict[str, str] = {}
    for other in commented.inherits:
        comments |= _of_option(folders, group, other)
    prefix = "" if commented.is_recipe else f"{group}."
    said = {f"{prefix}{key}": text for key, text in commented.keys.items() if text}
    return comments | said


def _commented(folders: Sequence[Path], name: str) -> Commented:
    files = [folder / f"{name}.yaml" for folder in folders]
    texts = (file.read_text(encoding="utf-8") for file in files if file.is_file())
    return Commented.of(next(texts, ""))
