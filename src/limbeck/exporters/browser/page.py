"""The HTML page, with embedded scripts, weights and samples, and a strict content security policy."""

__all__ = ["Network", "Script", "render"]

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from limbeck.exporters.protocol import Card
from limbeck.report.figures_style import harmless
from limbeck.report.page import verdict_box

_MOST_BARS = 12
"""As app.js has it."""


@dataclass(frozen=True)
class Script:
    """A script of the page.

    Attributes:
        name: Its id.
        source: JavaScript.
        module: Whether it is a module, which runs after the page is read.
    """

    name: str
    source: str
    module: bool = False


@dataclass(frozen=True, eq=False)
class Network:
    """The network as a page holds it.

    Attributes:
        runtime: "layers" for the page's own, or "onnxruntime-web".
        weights: What the runtime reads.
        layers: For the page's own runtime.
        version: Of onnxruntime-web.
        scripts: Of the runtime.
        wasm: The runtime's WebAssembly, gzipped; None for the page's own.
    """

    runtime: str
    weights: bytes
    layers: Sequence[Mapping[str, Any]] = ()
    version: str = ""
    scripts: tuple[Script, ...] = ()
    wasm: bytes | None = None


@dataclass(frozen=True, eq=False)
class Asked:
    """The input of the page.

    Attributes:
        input: As :func:`limbeck.exporters.browser.inputs.input_of` says.
        samples: As the page shows them.
        part: Which part of the data these are of.
        scripts: What makes inputs of it.
        several: Whether several labels may hold.
        pixels: Whether the file, asked by a program, takes pixels.
    """

    input: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]
    part: str
    scripts: tuple[str, ...] = ()
    several: bool = False
    pixels: bool = field(default=False)


def render(network: Network, asked: Asked, card: Card) -> str:
    """The page as HTML text; all that comes from elsewhere is escaped.

    Args:
        network: What it computes.
        asked: What it asks a person.
        card: What is known of the model.

    Returns:
        The page, equal for equal parts.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    scripts = [*network.scripts, *(Script(name, _asset(f"{name}.js")) for name in ("engine", *asked.scripts, "app"))]
    style = _asset("style.css")
    environment = Environment(
        loader=PackageLoader("limbeck.exporters.browser", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    spec = {
        "runtime": network.runtime,
        "classes": list(card.classes),
        "layers": list(network.layers),
        "input": dict(asked.input),
        "samples": list(asked.samples),
        "part": asked.part,
        "several": asked.several,
        "pixels": asked.pixels,
    }
    return environment.get_template("page.html.j2").render(
        title=harmless(card.title),
        policy=_policy(scripts, style, wasm=network.wasm is not None),
        style=Markup(style),  # noqa: S704
        facts=[harmless(fact) for fact in _facts(card)],
        verdict=verdict_box(card.metrics.get("verdict"), card.metrics.get("margin")),
        heading=_heading(asked, card),
        how=_how(asked),
        input=asked.input,
        part=asked.part,
        classes=len(card.classes),
        bars=_MOST_BARS,
        runtime=network.runtime,
        version=network.version,
        spec=Markup(inert(spec)),  # noqa: S704
        weights=Markup(base64.b64encode(network.weights).decode()),  # noqa: S704
        wasm=None if network.wasm is None else Markup(base64.b64encode(network.wasm).decode()),  # noqa: S704
        scripts=[
            (each.name, Markup(' type="module"' if each.module else ""), Markup(each.source))  # noqa: S704
            for each in scripts
        ],
    )


@cache
def _asset(name: str) -> str:
    """A file of this package, as it lies in the page."""
    return "\n" + files(__package__).joinpath("assets", name).read_text("utf-8")


def inert(values: Any) -> str:
    r"""JSON that can lie in a script element of data: no text in it ends the element or begins a comment.

    Args:
        values: Plain values.

    Returns:
        The text.

    Example:
        >>> inert(["</script><script>alert(1)"])
        '["\\u003c/script>\\u003cscript>alert(1)"]'
    """
    text = json.dumps(values, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _policy(scripts: Sequence[Script], style: str, *, wasm: bool) -> str:
    """Nothing is loaded, and no script runs but those that are written here, which are named by their digests."""
    allowed = [_digest(each.source) for each in scripts] + (["'wasm-unsafe-eval'"] if wasm else [])
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(allowed),
        "style-src": _digest(style),
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _facts(card: Card) -> Iterator[str]:
    yield f"{len(card.classes)} classes"
    found = next((card.metrics[role] for role in ("student", "model") if role in card.metrics), None)
    part = card.metrics.get("judged_on")
    if not isinstance(found, Mapping) or not part:
        return
    accuracy, examples = found.get("accuracy"), found.get("test_examples")
    if isinstance(accuracy, int | float) and isinstance(examples, int):
        yield f"{100 * accuracy:.2f} % accuracy on {examples:,} {part} examples"
    if isinstance(found.get("parameters"), int):
        yield f"{found['parameters']:,} weights"


def _heading(asked: Asked, card: Card) -> str:
    if asked.input["kind"] == "image":
        if not asked.input["draw"]:
            return "Show it an image"
        return "Draw a digit" if all(name.isdigit() for name in card.classes) else "Draw, or choose an image"
    return {"text": "Type a text", "table": "Fill in a row"}.get(asked.input["kind"], "Give it numbers")


def _how(asked: Asked) -> list[str]:
    """How what a person gives becomes what the network takes, in sentences."""
    if asked.input["kind"] != "image":
        return list(asked.input.get("how", ()))
    size = f"{asked.input['height']} × {asked.input['width']}"
    shown = f"An image file, chosen, dropped or pasted, is resized to {size} pixels"
    shown += " and made grey" if asked.input["channels"] == 1 else ""
    if not asked.input["draw"]:
        return [f"{shown}."]
    box = round(20 * min(asked.input["height"], asked.input["width"]) / 28)
    return [
        f"A drawing is scaled to a box of {box} pixels and centred by its centre of mass, as the digits of MNIST are.",
        f"{shown}, and not centred.",
        "Keys: Z takes back a stroke, C clears.",
    ]
