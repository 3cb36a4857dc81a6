"""Deep supervision as a LightningModule."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast, get_args

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from trm.data.sampler import Batch
from trm.inference.evaluation import answers, count_right
from trm.models.likelihoods import answer_loss
from trm.models.recursion import Halting, RecursiveModel, Step, halting_logit
from trm.support import counter_rng, distributed
from trm.support.batched import Batched
from trm.support.errors import InputError, check_at_least, check_between, check_choice
from trm.tasks.base import Task
from trm.training.acceleration import Advanced, Compiling, Replay, compiling
from trm.training.carry import Carry, steps_to_take
from trm.training.guards import HaltingWatch, all_finite, diverged
from trm.training.losses import StepLoss, continue_target
from trm.training.objectives import Objective
from trm.training.optimizers import CompositeOptimizer, SignSGD, lr_scale
from trm.training.tally import Measured, Tally, first_bad_step

MakeOptimizer = Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer]

_OBJECTIVE = 2  # tells this use of (seed, step, slot) from the sampler's and the exploration's


def validated(task: Task) -> list[str]:
    """Return the names of the metrics that validation logs."""
    return [f"val/{name}_accuracy" for name in (*task.measures, "cell")]


class DeepSupervision(LightningModule):
    """Train a recursive model: one supervision step and one optimizer step per batch.

    Puzzles stay in hand (``carry``) until the halting head says stop or ``N_sup`` steps are
    done; then a fresh puzzle takes the slot. Nothing here waits for the device except reading
    the metrics every ``log_every_n_steps``.

    Args:
        model: any model with the signature of ``RecursiveModel``
        task: for validity in validation
        optimizer: makes the network's optimizer from its named parameters
        objective: how a trajectory learns; None for deep supervision as published
        N_sup: the most supervision steps per puzzle, in training and validation
        micro_batch: puzzles advanced at once; null for the whole batch. The result is the same.
        loss: ``stablemax`` or ``softmax`` cross-entropy of the answer
        halting: ``solved`` stops at a positive halting logit; ``continue`` also learns the value of
            going on, by a second forward pass, and stops when halting beats it (HRM, ACT); None
            for the model's own
        halt_exploration: probability that a puzzle must go on although it says stop
        warmup_steps: of the learning rate, linear
        lr_min_ratio: where the cosine after warm-up ends; 1 keeps the rate constant
        gradient_clip: largest gradient norm; null for none, as published
        compile: ``off``, ``default``, ``max`` or ``auto``, see ``trm.training.acceleration``
        log_every_n_steps: how often training metrics are read off the device and logged
        identifier_lr: learning rate of the identifier rows, if the model has any
        identifier_weight_decay: theirs, too
        identifiers_only: freeze the network and learn rows for puzzles it has not seen
        seed: of exploration

    Raises:
        InputError: a value out of range
    """

    _compiled: AbstractContextManager[Any] | None

    def __init__(
        self,
        model: RecursiveModel,
        task: Task,
        optimizer: MakeOptimizer,
        objective: Objective | None = None,
        N_sup: int = 16,
        micro_batch: int | None = None,
        loss: str = "stablemax",
        halting: Halting | None = None,
        halt_exploration: float = 0.1,
        warmup_steps: int = 0,
        lr_min_ratio: float = 1.0,
        gradient_clip: float | None = None,
        identifier_lr: float = 1e-4,
        identifier_weight_decay: float = 1.0,
        identifiers_only: bool = False,
        compile: Compiling = "auto",
        log_every_n_steps: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_at_least(
            1, "train.", N_sup=N_sup, micro_batch=micro_batch, log_every_n_steps=log_every_n_steps
        )
        check_at_least(
            0,
            "train.",
            warmup_steps=warmup_steps,
            identifier_lr=identifier_lr,
            identifier_weight_decay=identifier_weight_decay,
        )
        if gradient_clip is not None and gradient_clip <= 0:
            raise InputError(
                f"train.gradient_clip={gradient_clip} must be positive; null turns clipping off"
            )
        check_between(0, 1, "train.", halt_exploration=halt_exploration, lr_min_ratio=lr_min_ratio)
        halting = halting or model.halting
        check_choice(get_args(Halting), "train.", halting=halting)
        check_choice(get_args(Compiling), "train.", compile=compile)
        self.automatic_optimization = False
        self.model, self.task = model, task
        self.make_optimizer = optimizer
        self.N_sup = 1 if model.one_pass else N_sup
        self.objective = Objective() if objective is None else objective
        _check_unroll(self.objective.unroll, model, self.N_sup)
        self.micro_batch = micro_batch
        self.answer_loss = answer_loss(loss)
        self.halting = halting
        self.halt_exploration = halt_exploration
        self.warmup_steps, self.lr_min_ratio = warmup_steps, lr_min_ratio
        self.gradient_clip = gradient_clip
        self.identifier_lr = identifier_lr
        self.identifier_weight_decay = identifier_weight_decay
        if identifiers_only:
            if model.identifiers is None:
                raise InputError(
                    "train.identifiers_only=true needs identifier rows; give the model positions "
                    "for them with model.prefix_len"
                )
            model.requires_grad_(False)
        self.compiling = compile
        # What to compile, and whether, is known with the first batch.
        self._compiled = nullcontext() if compile == "off" else None
        self._replay: Replay | None = None
        self.log_every_n_steps = log_every_n_steps
        self.seed = seed
        self.carries: dict[int, Carry] = {}  # by the number of cells; one of each size
        self._other_models: dict[int, RecursiveModel] = {}  # likewise; they share all weights
        self.tally = Tally()  # of training metrics since they were last read
        self._halting_watch = HaltingWatch()
        self._right: Tensor | None = None  # validation hits of the current pass
        self._seen = 0
        self._lr = 0.0  # of the last step

    @property
    def carry(self) -> Carry | None:
        """The puzzles in hand of the task's own size."""
        return self.carries.get(self.task.cells)

    def add_size(self, task: Task) -> None:
        """Train on puzzles of another size, too; a batch has one.

        Raises:
            InputError: the model has one size, or there are such puzzles already
        """
        if not self.model.any_size:
            raise InputError(
                f"sizes: {type(self.model).__name__} is made for {self.task.name} alone; take "
                f"model=trm_symmetric or trm_local, or sizes=null"
            )
        if task.cells in (self.task.cells, *self._other_models):
            raise InputError(f"sizes: there are two of {task.cells} cells; give each once")
        self._other_models[task.cells] = self.model.on(task.structure)

    def model_on(self, cells: int) -> RecursiveModel:
        """Return the model for puzzles of so many cells."""
        return self.model if cells == self.task.cells else self._other_models[cells]

    def configure_optimizers(self) -> Any:
        """Make one optimizer for network and identifier rows, and its schedule."""
        # Frozen parameters (identifiers_only) have no gradient, and an optimizer skips those.
        optimizer = self.make_optimizer(self.model.named_parameters())
        if self.model.identifiers is not None:
            rows = SignSGD(self.model.identifiers, self.identifier_lr, self.identifier_weight_decay)
            optimizer = CompositeOptimizer(optimizer, rows)
        max_steps = self.trainer.max_steps
        schedule = LambdaLR(
            optimizer, lambda step: lr_scale(step, self.warmup_steps, max_steps, self.lr_min_ratio)
        )
        return [optimizer], [schedule]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Advance every puzzle in hand by one supervision step and learn from it."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        k, unroll = self.global_step, self.objective.unroll
        slots = torch.arange(len(batch), device=batch.x_input.device)
        slots = slots + self.trainer.global_rank * len(batch)
        keys = counter_rng.key(self.seed, k, slots, _OBJECTIVE)
        cells = batch.x_input.shape[1]
        initial = self.objective.initial_state(self.model_on(cells), keys)
        carry = (self.carries.get(cells) or Carry.empty(batch, initial)).admit(batch, initial)

        optimizer.zero_grad()
        advance = self.advance_recorded if self._can_record(slots.device) else self.advance
        parts: list[Advanced] = []
        for part, is_last in self._slices(len(batch)):
            parts.append(advance(carry[part], keys[part]))
            with nullcontext() if is_last else self._gradients_kept_local():
                self.manual_backward(parts[-1].loss.total.sum() / len(batch))
        if self.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        self._lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        cast(LambdaLR, self.lr_schedulers()).step()

        must_take = steps_to_take(self.seed, k, slots, self.N_sup, self.halt_exploration)
        state = Batched.cat([part.state for part in parts])
        done = torch.cat([part.done for part in parts])
        carry = carry.advance(state, done, self.N_sup, must_take, unroll)
        self.carries[cells] = carry
        q_hat = torch.cat([part.q_hat for part in parts])
        self.tally.add([part.loss for part in parts], q_hat, carry)

    def _can_record(self, device: torch.device) -> bool:
        """Tell whether steps are recorded as CUDA graphs: where that is asked for and possible."""
        return (
            self.compiling == "max"
            and device.type == "cuda"
            # A second micro-batch would overwrite the gradient of the first; what a table of
            # identifiers notes in passing, a graph would not; nor does it wait for other processes.
            and self.micro_batch is None
            and self.model.identifiers is None
            and distributed.count() == 1
        )

    def on_train_end(self) -> None:
        """Let go of recorded graphs: whoever trains on copies this module first."""
        self._replay = None

    def advance(self, carry: Carry, keys: Tensor) -> Advanced:
        """Take the supervision steps that learn together; a function of its arguments' tensors.

        Args:
            carry: puzzles in hand
            keys: of what the objective draws, (batch,) int64
        """
        step, loss = self.supervise(carry, keys)
        q_hat = halting_logit(step, self.halting).detach()
        return Advanced(step.state.detach(), q_hat, _done(step, q_hat), loss)

    def advance_recorded(self, carry: Carry, keys: Tensor) -> Advanced:
        """Do as ``advance`` by CUDA graphs; the next call overwrites what this one returns."""
        if self._replay is None:
            self._replay = Replay(self.model, self.advance)
        return self._replay(carry, keys)

    def supervise(self, carry: Carry, keys: Tensor) -> tuple[Step, StepLoss]:
        """Take the supervision steps that learn together, and score each.

        Args:
            carry: puzzles in hand
            keys: of what the objective draws, (batch,) int64

        Returns:
            the last step, and the mean of the losses
        """
        puzzles, state, taken = carry.puzzles, carry.state, carry.steps
        if self._compiled is None:
            shape, device = puzzles.x_input.shape, puzzles.x_input.device
            steps_in_all = self.trainer.max_steps
            self._compiled = compiling(self.compiling, self.model, shape, device, steps_in_all)
        losses, model = [], self.model_on(puzzles.x_input.shape[1])
        for number in range(1, self.objective.unroll + 1):
            state = self.objective.before_step(state, puzzles, counter_rng.key(keys, number))
            with self._compiled:
                step = model(puzzles.x_input, puzzles.puzzle_id, state)
                step = self.objective.settle(step, puzzles, self.answer_loss)
                target = None
                if self.halting == "continue":
                    last = taken + number >= self.N_sup
                    target = continue_target(model, puzzles, step.state.detach(), last)
            state = step.state
            losses.append(self.objective.score(step, puzzles, self.answer_loss, target))
        return step, StepLoss.mean(losses)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the training metrics off the device, now and then."""
        if self.global_step >= self.trainer.max_steps:
            self.trainer.should_stop = True  # makes Lightning validate after the last step, too
        if self.global_step % self.log_every_n_steps:
            return
        measured = self._finite_measures()
        if measured is None:
            return
        self.tally.clear()
        if self.N_sup > 1:
            self._halting_watch.look(measured, self.global_step)
        logged = measured.logged | {"lr": self._lr}
        self._log({f"train/{name}": value for name, value in logged.items()})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count hits of the held-out puzzles."""
        y = answers(self.model, batch, self.N_sup)
        right = count_right(self.task, batch, y[-1:])[0]
        self._right = right if self._right is None else self._right + right
        self._seen += len(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies over all processes, each puzzle counted once."""
        names = validated(self.task)
        right = torch.zeros(len(names)) if self._right is None else self._right.float()
        seen_here = right.new_tensor([float(self._seen)])
        sums = torch.cat([right, seen_here]).to(self.device)
        *counts, seen = distributed.summed(sums).tolist()
        self._right, self._seen = None, 0
        self._log({name: count / seen for name, count in zip(names, counts, strict=True)})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the network does not hold; plain tensors only.

        Raises:
            DivergenceError: loss or weights are not finite, and must not replace a good checkpoint
        """
        self._finite_measures()
        table = self.model.identifiers
        rows = [] if table is None else [table.weights]
        if not all_finite([*self.model.parameters(), *rows]):
            raise diverged("the weights are", self.global_step, self._lr)
        checkpoint["tally"] = self.tally.state()
        if self.carries:
            checkpoint["carry"] = {
                self._carry_name(cells, name): tensor
                for cells, carry in self.carries.items()
                for name, tensor in carry.state_dict().items()
            }
        if self.model.identifiers is not None:
            checkpoint["identifiers"] = self.model.identifiers.weights

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back; a light checkpoint has no carry, and every slot takes a fresh puzzle."""
        device = self.trainer.strategy.root_device
        self.tally.restore(checkpoint.get("tally"), device)
        if "carry" in checkpoint:
            for cells, saved in self._saved_carries(checkpoint["carry"]).items():
                grid = torch.zeros(1, 1, dtype=torch.int64)
                initial = self.model_on(cells).initial_state(1)
                form = Carry.empty(Batch(grid, grid, grid[0]), initial)
                self.carries[cells] = form.restored(saved, device)
        if self.model.identifiers is not None:
            self.model.identifiers.weights.copy_(checkpoint["identifiers"])

    def _carry_name(self, cells: int, name: str) -> str:
        """Name a tensor of a carry in a checkpoint; those of the task's own size have no prefix."""
        return name if cells == self.task.cells else f"{cells}/{name}"

    def _saved_carries(self, saved: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """Sort what ``_carry_name`` named by the number of cells."""
        carries: dict[int, dict[str, Tensor]] = {}
        for name, tensor in saved.items():
            cells, _, rest = name.rpartition("/")
            carries.setdefault(int(cells) if cells else self.task.cells, {})[rest] = tensor
        return carries

    def _slices(self, batch_size: int) -> Iterator[tuple[slice, bool]]:
        """Yield the micro-batches and whether each is the last."""
        size = self.micro_batch or batch_size
        for start in range(0, batch_size, size):
            yield slice(start, start + size), start + size >= batch_size

    def _gradients_kept_local(self) -> AbstractContextManager[None]:
        """Add gradients up without averaging them over the processes yet."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if distributed.count() > 1 else nullcontext()  # type: ignore[attr-defined]

    def _finite_measures(self) -> Measured | None:
        """Read the tally, and refuse to go on from a loss that is not finite."""
        measured = self.tally.read()
        if measured is not None and measured.not_finite:
            batch_size = len(self.carry.steps) * distributed.count() if self.carry else 1
            step = first_bad_step(measured, self.global_step, batch_size)
            raise diverged("the loss is", step, self._lr)
        return measured

    def _log(self, metrics: dict[str, float]) -> None:
        """Show metrics to callbacks, and log them under the number of optimizer steps.

        Through ``self.log`` alone, loggers would get the last training metrics once more at the
        end, and count steps from 0.
        """
        self.log_dict(metrics, logger=False)
        if self.trainer.sanity_checking:
            return
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.global_step)
            logger.save()


def _done(step: Step, q_hat: Tensor) -> Tensor:
    """Return what ends a puzzle in training when positive: it is solved, or has no answer."""
    said = step.contradiction
    return q_hat if said is None else torch.maximum(q_hat, said.detach())


def _check_unroll(unroll: int, model: RecursiveModel, N_sup: int) -> None:
    """Refuse steps that are to learn together and cannot."""
    if unroll == 1:
        return
    if (T := getattr(model, "T", 1)) > 1:
        raise InputError(
            f"objective.unroll={unroll} needs one cycle (recursion.T=1; model.T=1 for HRM): the "
            f"first of T={T} carry no gradient and would cut it between the steps"
        )
    if getattr(model, "gradient", "cycle") == "one_step":
        raise InputError(
            f"objective.unroll={unroll} needs gradient through the whole cycle, and the model has "
            f"that of one step; take model.gradient=cycle, or objective.unroll=1"
        )
    if N_sup % unroll:
        raise InputError(
            f"train.N_sup={N_sup} must be a multiple of objective.unroll={unroll}, since so many "
            f"steps are taken together"
        )
