"""The folder of a run: chosen, locked, and gone again if the run never began."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.rank_zero import rank_zero_only

from trm.support.errors import InputError
from trm.support.files import timestamp
from trm.training.config import TrainingConfig

LOCK = ".lock"  # in a run's folder, held while a process trains there


def is_first_process() -> bool:
    """Tell whether this is the only or the first of several processes, even before they meet."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def run_folder(config: TrainingConfig, task_name: str) -> Path:
    """Choose the folder of a new run; nothing is made yet.

    ``run_dir`` in the config names it, a multirun has its own numbered folders, and else it is
    ``logs/<task>/runs/<date>_<time>``, to the millisecond so that runs started together differ.

    Raises:
        InputError: ``run_dir`` exists and is not empty
    """
    if config.run_dir is not None:
        folder = Path(config.run_dir)
        mine = not is_first_process()  # the first process has made it
        if config.ckpt_path == "auto":  # killed before its first checkpoint
            mine |= os.path.isfile(folder / "config.yaml")
        # os.path and not Path: what may not be looked at is refused when the folder is made.
        taken = os.path.isdir(folder) and {*os.listdir(folder)} - {LOCK}
        if (os.path.exists(folder) and not os.path.isdir(folder)) or (taken and not mine):
            raise InputError(
                f"run_dir={folder} is not empty; name a new folder, or continue the run in it "
                f"with ckpt_path={folder}"
            )
        return folder
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(HydraConfig.get().runtime.output_dir)
    return Path("logs", task_name, "runs", timestamp())


@contextmanager
def kept_folder(folder: Path, begun: Callable[[], bool]) -> Iterator[None]:
    """Make a run's folder and keep other runs out of it.

    If the run fails before it has begun, nothing is left behind. Of several processes that train
    together only the first does anything.

    Raises:
        InputError: the folder cannot be made or written to, or another run is using it
    """
    if not is_first_process():
        yield
        return
    missing = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"run folder {folder} is in use by another process; wait for it to end, or name "
            f"another folder with run_dir"
        ) from None
    except OSError as error:
        raise InputError(
            f"run folder {folder} cannot be written to: {error.strerror}; name another with run_dir"
        ) from None
    try:
        yield
    finally:
        lock.release()
        if missing and not begun():
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # a parent that others use by now stays
                for parent in missing[1:]:
                    parent.rmdir()
