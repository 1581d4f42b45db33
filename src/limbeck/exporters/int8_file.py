r"""An ONNX file of 8-bit weights and activations: static quantisation in the QDQ form, per channel, by onnxruntime.

Ranges of activations are those of calibration examples, which are training examples. Weights get 7 bits: on x86
processors without VNNI the sum of two products of 8 bits may saturate, and the same file would give other outputs
there. Where the divergence from the float network on the calibration examples is above 0.001 nats, the layers that
cause most of it by themselves stay float. With epochs of fine-tuning, the network is first distilled from itself while
it rounds (:mod:`limbeck.exporters.fake_quantisation`); whichever of the two loses less is written.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["INT8"]

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.exporters.fake_quantisation import finetuned
from limbeck.exporters.memory import ONNX_SCRIPT, peak_of_script
from limbeck.exporters.onnx_file import OPSET, graph_of, name_axes, session_of
from limbeck.exporters.protocol import Card
from limbeck.exporters.tracing import hushed, portable, traced, widened
from limbeck.inputs import Inputs
from limbeck.system.extras import load_extra
from limbeck.system.files import replace_bytes

_KINDS = ("Conv", "Gemm", "MatMul")
"""Operators that are quantised."""
_ENOUGH = 1e-3
"""Largest mean divergence in nats that is accepted with all layers quantised."""
_LOOKED_AT = 8
"""Batches on which the divergence is measured."""


class Int8Exporter:
    """An ``.onnx`` file for onnxruntime with 8-bit layers; whether it is good enough a margin says."""

    name = "int8"
    suffix = ".int8.onnx"
    what = f"an ONNX file of opset {OPSET} with 8-bit layers, calibrated on training examples"
    exact = False

    def refusal(self, model: nn.Module) -> str | None:
        """None: problems are found by writing."""
        return None

    def write(self, model: nn.Module, example: Inputs, path: Path, card: Card) -> Mapping[str, Any]:
        """Calibrate, choose the layers that stay float, and write the file."""
        batches = [] if card.calibration is None else list(card.calibration())
        if not batches:
            raise ConfigError("int8 is calibrated on training examples, and there are none: give data with them")
        model = widened(model)
        tuned = None if card.finetuning is None else finetuned(model, lambda: batches, card.finetuning)
        found = traced(portable(model), example)
        with tempfile.TemporaryDirectory() as folder, hushed():
            whole, name = Path(folder, "float.onnx"), type(model).__name__
            _prepared(graph_of(found, name), whole)
            feeds = [_feeds(batch, found.inputs) for batch in batches]
            rounding = _Rounding.of(whole, feeds, Path(folder), whole)
            if not rounding.layers:
                raise ConfigError(f"{name} has no convolution or matrix product to round to 8 bits")
            kept, before, after = rounding.choose()
            noted: dict[str, Any] = {}
            if tuned is not None and card.finetuning is not None:
                again = Path(folder, "tuned.onnx")
                _prepared(graph_of(traced(portable(tuned), example), name), again)
                other = _Rounding.of(again, feeds, Path(folder), whole)
                better = other.choose()
                noted = {"epochs": card.finetuning.epochs, "divergence": {"without": after, "with": better[2]}}
                if better[2] < after:  # on the calibration examples; else what was trained is left
                    rounding, (kept, before, after) = other, better
                noted = {"finetuning": {**noted, "used": rounding is other}}
            made = rounding.rounded(set(rounding.layers) - set(kept))
        name_axes(made, found)
        helper = load_extra("onnx", "onnx").helper
        helper.set_model_props(made, {**card.properties(), "output": found.output, "producer": "limbeck"})
        replace_bytes(path, made.SerializeToString())
        return {
            "inputs": list(found.inputs),
            "output": found.output,
            "opset": OPSET,
            "calibration_examples": sum(len(next(iter(each.values()))) for each in rounding.feeds),
            "layers": len(rounding.layers),
            "float_layers": [rounding.layers[name] for name in kept],
            "calibration_divergence": {"all_int8": before, "chosen": after},
            **noted,
        }

    def open(self, path: Path, *, threads: int | None = None) -> Callable[[Inputs], Tensor]:
        """A session of onnxruntime on the CPU."""
        return session_of(path, threads)

    def peak_memory(self, path: Path, inputs: Inputs) -> Mapping[str, int] | None:
        """Of a process that has onnxruntime and nothing of PyTorch."""
        return peak_of_script(ONNX_SCRIPT, path, inputs)


def _prepared(proto: Any, path: Path) -> None:
    """Fold what can be folded, such as batch normalisation into convolutions, and infer shapes."""
    shapes = load_extra("onnxruntime.quantization.shape_inference", "onnx")
    raw = path.with_name("traced.onnx")
    raw.write_bytes(proto.SerializeToString())
    try:
        shapes.quant_pre_process(str(raw), str(path), skip_symbolic_shape=True)
    except Exception as error:  # onnxruntime has types of its own
        raise ConfigError(f"onnxruntime cannot prepare the network: {' '.join(str(error).split())[:200]}") from error


def _feeds(inputs: Inputs, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    given = {names[0]: inputs} if isinstance(inputs, Tensor) else inputs
    return {name: np.ascontiguousarray(given[name].detach().cpu().numpy()) for name in names}


class _Reader:
    """What onnxruntime asks for calibration examples; its own base class goes by the method alone."""

    def __init__(self, given: Iterator[dict[str, NDArray[Any]]]) -> None:
        self.given = given

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch, or None at the end."""
        return next(self.given, None)


