"""What the Hydra commands share: where configs lie, run folders, and errors in one line."""

import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trm.multirun import JobFailedError, Multirun
from trm.support.build import nearest
from trm.support.config_help import config_help
from trm.support.devices import keep_freed_memory
from trm.support.errors import InputError, Stopped
from trm.support.files import CONF, show_anything
from trm.training.run_folder import is_first_process

_SYNTAX = set("=,:()[]{}$\"'")  # of overrides
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
MENDABLE = (InputError, HydraException, OmegaConfBaseException, MisconfigurationException)


def run_command(
    main: Callable[[DictConfig], Any],
    config_name: str,
    completed: Callable[[Sequence[str]], list[str]] = list,
) -> None:
    """Compose the config from the command line, as ``completed`` makes it, and call ``main``.

    What a person can mend is printed as one line, with exit status 2; anything else is a fault of
    ours and keeps its traceback. Of a multirun, a job that fails is told of and the others go on.
    """
    begun = False
    wants_help = _asked_for_help(sys.argv)
    multirun = Multirun()

    def attempt(cfg: DictConfig) -> Any:
        status = 1  # of a fault of ours
        try:
            value = main(cfg)
            status = 0
            return value
        except Stopped as stopped:
            status = 128 + stopped.signal
            _end_stopped(stopped)
        except MENDABLE as error:  # caught here, Hydra prints nothing of its own
            status = 2
            raise JobFailedError(one_line(error, config_name)) from None
        except OSError as error:
            if error.errno not in _OF_THE_DISK:
                raise
            status = 2
            raise JobFailedError(str(error)) from None
        finally:
            if "wandb" in sys.modules:  # or the next job of a multirun would write into this run
                sys.modules["wandb"].finish(exit_code=status)

    def job(cfg: DictConfig) -> Any:
        nonlocal begun
        begun = True
        hydra_config = HydraConfig.get()
        if wants_help:
            sources = hydra_config.runtime.config_sources
            folders = [Path(source.path) for source in sources if source.schema == "file"]
            plain = cast(dict[str, Any], OmegaConf.to_container(cfg))
            return config_help(config_name, plain, hydra_config.runtime.choices, folders)
        if hydra_config.mode == RunMode.MULTIRUN:
            own = hydra_config.overrides.task
            return multirun.job(own, lambda: attempt(cfg), _say)
        try:
            return attempt(cfg)
        except JobFailedError as failure:  # here, or Hydra would print something of its own
            fail(str(failure))

    show_anything()
    keep_freed_memory()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("trm").setLevel(logging.INFO)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors of composing come here, too
    command = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)
    try:
        sys.argv[1:] = completed([readable(word) for word in sys.argv[1:]])
        command()
        multirun.report()
        if multirun.failures:
            sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader, "head" say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MENDABLE as error:
        fail(one_line(error, config_name))
    except Exception as error:
        if begun:
            raise
        fail(str(_not_composed(error)))


def _asked_for_help(words: list[str]) -> bool:
    """Take the question for help off a command line: Hydra's own answer names every group there is.

    With what else is said there the config is composed, once: its values are shown.
    """
    asked = any(word in ("-h", "--help") for word in words)
    if asked:
        words[:] = [word for word in words if word not in ("-h", "--help", "-m", "--multirun")]
    return asked


def readable(word: str) -> str:
    """Return an override as Hydra reads it: options by their names, foreign letters in quotes.

    Raises:
        InputError: what Hydra's grammar cannot read, and how to quote it
    """
    key, is_override, value = word.partition("=")
    if word.startswith("-") or not is_override:
        return word
    if (CONF / key).is_dir():
        value = re.sub(r"[^][,\s]+", lambda name: _option(CONF / key, name[0]), value)
    parser = OverridesParser.create()
    for text in (f"{key}={value}", f"{key}='{value}'"):
        try:
            parser.parse_override(text)
        except HydraException:
            if _SYNTAX & set(value):
                break
        else:
            return text
    raise InputError(
        f"{word} cannot be read: = , : ( ) [ ] {{ }} $ and quotes have a meaning of their own; if "
        f"they belong to the value, quote it twice: '{key}=\"{value}\"'"
    )


