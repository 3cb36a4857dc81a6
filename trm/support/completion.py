"""Words that a shell completes after ``trm``: commands, and what Hydra knows of their configs."""

import os
import sys
from collections.abc import Sequence

from trm.support.files import CONF


def complete(commands: Sequence[str]) -> None:
    """Answer ``trm -sc query=bash`` about ``COMP_LINE``, or print what sets completion up.

    Hydra alone is imported, without which no config can be composed: a second, not eight.
    """
    what = next(iter(sys.argv[2:]), "")
    config_name = "train"
    sys.argv[0] = "trm"  # whose words are to be completed
    if what.startswith("query="):
        _, _, line = os.environ.get("COMP_LINE", "").partition(" ")
        config_name, has_more, line = line.lstrip().partition(" ")
        if not has_more:
            known = [name for name in commands if name.startswith(config_name)]
            print(*known, sep="\n" if what == "query=fish" else " ")
            return
        if not (CONF / f"{config_name}.yaml").is_file():
            return  # no Hydra command: the shell completes names of files
        os.environ["COMP_LINE"] = f"trm {line}"
    import hydra

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(id)()