@dataclass(frozen=True, eq=False)
class _Rounding:
    """A float network with the ranges of its activations: any of its layers can be rounded.

    Attributes:
        path: The float network.
        layers: What each layer that can be rounded is called, by the name of its node.
        ranges: Of its activations, as onnxruntime has them.
        feeds: The calibration examples, in batches.
        reference: The float network whose answers are wanted.
    """

    path: Path
    layers: dict[str, str]
    ranges: Any
    feeds: list[dict[str, NDArray[Any]]]
    reference: Path

    @classmethod
    def of(cls, path: Path, feeds: list[dict[str, NDArray[Any]]], folder: Path, reference: Path) -> "_Rounding":
        """Calibrate: look at the activations of all examples."""
        quantisation = load_extra("onnxruntime.quantization", "onnx")
        graph = load_extra("onnx", "onnx").load(path).graph
        weights = {each.name for each in graph.initializer}
        layers = {
            node.name: next((name for name in node.input[1:2] if name in weights and "." in name), node.name)
            for node in graph.node
            if node.op_type in _KINDS
        }
        calibrator = quantisation.create_calibrator(
            path, list(_KINDS), augmented_model_path=str(folder / "augmented.onnx")
        )
        calibrator.collect_data(_Reader(iter(feeds)))
        return cls(path, layers, calibrator.compute_data(), feeds, reference)

    def rounded(self, names: set[str]) -> Any:
        """The network with some layers rounded, and the others as they are."""
        onnx, quantisation = load_extra("onnx", "onnx"), load_extra("onnxruntime.quantization", "onnx")
        quantiser = load_extra("onnxruntime.quantization.qdq_quantizer", "onnx").QDQQuantizer(
            onnx.load(self.path),
            True,  # per channel
            True,  # 7 bits of weights
            quantisation.QuantType.QInt8,
            quantisation.QuantType.QUInt8,
            self.ranges,
            sorted(names),
            [],
            list(_KINDS),
            {},
        )
        quantiser.quantize_model()
        return quantiser.model.model

    def choose(self) -> tuple[list[str], float, float]:
        """The nodes that stay float, and the divergence with all rounded and with these left out."""
        expected = [self._answers(self.reference, feeds) for feeds in self.feeds[:_LOOKED_AT]]
        everything = set(self.layers)
        before = self._divergence(everything, expected)
        if before <= _ENOUGH:
            return [], before, before
        costs = {name: self._divergence({name}, expected) for name in self.layers}
        worst = sorted(costs, key=lambda name: -costs[name])
        tried, count = [(before, 0)], 1
        while count <= len(worst) // 2:
            tried.append((self._divergence(everything - set(worst[:count]), expected), count))
            if tried[-1][0] <= _ENOUGH:
                break
            count *= 2
        after, kept = min(tried) if tried[-1][0] > _ENOUGH else tried[-1]
        return worst[:kept], before, after

    def _divergence(self, names: set[str], expected: list[NDArray[np.float64]]) -> float:
        """Mean divergence of the network with some layers rounded from the float one, nats."""
        path = self.path.with_name("tried.onnx")
        load_extra("onnx", "onnx").save(self.rounded(names), path)
        total = count = 0.0
        for feeds, log_p in zip(self.feeds, expected, strict=False):
            terms = np.exp(log_p) * (log_p - self._answers(path, feeds))
            total, count = total + float(terms.sum()), count + terms[..., 0].size
        return max(0.0, total / count)

    def _answers(self, path: Path, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Log-probabilities, of logits and of probabilities alike."""
        runtime = load_extra("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        output = session.get_outputs()[0].name
        values: NDArray[np.float64] = np.asarray(session.run([output], dict(feeds))[0], np.float64)
        if "prob" in output:
            return np.log(np.maximum(values, 1e-30))
        values = values - values.max(-1, keepdims=True)
        log_p: NDArray[np.float64] = values - np.log(np.exp(values).sum(-1, keepdims=True))
        return log_p


INT8 = Int8Exporter()
