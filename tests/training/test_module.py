"""Deep supervision: what one training step does, and the published training trajectories."""

import pytest
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from tests.conftest import tiny_model
from tests.parity.arrays import Published, error
from trm import InputError
from trm.data import Sampler
from trm.models import (
    DirectPrediction,
    HierarchicalReasoningModel,
    MultiScaleModel,
    SingleLatentModel,
    TinyRecursiveModel,
)
from trm.tasks import Sudoku
from trm.training.ema import EMA
from trm.training.module import DeepSupervision
from trm.training.optimizers import AdamATan2


def make(model=None, lr=1e-3, **settings):
    model = model or tiny_model(n=1, T=2)
    settings = {"N_sup": 3, "halt_exploration": 0.5} | settings
    return DeepSupervision(
        model, Sudoku(2, 2), lambda params: AdamATan2(params, lr=lr, weight_decay=0.1), **settings
    )


class Given(LightningDataModule):
    """Serve batches made beforehand."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def train_dataloader(self):
        return DataLoader(range(len(self.batches)), batch_size=None)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return self.batches[batch]


def fit(module, batches, callbacks=(), **settings):
    trainer = Trainer(
        max_steps=len(batches),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **settings,
    )
    trainer.fit(module, Given(batches))
    return trainer


def some_batches(puzzles, count, size=8):
    sampler = Sampler(puzzles.splits["train"], Sudoku(2, 2), size, 0, None)
    return [sampler.batch(k) for k in range(count)]


def test_global_step_counts_batches_with_identifier_rows_too(puzzles):
    module = make(tiny_model(n=1, T=2, prefix_len=1))
    assert fit(module, some_batches(puzzles, 5)).global_step == 5
    assert module.model.identifiers.weights.abs().sum() > 0


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batches_give_the_same_result(puzzles, micro_batch):
    batches = some_batches(puzzles, 6)
    whole, sliced = (
        make(tiny_model(n=1, T=2, prefix_len=1).double(), micro_batch=size)
        for size in (None, micro_batch)
    )
    for module in (whole, sliced):
        fit(module, batches, precision="64-true")
    for name, expected in whole.model.state_dict().items():
        torch.testing.assert_close(sliced.model.state_dict()[name], expected, rtol=1e-9, atol=1e-9)
    assert sliced.carry.steps.equal(whole.carry.steps)
    assert sliced.model.identifiers.weights.equal(whole.model.identifiers.weights)


def test_recorded_steps_are_the_same_steps(puzzles, monkeypatch):
    def recorded(function, own, **_):
        """What a CUDA graph does: it reads and writes the same memory at every call."""
        results = []

        def replayed(*now):
            for mine, new in zip(tree_leaves(own), tree_leaves(now), strict=True):
                mine.copy_(new)
            for old in results:
                old.detach().zero_()
            found = function(*own)
            results[:] = tree_leaves(found)
            return found

        return replayed

    batches = some_batches(puzzles, 6)
    plain, replaying = make(N_sup=3), make(N_sup=3)
    fit(plain, batches)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorded)
    monkeypatch.setattr(replaying, "_can_record", lambda device: True)
    fit(replaying, batches)
    for one, other in zip(replaying.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_every_puzzle_leaves_after_at_most_N_sup_steps(puzzles):
    module = make()
    fit(module, some_batches(puzzles, 3))
    assert module.carry.steps.tolist() == [3] * 8, "a fresh model never halts by itself"
    assert module.carry.halted.all()


def test_the_state_carried_over_has_no_gradient(puzzles):
    module = make()
    fit(module, some_batches(puzzles, 1))
    assert not module.carry.state.y.requires_grad
    assert not module.carry.state.z.requires_grad


def test_gradient_clipping_bounds_the_step(puzzles):
    norms = []

    class Watch(AdamATan2):
        def step(self, closure=None):
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(torch.nn.utils.get_total_norm(grads).item())
            return super().step(closure)

    module = make(gradient_clip=1e-3)
    module.make_optimizer = Watch
    fit(module, some_batches(puzzles, 3))
    assert max(norms) == pytest.approx(1e-3, rel=1e-2)


def test_the_average_starts_at_the_initial_weights(puzzles):
    module = make()
    start = module.model.answer_head.weight.detach().clone()
    after = []

    class Watch(EMA):
        def on_train_end(self, trainer, pl_module):
            after.append(pl_module.model.answer_head.weight.detach().clone())
            super().on_train_end(trainer, pl_module)

    fit(module, some_batches(puzzles, 1), [Watch(0.9)])
    averaged = 0.9 * start + 0.1 * after[0]
    torch.testing.assert_close(module.model.answer_head.weight.detach(), averaged)


def test_validating_a_checkpoint_uses_the_averaged_weights(puzzles, tmp_path):
    # Lightning's own callback would put the raw weights back after loading.
    class WithValidation(Given):
        def val_dataloader(self):
            return DataLoader(range(1), batch_size=None)

    class SaveAtTheEnd(Callback):  # after training the average is all there is
        def on_train_batch_end(self, trainer, *_):
            trainer.save_checkpoint(tmp_path / "file.ckpt")

    module = make()
    trainer = fit(module, some_batches(puzzles, 3), [EMA(0.5), SaveAtTheEnd()])
    saved = torch.load(tmp_path / "file.ckpt")
    names = saved["state_dict"].keys()
    assert any(not saved["state_dict"][k].equal(saved["current_model_state"][k]) for k in names)
    data = WithValidation(some_batches(puzzles, 1))
    trainer.validate(module, data, ckpt_path=tmp_path / "file.ckpt", verbose=False)
    assert all(tensor.equal(saved["state_dict"][k]) for k, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", ["training_trm_att", "training_trm_mlp"])
def test_eight_published_training_steps(name):
    """Carry, halting, metrics, optimizer and identifier rows, in float64 against the arrays."""
    published = Published(name)
    config = published.config
    module = DeepSupervision(
        published.model(),
        Sudoku(2, 2),
        lambda params: AdamATan2(
            params, config["lr"], tuple(config["betas"]), config["weight_decay"]
        ),
        N_sup=config["halt_max_steps"],
        halt_exploration=config["halt_exploration_prob"],
        identifier_lr=config["puzzle_emb_lr"],
        identifier_weight_decay=config["puzzle_emb_weight_decay"],
        log_every_n_steps=1,
    )
    seen = []

    def after_step(outputs, batch, batch_idx):
        seen.append((module.carry, module.tally.sums.tolist()))
        module.tally.clear()

    module.on_train_batch_end = after_step
    names = [key for key in published.arrays.files if key.startswith("batch")]
    first = min(int(key[5 : key.index("/")]) for key in names)
    batches = [published.batch(f"batch{k}/") for k in range(first, first + 8)]
    fit(module, batches, precision="64-true")

    assert len(seen) == 8
    for k, (carry, sums) in enumerate(seen, start=first):
        total, answer, halt, _solved, halted, exact, cell, halt_right, steps = sums[3:]
        assert carry.halted.tolist() == published[f"step{k}/halted"].tolist()
        assert carry.steps.tolist() == published[f"step{k}/steps"].tolist()
        expected = {
            "loss_sum": total,
            "metric/count": halted,
            "metric/accuracy": cell,
            "metric/exact_accuracy": exact,
            "metric/q_halt_accuracy": halt_right,
            "metric/steps": steps,
            "metric/lm_loss": answer,
            "metric/q_halt_loss": halt,
        }
        for key, value in expected.items():
            assert value == pytest.approx(published[f"step{k}/{key}"].item(), rel=1e-8), (k, key)
    final = published.below("final/")
    rows = final.pop("puzzle_emb.weights")
    assert error(module.model.identifiers.weights, rows) < 1e-8
    for key, expected in final.items():
        assert error(module.model.state_dict()[key], expected) < 1e-8, key


def test_identifiers_only_learns_rows_and_leaves_the_network_alone(puzzles):
    model = tiny_model(n=1, T=2, prefix_len=1)
    torch.nn.init.normal_(model.halt_head.weight)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit(make(model, identifiers_only=True), some_batches(puzzles, 4), [EMA(0.5)])
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert model.identifiers.weights.abs().sum() > 0
    with pytest.raises(InputError, match="model.prefix_len"):
        make(identifiers_only=True)


@pytest.mark.parametrize("halting", ["solved", "continue"])
def test_every_model_trains_with_either_halting(puzzles, halting):
    sizes = {"dim": 16, "heads": 2, "hidden_multiple": 8, "layers": 1}
    for kind, own in (
        (TinyRecursiveModel, {"n": 2, "T": 2, "gradient": "one_step", "separate": True}),
        (SingleLatentModel, {"n": 2, "T": 2}),
        (MultiScaleModel, {"n": 2, "T": 2}),
        (HierarchicalReasoningModel, {}),
        (DirectPrediction, {}),
    ):
        model = kind(6, 16, **sizes, **own)
        before = [p.detach().clone() for p in model.parameters()]
        module = make(model, halting=halting, micro_batch=3)
        fit(module, some_batches(puzzles, 4))
        assert module.N_sup == (1 if kind is DirectPrediction else 3)
        moved = [not p.equal(old) for p, old in zip(model.parameters(), before, strict=True)]
        assert all(moved), kind.__name__
