"""Write a supervision step in one of the formats, and open it again."""

import importlib
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from trm.support.errors import InputError

# torch is imported where it is needed: to run an .onnx file takes ONNX Runtime and numpy alone.

Kind = Literal["torch_export", "onnx", "int8"]
KINDS: tuple[str, ...] = get_args(Kind)
FILES = {"torch_export": "step.pt2", "onnx": "step.onnx", "int8": "step.pt2"}
RunStep = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

# No name may stand on both sides.
_ONNX_OUTPUTS = ["y_next", "z_next", "y_hat", "q_hat", "contradiction"]
_ONE_FILE = 1_900_000_000  # bytes of weights; beyond 2 GiB an .onnx file has them beside it


def needed(module: str) -> Any:
    """Import an optional package.

    Raises:
        InputError: it is not installed
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"this format needs the extra: pip install '.[export]' ({error})"
        ) from None


def check_extra(kind: str) -> None:
    """Refuse, before any work is done, a format whose packages are missing."""
    if kind == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            needed(module)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' warnings and logs, which speak of their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_step(kind: str, step: Any, inputs: Sequence[Any], folder: Path) -> None:
    """Write the step file of one of ``KINDS`` into a folder that exists.

    ``step`` is a ``SupervisionStep``, with int8 weights for the kind of that name, and ``inputs``
    an example of two puzzles, say.
    """
    import torch

    dynamic = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    with quiet(), torch.no_grad():
        program = torch.export.export(step, tuple(inputs), dynamic_shapes=dynamic)
        for node in program.graph.nodes:  # half of a small file, and the paths of this machine
            for name in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"):
                node.meta.pop(name, None)
        if kind == "onnx":
            _write_onnx(program, step, folder / FILES[kind])
        else:
            torch.export.save(program, folder / FILES[kind])
            _deflate(folder / FILES[kind])


def open_step(kind: str, file: Path, threads: int | None = None) -> RunStep:
    """Return the step as a function of arrays, on the CPU.

    A .pt2 file is a program: open those of people you trust.

    Args:
        kind: one of ``KINDS``
        file: the step file
        threads: of ONNX Runtime, None for as many as it likes; torch has its own setting

    Raises:
        InputError: a missing package
    """
    return _open_onnx(file, threads) if kind == "onnx" else _open_torch(file)


def _deflate(file: Path) -> None:
    """Compress the archive: of a small step its graph, as JSON, is the larger part."""
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def _write_onnx(program: Any, step: Any, file: Path) -> None:
    import torch

    onnx = needed("onnx")
    exported = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=list(step.inputs),
        output_names=_ONNX_OUTPUTS[: len(program.graph_signature.user_outputs)],
    )
    assert exported is not None, "with dynamo=True it is a program"
    model = exported.model_proto
    _trim(model.graph)
    sizes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    onnx.save_model(model, str(file), save_as_external_data=sizes > _ONE_FILE)


def _trim(graph: Any) -> None:
    """Drop notes on where nodes come from, and keep equal constants once.

    The exporter turns a weight around anew for each of the many passes through the network.
    """
    kept: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    tensors = list(graph.initializer)
    del graph.initializer[:]
    for tensor in tensors:
        key = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
        first = kept.setdefault(key, tensor.name) if tensor.raw_data else tensor.name
        same[tensor.name] = first
        if first == tensor.name:
            graph.initializer.append(tensor)
    for node in graph.node:
        del node.metadata_props[:]
        node.input[:] = [same.get(name, name) for name in node.input]
    del graph.value_info[:]  # shapes in between, which are inferred again


def _open_torch(file: Path) -> RunStep:
    import torch

    with quiet():
        module = torch.export.load(file).module()

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            # torch warns of arrays that may only be read, as if it were to write to them.
            outputs = module(*(torch.from_numpy(np.require(a, requirements="W")) for a in inputs))
        return [output.numpy() for output in outputs]

    return run


def _open_onnx(file: Path, threads: int | None) -> RunStep:
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads or 0
    # Threads that wait by spinning take the cores from whatever else computes here.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
        return outputs

    return run
