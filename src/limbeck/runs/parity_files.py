"""The parity report of an export: ``parity.json`` and ``parity.html``."""

__all__ = ["write_report"]

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.exporters import Card
from limbeck.exporters.comparing import pixels_of, plain_view
from limbeck.exporters.parity import Held, Parity
from limbeck.options import ImagePresentation
from limbeck.report.parity import FileSummary, Flip, ParityContents, write_parity_page
from limbeck.system.files import replace_json
from limbeck.system.machine import machine

_PACKAGES = ("limbeck", "torch", "onnx", "onnxscript", "onnxruntime", "timm", "transformers", "numpy")


_SHOWN = 200
"""Number of differing examples per file on the page."""


def write_report(
    folder: Path,
    found: Sequence[Parity],
    held: Held,
    card: Card,
    *,
    draw: Callable[[ParityContents, Path], object] | None = None,
) -> dict[str, Any]:
    """Write ``parity.json`` and ``parity.html``.

    Args:
        folder: The folder to write into.
        found: The parity of each file.
        held: The examples.
        card: The model card.
        draw: Writes the page; None for Limbeck's own.

    Returns:
        The contents of ``parity.json``.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    about = {
        "model": card.title,
        "source": card.source,
        "judged_on": held.part,
        "examples": held.examples.digest,
        "data": dict(card.data),
        "temperature": card.temperature,
        "machine": machine(_PACKAGES),
    }
    measured = [each.to_dict() for each in found]
    parity = {**about, "created": now, "formats": {each.name: m for each, m in zip(found, measured, strict=True)}}
    replace_json(folder / "parity.json", parity)
    contents = ParityContents(
        title=card.title,
        created=now,
        part=held.part,
        examples=len(held.rows),
        files=tuple(
            FileSummary(each.name, m, each.found.differences, each.sentence())
            for each, m in zip(found, measured, strict=True)
        ),
        flips=tuple(flip for each in found for flip in _flips(each, held, card.classes)),
        notes=tuple(_notes(held, card)),
        settings={name: value for name, value in about.items() if value},
    )
    (draw or write_parity_page)(contents, folder / "parity.html")
    return parity


def _notes(held: Held, card: Card) -> Iterator[str]:
    if card.temperature is not None:
        yield (
            f"The logits of the original and of the files are divided by the temperature {card.temperature:.4g}, which "
            "changes no prediction."
        )
    if held.part == "example":
        yield (
            "There were no held-out examples: the files were compared on the given example inputs, which says little "
            "about real ones. Give data."
        )
    if held.part == "validation":
        yield "There was no test set: the files are compared on the validation set."
    if held.pixels:
        yield "The files take uint8 pixels and give probabilities; normalisation is inside."


def _flips(found: Parity, held: Held, classes: Sequence[str]) -> list[Flip]:
    """The examples that a file predicts differently, with their images."""
    answers, rows = found.found, found.found.rows
    flips = answers.flips[:_SHOWN]
    if (answers.answers[1] < 0).all():  # it could not be run
        return []
    images = _images(held, torch.from_numpy(rows[flips]))

    def named(number: int) -> str:
        return classes[number] if number < len(classes) else str(number)

    return [
        Flip(
            found.name,
            int(rows[at]),
            named(int(answers.answers[0][at])),
            named(int(answers.answers[1][at])),
            None if answers.labels is None else named(int(answers.labels[at])),
            float(answers.margin[at]) if np.isfinite(answers.margin[at]) else None,
            bool(found.tied[place]),
            None if images is None else images[place],
        )
        for place, at in enumerate(flips.tolist())
    ]


def _images(held: Held, rows: torch.Tensor) -> NDArray[np.uint8] | None:
    """Pixels of some examples, ``(n, H, W)`` or ``(n, H, W, 3)``; None where they are not images."""
    examples = held.examples
    seen = examples.presentation
    if not len(rows) or not (isinstance(seen, ImagePresentation) or examples.kind == "uint8 images"):
        return None
    inputs = pixels_of(examples.batch(rows), plain_view(examples, None))
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 4 or inputs.shape[1] not in {1, 3}:
        return None
    array: NDArray[np.uint8] = inputs.numpy()
    return array[:, 0] if array.shape[1] == 1 else np.moveaxis(array, 1, -1)
