"""Configs with types: what is read, what is refused and in which words, what stays plain."""

from dataclasses import asdict, dataclass
from typing import Literal

import pytest
import yaml
from omegaconf import OmegaConf

from tests.conftest import compose, tiny_model
from trm import InputError
from trm.evaluate import EvaluationConfig
from trm.support.files import CONF
from trm.support.sections import Section, read, resolved
from trm.training.assembly import _optimizer
from trm.training.config import TrainingConfig

CHECKPOINT = "checkpoint=sudoku-4x4"


def test_plain_is_what_was_composed_in_the_same_order():
    cfg = compose("train", "experiment=sudoku_6x6")
    config = TrainingConfig.of(cfg)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert yaml.safe_dump(config.plain, sort_keys=False) == yaml.safe_dump(plain, sort_keys=False)
    assert TrainingConfig.of(plain).plain is plain
    assert TrainingConfig.of(config) is config


def test_a_change_leaves_the_config_it_was_made_from():
    config = TrainingConfig.of(compose("train"))
    changed = config.changed("train", batch_size=7)
    assert (config.train.batch_size, changed.train.batch_size) == (64, 7)
    assert (config.plain["train"]["batch_size"], changed.plain["train"]["batch_size"]) == (64, 7)
    assert [*changed.plain] == [*config.plain]
    assert [*changed.plain["train"]] == [*config.plain["train"]]
    with pytest.raises(InputError, match="trainer.max_steps=0 must be at least 1"):
        config.changed("trainer", max_steps=0)


def test_every_key_of_train_is_somebodys():
    config = TrainingConfig.of(compose("train"))
    filling = asdict(config.train.filling)
    batches = config.train.batches | {"filling": filling}
    assert config.train.settings | batches == config.plain["train"]
    assert set(config.__dataclass_fields__) == {*config.plain, "plain"}


def test_every_experiment_is_read():
    for file in (CONF / "experiment").glob("*.yaml"):
        config = TrainingConfig.of(compose("train", f"experiment={file.stem}"))
        assert config.counts_identifiers == file.stem.startswith("arc"), file


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("~ema", "config key ema is gone; set ema=null instead"),
        ("~seed", "config key seed is gone; it must have a value"),
        ("~trainer.precision", "config key trainer.precision is gone; it must have a value"),
        ("~test", "config key test is gone; it must have a value"),
        ("~checkpoint.light", "config key checkpoint.light is gone; it must have a value"),
        ("+checkpoint.lite=true", "checkpoint.lite does not exist; did you mean light"),
        ("+ema.rate=1", "config key ema.rate does not exist; it takes decay"),
        ("checkpoint.light=5", "checkpoint.light=5 must be of type bool"),
        ("checkpoint.mode=most", "checkpoint.mode=most must be one of min, max"),
        ("checkpoint.every_n_steps=0", "checkpoint.every_n_steps=0 must be at least 1"),
        ("checkpoint.moments=false", "checkpoint.moments=false needs checkpoint.light=true"),
        ("footprint.co2_g_per_kwh=0", "footprint.co2_g_per_kwh=0 must be positive"),
        ("footprint=null", "footprint=None must be of type dict"),
        ("test.limit=-1", "test.limit=-1 must be 0 or more, or null for all"),
        ("trainer.accelerator=3", "trainer.accelerator=3 must be of type str"),
        ("trainer.limit_val_batches=many", "trainer.limit_val_batches='many' must be of type"),
        ("trainer.max_steps=1.5", "trainer.max_steps=1.5 must be of type int"),
        ("train.identifiers_only=3", "train.identifiers_only=3 must be of type bool"),
        ("seed=4294967296", "seed=4294967296 must lie between 0 and 4294967295"),
    ],
)
def test_a_bad_training_config_is_refused_by_its_key(override, said):
    with pytest.raises(InputError) as refused:
        TrainingConfig.of(compose("train", override))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_others_read_is_left_to_them():
    overrides = ("+trainer.gradient_clip_val=1", "+mine.width=5", "+model.colour=${mine.width}")
    config = TrainingConfig.of(compose("train", *overrides))
    assert config.trainer.plain["gradient_clip_val"] == 1
    assert config.plain["mine"] == {"width": 5}
    assert config.model["colour"] == 5


@pytest.mark.parametrize("override", ["+foo=1", "+foo.bar=1"])
def test_a_key_that_nobody_reads_is_refused(override):
    said = r"config key foo does not exist, and no value refers to it as \$\{foo\}; "
    with pytest.raises(InputError, match=said):
        TrainingConfig.of(compose("train", override))


