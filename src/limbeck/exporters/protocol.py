"""The protocol of export formats: writing and running of files."""

__all__ = ["CannotRun", "Card", "Exporter", "Finetuning", "Samples"]

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from limbeck.inputs import Inputs


class CannotRun(Exception):
    """This machine lacks what runs a file of a format; the text says what, and how to get it."""


@dataclass(frozen=True, eq=False)
class Samples:
    """A few held-out examples in raw form, for formats that show some.

    Attributes:
        part: Which part of the data they are of, such as "test".
        presentation: How the model sees them, or None.
        inputs: As the model takes them.
        given: What a person would give: images as uint8 ``(n, C, H, W)`` of the model's size, texts, or the values of a
            row by column; None where the inputs are all there is.
        labels: Numbers of the true classes, or None.
    """

    part: str
    presentation: Any
    inputs: Inputs
    given: Tensor | Sequence[Any] | None = None
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Finetuning:
    """The settings of quantisation-aware fine-tuning.

    Attributes:
        epochs: How many, at least 1.
        steps: Batches in an epoch.
        batches: Gives those of an epoch, training examples as the model takes them.
    """

    epochs: int
    steps: int
    batches: Callable[[int], Iterable[Inputs]]


@dataclass(frozen=True)
class Card:
    """Metadata of a model, for files and the model card.

    Attributes:
        title: A short description, such as "mlp 784-300-10".
        classes: Names of the classes, in the order of the logits; of the labels where several may hold.
        metrics: What ``metrics.json`` of the run holds; empty where there is no run.
        data: Digests of the parts of the data, by name, where they are known.
        settings: The run's settings.
        source: What was exported, such as the run's folder; for the record.
        calibration: A function that gives batches of training examples, as the model takes them, for formats that
            round; None where there are none. They are never those that files are evaluated on.
        finetuning: For formats that round: distil the model that rounds from itself first; None: do not.
        temperature: By which the logits of the model are divided, where they are calibrated; else None.
        samples: Held-out examples to show; None where there are none.
        presentation: How the model sees examples, by itself or by the data; None where it takes them as they are.
        contract: What its inputs are, plain values (:func:`limbeck.data.input_contract.input_contract`).
        onnxruntime_web: The folder of the npm package onnxruntime-web, for pages that need it; None to download it.
    """

    title: str
    classes: tuple[str, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    calibration: Callable[[], Iterator[Inputs]] | None = None
    finetuning: Finetuning | None = None
    temperature: float | None = None
    samples: Samples | None = None
    presentation: Any = None
    contract: Mapping[str, Any] = field(default_factory=dict)
    onnxruntime_web: Path | None = None

    def properties(self) -> dict[str, str]:
        """What a file's metadata holds: classes and input contract as JSON, title, and any temperature."""
        found = {"classes": json.dumps(list(self.classes), ensure_ascii=False), "title": self.title}
        if self.contract:
            found["input"] = json.dumps(self.contract, ensure_ascii=False)
        return found if self.temperature is None else {**found, "temperature": f"{self.temperature:.9g}"}


class Exporter(Protocol):
    """One format: an entry point of the group ``limbeck.exporters`` names an object like this.

    It may also have a method ``peak_memory(path, inputs)``, which gives ``bytes``, and ``runtime_bytes`` where they are
    known, of a process of its own that loads the file and answers an example (:mod:`limbeck.exporters.memory`).

    Attributes:
        name: As ``--to`` has it, such as "onnx".
        suffix: Of its file, such as ".onnx"; "" for a format that is a folder.
        what: What it is, in a line, for ``limbeck export --help`` and messages.
        exact: Whether it computes what the model computes but for rounding in float32: a changed answer is then a
            fault, unless it was a tie. Other formats are judged by a margin.
    """

    name: str
    suffix: str
    what: str
    exact: bool

    def refusal(self, model: nn.Module) -> str | None:
        """Why this model cannot be written in this format, with the cure; None where nothing is known against it."""

    def write(self, model: nn.Module, example: Inputs, path: Path, card: Card) -> Mapping[str, Any]:
        """Write a model.

        Args:
            model: In evaluation mode on the CPU; it may be changed. Its attribute ``presentation`` says how it sees
                examples, where that is its own affair.
            example: What the model takes, of at least two examples.
            path: The file, or the folder, which does not exist yet.
            card: What is known of the model.

        Returns:
            What is to be known of the file, plain values by name, such as its opset.
        """

    def open(self, path: Path, *, threads: int | None = None) -> Callable[[Inputs], Tensor]:
        """Open what was written, as somebody without Limbeck would.

        Args:
            path: The file or folder.
            threads: With how many threads it computes; None for as many as PyTorch has.

        Returns:
            A function of inputs that gives the model's output, float32, on the CPU.

        Raises:
            CannotRun: If this machine lacks what runs the file: the report says so, and the file is kept unproved.
        """
