"""The supervision step as a plain function of tensors, with float or int8 weights."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trm.models.recursion import Halting, RecursiveModel, State, Step, halting_logit
from trm.support.errors import InputError

_MOST_ROWS_BYTES = 2**30  # an .onnx file may hold 2 GiB
_INT8 = 127  # symmetric: -128 is not used
OUTPUTS = ("y", "z", "y_hat", "q_hat", "contradiction")  # the last of models that say so


class SupervisionStep(nn.Module):
    """``(x_input, y, z) -> (y, z, y_hat, q_hat)``; puzzles without identifiers.

    ``q_hat`` stops a puzzle when positive, whichever way the model was trained to stop. Of models
    that say when a puzzle contradicts itself, the logit ``contradiction`` comes last: a search asks
    for it.

    Args:
        model: in eval mode
        halting: what it learned to stop by
        int8: round the weights of its linear layers
    """

    inputs: tuple[str, ...] = ("x_input", "y", "z")

    def __init__(self, model: RecursiveModel, halting: Halting, int8: bool = False) -> None:
        super().__init__()
        self.model = Int8Weights(model) if int8 else model
        self.halting: Halting = halting

    def forward(self, x_input: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """Take a step."""
        return self._step(x_input, x_input[:, 0], y, z)  # identifiers are not looked at

    def _step(self, x_input: Tensor, puzzle_id: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        step = self.model(x_input, puzzle_id, State(y, z))
        # An exported graph is made for one order in memory: outputs are again as inputs were.
        y, z, y_hat = (t.contiguous() for t in (step.state.y, step.state.z, step.y_hat))
        outputs = y, z, y_hat, halting_logit(step, self.halting)
        return outputs if step.contradiction is None else (*outputs, step.contradiction)


class IdentifiedStep(SupervisionStep):
    """``(x_input, puzzle_id, y, z) -> (y, z, y_hat, q_hat)``; the table of rows is part of it."""

    inputs = ("x_input", "puzzle_id", "y", "z")

    def forward(  # type: ignore[override]  # torch.export names the inputs after it
        self, x_input: Tensor, puzzle_id: Tensor, y: Tensor, z: Tensor
    ) -> tuple[Tensor, ...]:
        """Take a step."""
        return self._step(x_input, puzzle_id, y, z)


class Int8Weights(nn.Module):
    """A model whose linear layers keep their weights as int8, one scale per output.

    They are widened once per supervision step, which passes through the network many times, so it
    costs hardly more than with float weights; what it saves is space. Activations stay float32:
    rounding those as well (``torch.ao``'s dynamic quantisation) changed two to three times as many
    final answers of the shipped models, and ``torch.export`` cannot write its packed weights.

    Args:
        model: kept out of sight, so that its own weights are not exported
    """

    def __init__(self, model: RecursiveModel) -> None:
        super().__init__()
        self._model = (model,)
        self._rounded = [
            f"{name}.weight" for name, layer in model.named_modules() if type(layer) is nn.Linear
        ]
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._names = list(tensors)
        for name, tensor in tensors.items():
            tensor = tensor.detach()
            if name in self._rounded:
                scale = tensor.abs().amax(1, keepdim=True).clamp(min=1e-12) / _INT8
                self.register_buffer(f"scale_{_flat(name)}", scale)
                tensor = (tensor / scale).round().to(torch.int8)
            self.register_buffer(_flat(name), tensor)

    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Step:
        """Take a step with the rounded weights."""
        tensors = {name: self.get_buffer(_flat(name)) for name in self._names}
        for name in self._rounded:
            tensors[name] = tensors[name] * self.get_buffer(f"scale_{_flat(name)}")
        return cast(Step, functional_call(self._model[0], tensors, (x_input, puzzle_id, state)))


def supervision_step(model: RecursiveModel, halting: Halting, int8: bool) -> SupervisionStep:
    """Return the step of a model, with identifiers as an input if it has rows for them.

    Raises:
        InputError: more rows than a file may hold
    """
    table = model.identifiers
    if table is None:
        return SupervisionStep(model, halting, int8).eval()
    if (size := table.weights.nbytes) > _MOST_ROWS_BYTES:
        raise InputError(
            f"{len(table.weights):,} identifier rows weigh {size / 2**30:.1f} GiB and an export "
            f"holds 1 GiB; keep fewer rows, as trm.load does with identifiers=[...]"
        )
    return IdentifiedStep(model, halting, int8).eval()


def example(step: SupervisionStep, model: RecursiveModel, cells: int, batch: int) -> list[Tensor]:
    """Return inputs for a step: empty grids, identifier 0 and the initial state."""
    state = y_and_z(model, batch)
    inputs = {
        "x_input": torch.zeros(batch, cells, dtype=torch.int64),
        "puzzle_id": torch.zeros(batch, dtype=torch.int64),
        "y": state.y.contiguous(),
        "z": state.z.contiguous(),
    }
    return [inputs[name] for name in step.inputs]


def initial(model: RecursiveModel) -> dict[str, Tensor]:
    """Return the initial ``y`` and ``z``, to be broadcast: equal rows are kept once."""
    state = y_and_z(model, 1)

    def once(tensor: Tensor) -> Tensor:
        kept = tuple(slice(1) if stride == 0 else slice(None) for stride in tensor.stride())
        return tensor[kept].contiguous().clone()

    return {"y": once(state.y), "z": once(state.z)}


def y_and_z(model: RecursiveModel, batch: int) -> State:
    """Return the initial state of a model whose state is ``y`` and ``z``.

    Raises:
        InputError: it is something else
    """
    state = model.initial_state(batch)
    if type(state) is not State:
        raise InputError(
            f"the state of {type(model).__name__} is a {type(state).__name__}; an export has "
            f"y and z as its inputs and outputs"
        )
    return state


def _flat(name: str) -> str:
    return name.replace(".", "_")  # the name of a buffer has no dots