def test_a_misspelt_section_is_none_of_one_s_own():
    with pytest.raises(InputError, match="config key trian does not exist.* did you mean train"):
        TrainingConfig.of(compose("train", "+trian.batch_size=8"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("checkpoint=null", "checkpoint=null names no file; give checkpoint="),
        ("checkpoint=5", "checkpoint=5 must be of type str"),
        ("~split", "config key split is gone; it must have a value"),
        ("+plott=x", "config key plott does not exist; did you mean plot?"),
        ("limit=0", "limit=0 must be at least 1"),
        ("precision=16", "precision=16 must be one of auto, bf16-mixed, 32-true"),
        ("output=/nowhere/x.json", "output=/nowhere/x.json"),
        ("compute.rollouts=0", "compute.rollouts=0 must be at least 1"),
        ("compute.start=warm", "compute.start=warm must be one of fixed, random"),
        ("compute.noise=0.1", "compute.noise=0.1 is for rollouts beyond the first"),
        ("+compute.rolouts=3", "compute.rolouts does not exist; did you mean rollouts?"),
    ],
)
def test_a_bad_evaluation_config_is_refused_by_its_key(override, said):
    with pytest.raises(InputError) as refused:
        read(EvaluationConfig, resolved(compose("evaluate", CHECKPOINT, override)))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("optimizer.lr=abc", "optimizer.lr='abc' must be of the same type as its default, 0.001"),
        ("optimizer.lr=null", "optimizer.lr=None must be of the same type as its default, 0.001"),
        ("optimizer.betas=5", "optimizer.betas=5 must be of the same type as its default, (0.9, "),
        ("optimizer.betas=[0.9]", "optimizer.betas=[0.9] must be of the same type"),
        ("optimizer.weight_decay=true", "optimizer.weight_decay=True must be of type float"),
        ("optimizer.fused=3", "optimizer.fused=3 must be of type"),
        ("optimizer=adam_atan2 optimizer.lr=abc", "optimizer.lr='abc' must be of type float"),
        ("optimizer=adam_atan2 optimizer.betas=5", "optimizer.betas=5 must be of the same type"),
        ("optimizer=muon optimizer.betas=[a,b]", "optimizer.betas=['a', 'b'] must be of the same"),
        ("optimizer=muon +optimizer.momentun=1", "optimizer: muon takes no momentun; did you mean"),
        ("optimizer.lr=-1", "optimizer: "),
        ("optimizer._target_=no.such", "optimizer._target_=no.such cannot be imported"),
    ],
)
def test_a_bad_optimizer_is_refused_by_its_key(overrides, said):
    config = TrainingConfig.of(compose("train", *overrides.split()))
    with pytest.raises(InputError) as refused:
        _optimizer(config.optimizer, tiny_model())
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def loose(params, lr=0.1, limit: float | None = 1.0, **others):
    return {"lr": lr, "limit": limit, **others}


def checked_elsewhere(params: "OnlyATypeCheckerKnows", lr=0.1):  # noqa: F821
    return {"lr": lr}


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        (loose, {"lr": 1, "limit": None, "more": "words"}),
        (loose, {"lr": None, "limit": 2}),
        (checked_elsewhere, {"lr": 3}),
    ],
)
def test_a_factory_of_ones_own_takes_anything_that_its_signature_allows(target, arguments):
    config = {"_target_": f"{__name__}.{target.__name__}", "_partial_": True, **arguments}
    assert _optimizer(config, tiny_model())([]) == arguments


@dataclass(frozen=True)
class Part:
    kind: Literal["a", "b"]
    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 0:
            raise InputError(f"size={self.size} is no size")


@dataclass(frozen=True)
class Whole:
    part: Part | None
    rest: Section


def test_sections_are_read_from_annotations():
    assert read(Whole, {"part": {"kind": "a"}, "rest": {}}) == Whole(Part("a", 3), {})
    assert read(Whole, {"part": None, "rest": {}}).part is None
    for plain, said in (
        ({"rest": {}}, "config key part is gone; set part=null instead"),
        ({"part": 3, "rest": {}}, "part=3 must be of type dict | None"),
        ({"part": {"kind": "a", "size": -1}, "rest": {}}, "part.size=-1 is no size"),
        ({"part": {"kind": "c"}, "rest": {}}, "part.kind=c must be one of a, b"),
        ({"part": None, "rest": []}, "rest=[] must be of type dict"),
    ):
        with pytest.raises(InputError) as refused:
            read(Whole, plain)
        assert str(refused.value) == said