def _option(group: Path, name: str) -> str:
    """Return the option that is meant: hyphens are as good as underscores."""
    here = {file.stem for file in group.glob("*.yaml")}
    usual = name.replace("-", "_")
    return usual if name not in here and usual in here else name


def fail(message: str) -> NoReturn:
    """End a command with one line of explanation."""
    _say(message)
    sys.exit(2)


def _say(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


def _end_stopped(stopped: Stopped) -> NoReturn:
    """Say how to go on, once; the other processes end quietly, as if nothing were wrong."""
    if not is_first_process():
        sys.exit(0)
    print(stopped, file=sys.stderr)
    sys.exit(128 + stopped.signal)


def one_line(error: BaseException, config_name: str) -> str:
    """Say in one line what to mend; a misspelt key gets the nearest known one."""
    cause: BaseException | None = error
    while cause is not None:  # Hydra wraps what a _target_ raised
        if isinstance(cause, InputError):
            return str(cause)
        cause = cause.__cause__
    message = " ".join(str(error).split())
    if missing := re.search(r"Could not find '([^']+)/([^'/]+)'", message):
        group, name = missing.groups()
        options = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
        return f"{group}={name} does not exist; {nearest(name, options)}"
    if misspelt := re.search(r"(?:Could not override|Key) '([^']+)'", message):
        key = misspelt[1]
        if "not in struct" in message or "Could not override" in message:
            return f"config key {key!r} does not exist; {_nearest_key(key, config_name)}"
    return message


def composed(config_name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose a config: within a Hydra command with its search path, elsewhere from ours.

    Raises:
        HydraException: an override that does not fit
        InputError: one that Hydra itself does not expect
    """
    try:
        if GlobalHydra.instance().is_initialized():
            return hydra.compose(config_name, list(overrides))
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            return hydra.compose(config_name, list(overrides))
    except MENDABLE:
        raise
    except Exception as error:
        raise _not_composed(error) from None


def _not_composed(error: Exception) -> InputError:
    """Translate: Hydra trips over a group that is set to null, to a number, to a list."""
    message = " ".join(str(error).split())
    return InputError(f"no config can be composed of this ({message}); name an option as in --help")


def quiet_lightning(profiler: str | None) -> None:
    """Silence what does not apply: our batches need no workers, and we sum metrics ourselves."""
    # A profiler prints its table through this logger.
    level = logging.INFO if profiler else logging.WARNING
    logging.getLogger("lightning.pytorch").setLevel(level)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    # It tells of a process that died.
    logging.getLogger("lightning.fabric.strategies.launchers").setLevel(logging.INFO)
    unneeded = (
        ".*does not have many workers.*",
        ".*Checkpoint directory.*exists.*",
        ".*LeafSpec.*",
        ".*The dirpath has changed.*",  # a run that goes on in another folder
        ".*sync_dist=True.*",
        ".*broadcast_buffers.*",  # its successor is not in torch 2.11
    )
    for message in unneeded:
        warnings.filterwarnings("ignore", message)


def _nearest_key(key: str, config_name: str) -> str:
    GlobalHydra.instance().clear()  # an error within a job comes while Hydra is still set up
    config = OmegaConf.to_container(composed(config_name))
    keys = [name for name in _dotted(config) if "_target_" not in name]
    if key in keys:
        return "it exists in the default config only: other groups were chosen"
    leaf = [name for name in keys if name.rpartition(".")[2] == key.rpartition(".")[2]]
    if leaf:
        return f"did you mean {leaf[0]}?"
    close = nearest(key, keys)
    return close if close.startswith("did") else f"--help lists the keys, +{key}=... adds one"


def _dotted(config: Any, prefix: str = "") -> list[str]:
    if not isinstance(config, dict):
        return [prefix]
    names = [prefix] if prefix else []
    for name, value in config.items():
        names += _dotted(value, f"{prefix}.{name}" if prefix else str(name))
    return names
