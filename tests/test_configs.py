"""Every experiment composes and builds, and states the published numbers."""

from inspect import signature

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf

from tests.conftest import compose
from trm.checkpoints.native import build_model
from trm.support.build import build
from trm.support.files import CONF
from trm.tasks import Task
from trm.training.assembly import training_module
from trm.training.config import TrainingConfig

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
TRM = "experiment=sudoku_extreme_mlp"
ABLATIONS = sorted(path.stem for path in (CONF / "ablation").glob("*.yaml"))


def built(*overrides):
    config = OmegaConf.to_container(compose("train", *overrides), resolve=True)
    if config["model"].get("identifiers", 1) is None:
        config["model"]["identifiers"] = 876_403  # as many as the data has
    with torch.device("meta"):
        return config, build_model(config["model"], build(config["task"], Task, "task"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_builds(experiment):
    experiment = f"experiment={experiment}"
    config, model = built(experiment)
    task = build(config["task"], Task, "task")
    module = training_module(config, task, model)
    assert module.make_optimizer(model.named_parameters()).param_groups[0]["lr"] > 0
    for size in TrainingConfig.of(config).of_other_sizes():
        module.add_size(build(size.task, Task, "task"))


@pytest.mark.parametrize("experiment", ["maze_hard", "arc1", "arc2"])
def test_the_paper_s_settings_of_mazes_and_arc(experiment):
    config, model = built(f"experiment={experiment}")
    assert (model.n, model.T) == (4, 3)
    assert config["train"]["N_sup"] == 16
    assert config["train"]["batch_size"] == 768
    assert config["ema"] == {"decay": 0.999}
    # The vocabularies differ from Sudoku's 11 tokens by rows of the embedding and the answer head.
    vocab_size = 6 if experiment == "maze_hard" else 12
    assert model.size == 6_828_034 + 2 * 512 * (vocab_size - 11)
    optimizer, train = config["optimizer"], config["train"]
    decays = optimizer["weight_decay"], train["identifier_weight_decay"]
    assert decays == ((1.0, 1.0) if experiment == "maze_hard" else (0.1, 0.1))
    assert optimizer["lr"] == 1e-4
    assert train["identifier_lr"] == (1e-4 if experiment == "maze_hard" else 1e-2)
    if experiment != "maze_hard":
        assert model.prefix_len == 16
        assert model.identifiers.weights.shape == (876_403, 512)
        assert config["data"]["augmentations"] == 1000


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


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_an_ablation_changes_only_what_it_ablates(ablation):
    needs = {"qk_norm": ["self_attention"]}.get(ablation, [])
    base, _ = built(TRM, f"ablation=[{','.join(needs)}]")
    ablated, _ = built(TRM, f"ablation=[{','.join([*needs, ablation])}]")
    changed = {
        f"{group}.{key}"
        for group in base
        if isinstance(base[group], dict) and isinstance(ablated[group], dict)
        for key in base[group]
        if base[group][key] != ablated[group].get(key)
    } | {group for group in base if isinstance(base[group], dict) and ablated[group] is None}
    assert (
        changed
        == {
            "act_continue": {"train.halting"},
            "fewer_recursions": {"recursion.n", "recursion.T", "model.n", "model.T"},
            "four_layers": {"model.layers", "recursion.n", "model.n"},
            "multi_scale_z": {"model._target_"},
            "no_ema": {"ema"},
            "one_step_gradient": {"model.gradient"},
            "self_attention": {"model.mixing", "model.positions"},
            "separate_networks": {"model.separate"},
            "single_z": {"model._target_"},
            # Since the paper; what a base has no key for is not seen here.
            "consistency_loss": {"objective.consistency_weight"},
            "denoising_targets": {"model._target_", "objective._target_"},
            "depth_curriculum": set(),
            "feedback_repair": {"model._target_", "objective._target_"},
            "more_cycles": {"recursion.n", "recursion.T", "model.n", "model.T"},
            "muon": {
                "model.inner_norm",
                *(f"optimizer.{key}" for key in ("_target_", "lr", "weight_decay")),
            },
            "no_identifier_prefix": set(),
            "path_noise": {"model._target_"},
            "position_tables": {"model.group_tables"},
            "qk_norm": {"model.qk_norm"},
            "random_start": {"model.random_start", "objective.start"},
            "short_convolution": {"model.convolution"},
            "unroll": {"recursion.T", "model.T", "objective.unroll"},
            "winner_takes_all": {"model._target_", "objective._target_"},
        }[ablation]
    )


@pytest.mark.parametrize(
    ("overrides", "parameters", "depth"),
    [
        # Table 1; the paper prints 27M, 5M, 10M, 7M (with 16 prefix positions)
        ([TRM, "model=hrm"], 27_275_266, 24),
        ([TRM], 4_855_298, 42),
        ([TRM, "ablation=act_continue"], 4_855_298, 42),
        ([TRM, "ablation=separate_networks"], 9_698_306, 42),
        ([TRM, "ablation=no_ema"], 4_855_298, 42),
        ([TRM, "ablation=four_layers"], 9_698_306, 48),
        ([TRM, "ablation=self_attention"], 6_828_034, 42),
        ([TRM, "ablation=fewer_recursions"], 4_855_298, 12),
        ([TRM, "ablation=one_step_gradient"], 4_855_298, 42),
        # Table 2
        ([TRM, "ablation=multi_scale_z"], 4_855_298, 42),
        ([TRM, "ablation=single_z"], 4_855_298, 42),
        # Table 4
        ([TRM, "model=direct"], 27_275_266, 8),
    ],
)
def test_parameters_and_effective_depth_of_the_papers_rows(overrides, parameters, depth):
    _, model = built(*overrides)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.effective_depth == depth


@pytest.mark.parametrize(
    ("k", "T", "hrm_depth", "trm_depth"),
    # Table 3, where n = k for HRM and n = 2k for TRM. For its first row the paper prints 9 and 7,
    # which its own formula T (n + 1) layers does not give.
    [
        (1, 1, 8, 6),
        (2, 2, 24, 20),
        (3, 3, 48, 42),
        (4, 4, 80, 72),
        (6, 3, 84, 78),
        (3, 6, 96, 84),
        (6, 6, 168, 156),
    ],
)
def test_effective_depth_of_table_3(k, T, hrm_depth, trm_depth):
    assert built(TRM, "model=hrm", f"model.n={k}", f"model.T={T}")[1].effective_depth == hrm_depth
    assert built(TRM, f"recursion.n={2 * k}", f"recursion.T={T}")[1].effective_depth == trm_depth


GROUPS = ("trainer", "logger", "callbacks", "optimizer", "model", "task", "data")


def options(*groups: str):
    return [
        pytest.param(group, path, id=f"{group}={path.stem}")
        for group in groups
        for path in sorted((CONF / group).glob("*.yaml"))
    ]


def stated(path):
    """What an option's file says, with the option it starts from."""
    said = OmegaConf.load(path)
    parents = [path.with_stem(name) for name in said.pop("defaults", [])]
    return OmegaConf.merge(*map(stated, parents), said)


def constructors(config):
    """Every part of a config that names what is made of it."""
    if not isinstance(config, dict):
        return []
    found = [part for value in config.values() for part in constructors(value)]
    return [config, *found] if "_target_" in config else found


@pytest.mark.parametrize(("group", "path"), options(*GROUPS))
def test_every_option_of_every_group_is_what_its_file_states(group, path):
    cfg = compose("train", "experiment=[]", f"{group}={path.stem}")
    assert cfg[group] == stated(path)
    for part in constructors(OmegaConf.to_container(cfg, resolve=True)[group]):
        arguments = {key: value for key, value in part.items() if not key.startswith("_")}
        signature(get_object(part["_target_"])).bind_partial(**arguments)


@pytest.mark.parametrize(("group", "path"), options("debug"))
def test_debug_options_change_what_they_state_alone(group, path):
    cfg = compose("train", f"{group}={path.stem}")
    assert cfg == OmegaConf.merge(compose("train"), OmegaConf.load(path))
    assert cfg != compose("train")
