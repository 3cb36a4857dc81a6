"""A config with types: its annotations say which keys there are and what may stand there."""

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from trm.support.build import check_types, nearest
from trm.support.errors import InputError, check_choice

Section = dict[str, Any]  # of a config, for a constructor that looks at it itself

T = TypeVar("T")


def resolved(cfg: DictConfig) -> Section:
    """Return a composed config as plain types, which say the same wherever they are read."""
    plain: Section = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    return plain


def check_read(cfg: DictConfig, known: Collection[str]) -> None:
    """Refuse a key that nobody reads; one of one's own may be there for others to refer to.

    Raises:
        InputError: naming it
    """
    text = OmegaConf.to_yaml(cfg)
    for name in map(str, cfg):
        if name not in known and f"${{{name}" not in text:
            raise InputError(
                f"config key {name} does not exist, and no value refers to it as ${{{name}}}; "
                f"{nearest(name, sorted(known))}"
            )


def read(kind: type[T], plain: Mapping[str, Any], prefix: str = "") -> T:
    """Make a config, or a section of one, of plain values.

    An annotation that is a dataclass stands for a section, which is read likewise. A class with a
    field ``plain`` finds the mapping itself there, and keys beyond its own may be in it: somebody
    else reads those. Rules between values belong into ``__post_init__``.

    Args:
        kind: a dataclass
        plain: of a resolved config
        prefix: of the keys, such as ``checkpoint.``

    Raises:
        InputError: naming the first key that is missing, unknown, of another type or against a rule
    """
    hints = get_type_hints(kind)
    whole = {"plain": plain} if hints.pop("plain", None) else {}
    _check_keys(kind, hints, plain, prefix, is_open=bool(whole))
    values = {name: plain[name] for name in hints if name in plain}
    check_types(values, {name: _meant(hint) for name, hint in hints.items()}, prefix)
    for name, value in values.items():
        section: Any = next(filter(is_dataclass, _parts(hints[name])), None)
        if section is not None and value is not None:
            values[name] = read(section, value, f"{prefix}{name}.")
        elif get_origin(hints[name]) is Literal:
            check_choice(get_args(hints[name]), prefix, **{name: value})
    try:
        return kind(**values, **whole)
    except InputError as error:  # of its own rules, which know nothing of the other sections
        message = str(error)
        raise error if message.startswith(prefix) else InputError(f"{prefix}{message}") from None


def _check_keys(
    kind: Any, hints: Mapping[str, Any], plain: Mapping[str, Any], prefix: str, is_open: bool
) -> None:
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    for name in needed:
        if name in hints and name not in plain:
            or_null = NoneType in get_args(hints[name])
            remedy = f"set {prefix}{name}=null instead" if or_null else "it must have a value"
            raise InputError(f"config key {prefix}{name} is gone; {remedy}")
    for name in plain:
        if name not in hints and not is_open:
            raise InputError(f"config key {prefix}{name} does not exist; {nearest(name, hints)}")


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return what a union is made of, or the annotation alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _meant(hint: Any) -> Any:
    """Return the plain type behind an annotation: sections are mappings."""
    is_section = [is_dataclass(part) or get_origin(part) is dict for part in _parts(hint)]
    parts = zip(_parts(hint), is_section, strict=True)
    return reduce(or_, [dict if section else part for part, section in parts])
