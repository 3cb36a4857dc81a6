"""Make an object from its config: ``_target_`` and keyword arguments."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from trm.support.errors import InputError

Instance = TypeVar("Instance")


def build(config: Mapping[str, Any], kind: type[Instance], group: str, **context: Any) -> Instance:
    """Call the ``_target_`` of a config with its other keys, and with what only code can give.

    Checkpoints carry such configs, so a target must be a subclass of ``kind`` (or a function
    returning one is refused): opening a file cannot call anything else.

    Args:
        config: plain mapping with ``_target_``
        kind: class the target must be or derive from
        group: config group, for messages
        context: what only code knows, such as the vocabulary's size; of this a target gets what its
            arguments name and the config leaves out or as None

    Raises:
        InputError: an unknown target or an argument it does not take
    """
    arguments = dict(config)
    target = locate(str(arguments.pop("_target_", None)), group)
    if not (inspect.isclass(target) and issubclass(target, kind)):
        raise InputError(f"{group}._target_={config['_target_']} is no {kind.__name__}")
    if inspect.isabstract(target):
        lacking = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
        raise InputError(f"{group}._target_={config['_target_']} lacks {lacking}; define it")
    check_arguments(target, arguments, group)
    known = {name for name in _parameters(target) if arguments.get(name) is None}
    return target(**arguments | {name: context[name] for name in context if name in known})


def call(config: Mapping[str, Any], kind: type[Instance], group: str, *positional: Any) -> Instance:
    """Call the function that a config names, which must be annotated to return a ``kind``.

    Args:
        config: plain mapping with ``_target_``
        kind: class of what is returned
        group: config group, for messages
        positional: arguments that come before those of the config

    Raises:
        InputError: an unknown target, another one than such a function, or an unknown argument
    """
    arguments = dict(config)
    target = locate(str(arguments.pop("_target_", None)), group)
    if not _returns(target, kind):
        raise InputError(
            f"{group}._target_={config.get('_target_')} is no function that returns a "
            f"{kind.__name__}; if it is yours, annotate it with -> {kind.__name__}"
        )
    check_arguments(target, arguments, group)
    return target(*positional, **arguments)


def locate(path: str, group: str) -> Any:
    """Import ``package.module.name``.

    Raises:
        InputError: there is no such thing
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{group}._target_={path} cannot be imported: {error}") from None


def check_arguments(target: Callable[..., Any], arguments: Mapping[str, Any], group: str) -> None:
    """Refuse arguments the target does not take, and plain types that it does not mean.

    Raises:
        InputError: naming the first such argument, with the nearest known one or the right type
    """
    known, hints = _parameters(target), annotations(target)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in known.values())
    if options := getattr(target, "options_class", None):
        hints |= annotations(options)
    for name in () if takes_any else arguments:
        if name not in known:
            raise InputError(
                f"{group}.{name} is not an argument of {target.__name__}; {nearest(name, known)}"
            )
    check_types(arguments, hints, f"{group}.")


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the arguments by name, with those that a class passes on as a whole."""
    parameters = inspect.signature(target).parameters
    options = getattr(target, "options_class", None)
    if options is None:
        return parameters
    own = {name: each for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD}
    return own | inspect.signature(options).parameters


def annotations(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of arguments; none if they name what only a type checker imports."""
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:
        return {}


def _returns(target: Any, kind: type) -> bool:
    """Tell whether a function is annotated to return a kind, be it by its name alone."""
    if not inspect.isfunction(target):
        return False
    returned = annotations(target).get("return", target.__annotations__.get("return"))
    if isinstance(returned, str):
        return returned.rpartition(".")[2] == kind.__name__
    return inspect.isclass(returned) and issubclass(returned, kind)


def check_types(values: Mapping[str, Any], hints: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse values that are not of the plain types meant; other types are not looked at.

    Raises:
        InputError: naming the first such value
    """
    for name, value in values.items():
        if not _fits(value, hints.get(name, Any)):
            meant = getattr(hints[name], "__name__", hints[name])
            raise InputError(f"{prefix}{name}={value!r} must be of type {meant}")


def _fits(value: Any, hint: Any) -> bool:
    """Check plain types and unions of them; anything else is the target's own business."""
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return any(_fits(value, part) for part in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (str, bool, dict, NoneType) else True


def nearest(name: str, known: Any) -> str:
    """Suggest the known name that looks most alike, or list them all."""
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else f"it takes {', '.join(known)}"
