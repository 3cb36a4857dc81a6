"""Every experiment composes and builds, and states the published numbers."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.conftest import compose
from trm.build import build
from trm.checkpoints.native import build_model
from trm.commands import CONF
from trm.tasks import Task
from trm.training.module import DeepSupervision

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def built(*overrides):
    config = OmegaConf.to_container(compose("train", *overrides), resolve=True)
    with torch.device("meta"):
        return config, build_model(config["model"], build(config["task"], Task, "task"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_builds(experiment):
    cfg = compose("train", f"experiment={experiment}")
    config = OmegaConf.to_container(cfg, resolve=True)
    task = build(config["task"], Task, "task")
    settings = config["train"]
    del settings["batch_size"], settings["eval_batch_size"]
    optimizer = instantiate(cfg.optimizer, _convert_="all")
    with torch.device("meta"):
        model = build_model(config["model"], task)
        module = DeepSupervision(model, task, optimizer, **settings)
    assert module.make_optimizer(torch.nn.Linear(1, 1).parameters()).param_groups[0]["lr"] > 0


@pytest.mark.parametrize(
    ("experiment", "parameters", "prefix"),
    [
        ("sudoku_extreme_mlp", 4_855_298, 0),
        ("sudoku_extreme_att", 6_828_034, 0),
        ("sudoku_extreme_mlp_released", 5_028_866, 16),
        ("sudoku_extreme_att_released", 6_828_034, 16),
    ],
)
def test_the_published_recipes(experiment, parameters, prefix):
    config, model = built(f"experiment={experiment}")
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert (model.n, model.T, model.prefix_len) == (6, 3, prefix)
    assert config["train"]["N_sup"] == 16
    assert config["train"]["batch_size"] == 768
    assert config["train"]["warmup_steps"] == 2000
    assert config["train"]["lr_min_ratio"] == 1.0
    assert config["train"]["halt_exploration"] == 0.1
    assert config["train"]["gradient_clip"] is None
    assert config["ema"] == {"decay": 0.999}
    assert config["optimizer"]["_target_"].endswith("AdamATan2")
    assert config["optimizer"]["lr"] == config["train"]["identifier_lr"] == 1e-4
    assert config["optimizer"]["betas"] == [0.9, 0.95]
    assert config["optimizer"]["weight_decay"] == 1.0
    assert config["train"]["identifier_weight_decay"] == 1.0
    assert config["data"]["augmentations"] == 1000


@pytest.mark.parametrize(
    "overrides",
    [
        *(
            [f"{group}={path.stem}"]
            for group in ("trainer", "logger", "callbacks", "optimizer")
            for path in sorted((CONF / group).glob("*.yaml"))
        ),
        *([f"debug={path.stem}"] for path in sorted((CONF / "debug").glob("*.yaml"))),
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_option_of_every_group_composes(overrides):
    OmegaConf.to_container(compose("train", *overrides), resolve=True)
