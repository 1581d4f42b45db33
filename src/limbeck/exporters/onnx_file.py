"""An ONNX file, for onnxruntime and other runtimes: one file, any batch size."""

__all__ = ["ONNX", "OPSET", "OnnxExporter", "graph_of", "name_axes", "session_of"]

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, FormatError
from limbeck.exporters.memory import ONNX_SCRIPT, peak_of_script
from limbeck.exporters.protocol import Card
from limbeck.exporters.tracing import Traced, hushed, portable, traced
from limbeck.inputs import Inputs
from limbeck.system.extras import load_extra
from limbeck.system.files import replace_bytes

OPSET = 18
"""The opset that PyTorch's exporter writes by itself: others are made of it by a converter."""
_LARGEST = (1 << 31) - (1 << 24)
"""Bytes of weights up to which all is in one file: the format, of protobuf, ends at 2 GiB."""
_NO_WARNINGS = 3


class OnnxExporter:
    """An ``.onnx`` file with weights inside, a batch axis of any size, and the names of the classes in its metadata."""

    name = "onnx"
    suffix = ".onnx"
    what = f"one ONNX file of opset {OPSET}, checked by onnxruntime"
    exact = True

    def refusal(self, model: nn.Module) -> str | None:
        """None: problems are found by writing."""
        return None

    def write(self, model: nn.Module, example: Inputs, path: Path, card: Card) -> Mapping[str, Any]:
        """Write the file; where the weights alone have 2 GiB they go into ``.data`` beside it."""
        found = traced(portable(model), example)
        proto = graph_of(found, type(model).__name__)
        name_axes(proto, found)
        helper = load_extra("onnx", "onnx").helper
        helper.set_model_props(proto, {**card.properties(), "output": found.output, "producer": "limbeck"})
        noted = {"inputs": list(found.inputs), "output": found.output, "opset": OPSET}
        weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
        if weights > _LARGEST:
            beside = f"{path.name}.data"
            load_extra("onnx", "onnx").save(proto, path, save_as_external_data=True, location=beside)
            return {**noted, "weights_beside": beside}
        replace_bytes(path, proto.SerializeToString())
        return noted

    def open(self, path: Path, *, threads: int | None = None) -> Callable[[Inputs], Tensor]:
        """A session of onnxruntime on the CPU."""
        return session_of(path, threads)

    def peak_memory(self, path: Path, inputs: Inputs) -> Mapping[str, int] | None:
        """Of a process that has onnxruntime and nothing of PyTorch."""
        return peak_of_script(ONNX_SCRIPT, path, inputs)


def graph_of(found: Traced, name: str) -> Any:
    """A traced program as an ONNX graph.

    Args:
        found: The program.
        name: Of the model, for messages.

    Returns:
        A ``ModelProto``.

    Raises:
        ConfigError: If ONNX has no form of one of its operators.
        MissingExtraError: If onnx or onnxscript is not installed.
    """  # noqa: DOC502
    load_extra("onnx", "onnx")
    load_extra("onnxscript", "onnx")
    try:
        with hushed(), torch.no_grad():
            made = torch.onnx.export(
                found.program,
                dynamo=True,
                verbose=False,
                external_data=False,
                opset_version=OPSET,
                input_names=list(found.inputs),
                output_names=[found.output],
            )
        assert made is not None
        proto = made.model_proto
    except Exception as error:  # torch.onnx has many types
        raise ConfigError(f"{name} cannot be exported to ONNX: {_reason(error)}") from error
    _forget_origins(proto.graph)
    return proto


def _forget_origins(graph: Any) -> None:
    """Take off what tells which line of whose code each operation is of: a kilobyte each, with the maker's paths."""
    for each in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        each.doc_string = ""
        del each.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _forget_origins(inner)


def _reason(error: BaseException) -> str:
    """The innermost reason, in a line."""
    at: BaseException = error
    while at.__cause__ is not None:
        at = at.__cause__
    lines = [line.strip() for line in str(at).splitlines() if line.strip()]
    said = next((line for line in lines if "No ONNX function found" in line or "operator" in line.lower()), "")
    return f"{said or ' '.join(lines)}"[:240] + ": replace that operation, or export to torch"


def name_axes(proto: Any, found: Traced) -> None:
    """Call the axes of any size "batch" and "length", and forget the shapes in between, which use other names.

    Args:
        proto: The graph, changed in place.
        found: What it was made of.
    """
    named: dict[str, str] = {}
    for each in proto.graph.input:
        for place, axis in enumerate(each.type.tensor_type.shape.dim):
            if axis.dim_param:
                axis.dim_param = named.setdefault(axis.dim_param, "batch" if place == 0 else "length")
    for each in proto.graph.output:
        for place, axis in enumerate(each.type.tensor_type.shape.dim):
            if axis.dim_param:
                axis.dim_param = named.get(axis.dim_param, "batch" if place == 0 else axis.dim_param)
    del proto.graph.value_info[:]


def session_of(path: Path, threads: int | None = None) -> Callable[[Inputs], Tensor]:
    """Make a function that runs an ONNX file with onnxruntime.

    Args:
        path: The file.
        threads: How many compute; None for as many as PyTorch has.

    Returns:
        A function of inputs to the first output.

    Raises:
        FormatError: If onnxruntime does not take the file.
        MissingExtraError: If onnxruntime is not installed.
    """  # noqa: DOC502
    runtime = load_extra("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = _NO_WARNINGS
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has types of its own
        raise FormatError(path, f"onnxruntime does not take it: {' '.join(str(error).split())[:240]}") from error
    names = [each.name for each in session.get_inputs()]

    def ask(inputs: Inputs) -> Tensor:
        given = {names[0]: inputs} if isinstance(inputs, Tensor) else inputs
        feeds = {name: np.ascontiguousarray(given[name].detach().cpu().numpy()) for name in names}
        return torch.from_numpy(np.asarray(session.run(None, feeds)[0]))

    return ask


ONNX = OnnxExporter()
