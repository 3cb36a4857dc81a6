"""Help leaves no key unexplained, whatever is chosen."""

from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from trm.support.config_help import comments_on_keys
from trm.support.files import CONF

GROUPS = {
    "train": (
        *("task", "data", "model", "objective", "optimizer", "trainer", "logger", "callbacks"),
        "experiment",
    ),
    "evaluate": ("task", "data", "compute"),
}
CHOICES = [
    (command, f"{group}={option.stem}")
    for command, groups in GROUPS.items()
    for group in groups
    for option in sorted((CONF / group).glob("*.yaml"))
    if (command, option.stem) != ("train", "as_trained")
]


def keys(config: dict, prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")
        elif name not in ("_target_", "_partial_"):
            yield f"{prefix}{name}"


@pytest.mark.parametrize(("command", "choice"), CHOICES)
def test_every_key_has_a_comment(command, choice):
    # The default experiment has keys of its own model, which others do not.
    plain_train = ["experiment=[]"] * (command == "train" and not choice.startswith("experiment"))
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = compose(command, [*plain_train, choice], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    chosen = HydraConfig.get().runtime.choices
    plain = OmegaConf.to_container(config)
    del plain["hydra"]
    comments = comments_on_keys(command, chosen, [CONF])
    bare = [
        key
        for key in keys(plain)
        if not comments.get(key) and not comments.get(key.rpartition(".")[0])
    ]
    assert not bare, f"add comments in conf/ to {', '.join(bare)}"
