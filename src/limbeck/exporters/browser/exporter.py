"""The exporter of a self-contained HTML page that runs the network in the browser."""

__all__ = ["BROWSER"]

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.exporters.browser.inputs import SCRIPTS, input_of, samples_of
from limbeck.exporters.browser.layers import layers_of
from limbeck.exporters.browser.node import asked_in_node
from limbeck.exporters.browser.page import Asked, Network, Script, render
from limbeck.exporters.browser.runtime import onnxruntime_web
from limbeck.exporters.onnx_file import graph_of, name_axes
from limbeck.exporters.pixels import FromPixels
from limbeck.exporters.protocol import Card, Samples
from limbeck.exporters.tracing import portable, traced
from limbeck.inputs import Inputs, first_few
from limbeck.models.calling import call_model, presentation_of
from limbeck.models.wrapped import unwrapped
from limbeck.system.files import replace_text


class BrowserExporter:
    """A ``.html`` file without a server, a network or another file."""

    name = "browser"
    suffix = ".html"
    what = "one HTML file that runs the network in the page, for a person to try it"
    exact = True

    def refusal(self, model: nn.Module) -> str | None:
        """None: problems are found by writing."""
        return None

    def write(self, model: nn.Module, example: Inputs, path: Path, card: Card) -> Mapping[str, Any]:
        """Write the page."""
        pixels = isinstance(model, FromPixels)
        network = unwrapped(model.model if isinstance(model, FromPixels) else model).eval()
        samples = card.samples or Samples("example", presentation_of(network), example)
        _require_one_answer(network, samples.inputs, card)
        given = input_of(samples)
        scripts = SCRIPTS.get(given["kind"], ())
        asked = Asked(given, samples_of(samples, card.classes), samples.part, scripts, pixels=pixels)
        made = _network(network, samples.inputs if pixels else example, card)
        page = render(made, asked, card)
        replace_text(path, page)
        held = sum(4 * -(-len(each) // 3) for each in (made.weights, made.wasm or b""))
        runtime = f"{made.runtime} {made.version}".strip()
        return {"runtime": runtime, "weights_bytes": len(made.weights), "page_bytes": len(page) - held}

    def open(self, path: Path, *, threads: int | None = None) -> Callable[[Inputs], Tensor]:
        """Load the page, running its scripts in Node.js."""
        return asked_in_node(path)

    def peak_memory(self, path: Path, inputs: Inputs) -> Mapping[str, int] | None:
        """Peak memory of the Node.js process; a browser needs more."""
        asked = asked_in_node(path)
        for _ in range(3):
            asked(first_few(inputs, 1))
        most = asked.peak()
        return None if most is None else {"bytes": most}


def _require_one_answer(model: nn.Module, inputs: Inputs, card: Card) -> None:
    with torch.no_grad():
        answered = call_model(model, inputs)
    if answered.ndim != 2:
        raise ConfigError(
            f"a page shows one output per example, and {card.title} outputs shape {tuple(answered.shape)}: "
            "export to onnx or torch"
        )


def _network(model: nn.Module, inputs: Inputs, card: Card) -> Network:
    """The network as the page computes it."""
    ready = portable(model)
    if isinstance(inputs, Tensor):
        found = layers_of(ready, flat=inputs.ndim == 2)
        if found is not None:
            return Network("layers", found.weights(), found.layers)
    runtime = onnxruntime_web(card.onnxruntime_web)
    program = traced(ready, inputs)
    proto = graph_of(program, card.title)
    name_axes(proto, program)
    script = Script("ort", runtime.script, module=True)
    return Network("onnxruntime-web", proto.SerializeToString(), (), runtime.version, (script,), runtime.wasm)


BROWSER = BrowserExporter()
