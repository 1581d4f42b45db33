"""ONNX files as teachers, run by onnxruntime on the CPU.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["OnnxTeacher"]

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.input_contract import read_contract
from limbeck.errors import DataError, FormatError, MismatchError
from limbeck.inputs import POSITIONS, Inputs, count_of, mapped, split_places
from limbeck.losses import softened
from limbeck.models.calling import at_labels, at_positions
from limbeck.models.output_kind import looks_like_probabilities
from limbeck.protocols import Batch
from limbeck.system.callbacks import warn_user
from limbeck.system.extras import load_extra

if TYPE_CHECKING:
    from limbeck.data.examples import Examples

_TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
}  # fmt: skip
_FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")
_NAMES = ("classes", "class_names", "labels", "id2label", "names")
_NO_WARNINGS = 3
_TRIED = 16
"""Number of examples to distinguish logits from probabilities with."""


class OnnxTeacher:
    """The network in an ONNX file as a teacher.

    Its inputs are matched by name where the examples have names; a file that Limbeck exported sees images, and rows of
    a table, as its metadata say. The batch axis may be of any size or of a fixed one, which is filled up. Its output
    are logits or probabilities: told by the output's name, or else by how the first answers sum. Names of classes are
    taken from the metadata ``classes``, ``labels`` or ``id2label`` in JSON.

    Args:
        path: The ``.onnx`` file.
        classes: Names of the data's classes in order, where known.

    Raises:
        FormatError: If the file is missing, damaged, or has no output of classes.
        MismatchError: If its metadata name other classes.
    """

    every_temperature = True
    looks_up = False
    device = "cpu"

    def __init__(self, path: str | os.PathLike[str], classes: Sequence[str] | None = None) -> None:
        self.path = os.fspath(path)
        self.session = _open(self.path)
        self.inputs = list(self.session.get_inputs())
        self.output = _output(self.path, self.session.get_outputs())
        name = self.output.name.lower()
        self.probabilities: bool | None = None
        if "logit" in name or "prob" in name or "sigmoid" in name:
            self.probabilities = "logit" not in name
        self._given = None if classes is None else tuple(map(str, classes))
        self.presentation, self.bytes = _contract(self.path, self.session)
        self.columns, self.classes = _columns(self.path, _named(self.session), self._given)
        self.teacher_digest = _digest(self.path)

    def __reduce__(self) -> tuple[Callable[..., "OnnxTeacher"], tuple[str, tuple[str, ...] | None]]:
        """Another process opens the file anew."""
        return OnnxTeacher, (self.path, self._given)

    @staticmethod
    def takes(given: Any) -> bool:
        """Whether something is the path of an ``.onnx`` file."""
        return isinstance(given, str | os.PathLike) and os.fspath(given).lower().endswith(".onnx")

    @property
    def title(self) -> str:
        """What it is called in reports."""
        return f"onnx {os.path.basename(self.path)}"

    @property
    def has_logits(self) -> bool:
        """Whether the file gives logits; a probability may be 0, whose logit is infinite."""
        return not self.probabilities

    def bound_to(self, examples: "Examples") -> "OnnxTeacher":
        """The same network, once its outputs are known to be logits or probabilities."""
        if self.probabilities is None:
            self.log_probs(examples.batch(slice(0, min(_TRIED, len(examples)))).to(self.device), 1.0)
        return self

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples, on the CPU.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.

        Raises:
            DataError: If the network cannot take the examples, or does not answer with a row of classes for each.
        """
        inputs, places, key = split_places(batch.seen_as(self.presentation))
        if self.bytes:
            inputs = mapped(inputs, self._as_bytes)
        count = count_of(inputs)
        feeds = self._feeds(inputs)
        fixed = self.inputs[0].shape[0] if self.inputs[0].shape else None
        size = fixed if isinstance(fixed, int) else count
        found = np.concatenate([self._ask(_block(feeds, at, size)) for at in range(0, count, max(1, size))])[:count]
        if places is not None and not key == POSITIONS:
            return softened(self._of_labels(found, places, key), temperature)
        if found.size == count and self.probabilities is None and count > 1:
            self.probabilities = bool((found >= 0).all() and (found <= 1).all())
            if self.probabilities:
                warn_user(
                    f"the one output of {self.path} lies between 0 and 1 for all of {count} examples, and is taken as "
                    "the probability of the second class: where it is a logit, export it under a name such as 'logits'"
                )
        if found.size == count and self.probabilities is not True:  # one logit of a binary head
            found = np.pad(found.reshape(count, 1), ((0, 0), (1, 0)))
        elif found.size == count:
            found = np.stack([1 - found.reshape(-1), found.reshape(-1)], 1)
        answers = torch.from_numpy(np.ascontiguousarray(found)).float()
        if places is not None:
            answers = at_positions(answers, places)
        if answers.ndim != 2 or len(answers) != len(batch.index):
            raise DataError(f"{self.path} must give (examples, classes), and gave {found.shape} for {count} examples")
        answers = answers[:, self.columns] if self.columns else answers
        if self.probabilities is None:
            self.probabilities = looks_like_probabilities(answers)
        if self.probabilities and not looks_like_probabilities(answers, coarse=True):
            raise DataError(
                f"the output {self.output.name!r} of {self.path} is named as probabilities, or gave such before, and "
                f"row 0 sums to {float(answers[0].sum()):.4g}: export the logits, under a name such as 'logits'"
            )
        return softened(answers.log() if self.probabilities else answers, temperature)

    def _of_labels(self, found: NDArray[Any], places: Tensor, key: str) -> Tensor:
        """Log-probabilities of two classes for each label that is asked for, of logits or sigmoids ``(S, L)``."""
        answers = torch.from_numpy(np.ascontiguousarray(found[:, self.columns] if self.columns else found)).float()
        inside = bool((answers >= 0).all() and (answers <= 1).all())
        if self.probabilities is None:
            self.probabilities = inside
        if self.probabilities and not inside:
            raise DataError(
                f"the output {self.output.name!r} of {self.path} is named as probabilities, or gave such before, and "
                f"holds {float(answers.abs().max()):.4g}: export the logits, under a name such as 'logits'"
            )
        pairs = at_labels(answers, places, key)
        return torch.log_softmax(pairs, -1) if not self.probabilities else _of_sigmoids(pairs[:, 1])

    def _as_bytes(self, images: Tensor) -> Tensor:
        """Pixels from 0 to 255 of such on [0, 1]."""
        if not images.is_floating_point():
            return images
        if bool(((images < 0) | (images > 1)).any()):
            raise DataError(
                f"{self.path} takes pixels, and the examples hold {float(images.abs().max()):.4g}: give "
                "images of uint8, or numbers on [0, 1]"
            )
        return (images * 255).round().to(torch.uint8)

    def _feeds(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """The examples by the names of the network's inputs, in its types and shapes."""
        given: Mapping[str, Tensor]
        if isinstance(inputs, Tensor) or (len(inputs) == 1 and len(self.inputs) == 1):
            values = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
            given = {self.inputs[0].name: values}
        else:
            given = inputs
        missing = [each.name for each in self.inputs if each.name not in given]
        if missing:
            has = "are one tensor" if isinstance(inputs, Tensor) else f"have {', '.join(inputs)}"
            raise MismatchError(
                f"{self.path} takes the inputs {', '.join(each.name for each in self.inputs)}, and the examples {has}"
            )
        return {each.name: self._shaped(each, given[each.name].detach().cpu().numpy()) for each in self.inputs}

    def _shaped(self, wanted: Any, values: NDArray[Any]) -> NDArray[Any]:
        kind = _TYPES.get(wanted.type)
        if kind is None:
            raise MismatchError(f"{self.path} takes {wanted.name} as {wanted.type}, which examples are not")
        sizes = [size if isinstance(size, int) else None for size in wanted.shape[1:]]
        if len(sizes) == 1 and values.ndim > 2 and sizes[0] in {None, int(np.prod(values.shape[1:]))}:
            values = values.reshape(len(values), -1)
        same = len(sizes) == values.ndim - 1
        if not same or any(size not in {None, have} for size, have in zip(sizes, values.shape[1:], strict=True)):
            shape = ", ".join("any" if size is None else str(size) for size in sizes)
            raise MismatchError(
                f"{self.path} takes {wanted.name} of shape ({shape}), and an example has shape {values.shape[1:]}"
            )
        if np.dtype(kind).kind in "iub" and values.dtype.kind == "f" and (values != np.floor(values)).any():
            raise MismatchError(f"{self.path} takes {wanted.name} as whole numbers, and the examples have fractions")
        return values.astype(kind, copy=False)

    def _ask(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        try:
            found = self.session.run([self.output.name], feeds)[0]
        except Exception as error:  # onnxruntime has types of its own
            raise DataError(f"{self.path} fails: {' '.join(str(error).split())[:200]}") from error
        if isinstance(found, list):  # a mapping from class to probability for each example
            keys = sorted(found[0])
            return np.array([[row[key] for key in keys] for row in found], np.float32)
        return np.asarray(found)


def _of_sigmoids(held: Tensor) -> Tensor:
    """Logarithms of the probabilities that a label does not hold, and that it does."""
    return torch.stack([1 - held, held], 1).log()


def _block(feeds: dict[str, NDArray[Any]], start: int, size: int) -> dict[str, NDArray[Any]]:
    """Some examples, the last one repeated where there are fewer than the network takes at a time."""
    found = {}
    for name, values in feeds.items():
        part = values[start : start + size]
        short = size - len(part)
        found[name] = np.concatenate([part, np.repeat(part[-1:], short, 0)]) if short else part
    return found


def _open(path: str) -> Any:
    if not os.path.isfile(path):
        raise FormatError(path, "there is no such file")
    runtime = load_extra("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = _NO_WARNINGS
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has types of its own
        raise FormatError(path, f"is not an ONNX network, or damaged: {' '.join(str(error).split())[:200]}") from error


def _output(path: str, outputs: Sequence[Any]) -> Any:
    """The output with a row of classes for each example, or for each position of one."""
    rows = [each for each in outputs if each.type.startswith("seq(map") or _has_rows(each)]
    for word in ("logit", "prob", ""):
        for each in rows:
            if word in each.name.lower():
                return each
    names = ", ".join(f"{each.name} {each.type} {each.shape}" for each in outputs)
    raise FormatError(path, f"has no output (examples, classes) of floating-point numbers: it has {names}")


def _has_rows(output: Any) -> bool:
    return output.type in _FLOATS and len(output.shape or (0, 0)) in {2, 3}


def _named(session: Any) -> tuple[str, ...] | None:
    """Names of the classes in the file's metadata."""
    metadata = session.get_modelmeta().custom_metadata_map
    for key in _NAMES:
        with suppress(ValueError, KeyError, TypeError):
            found = json.loads(metadata[key])
            if isinstance(found, dict):
                found = [found[str(number)] for number in range(len(found))]
            return tuple(map(str, found))
    return None


def _contract(path: str, session: Any) -> tuple[Any, bool]:
    """How the file sees examples, where Limbeck exported it, and whether it takes images as bytes."""
    try:
        contract = json.loads(session.get_modelmeta().custom_metadata_map["input"])
        if not isinstance(contract, dict) or "kind" not in contract:
            return None, False
    except (ValueError, KeyError):
        return None, False
    try:
        return read_contract(contract)
    except (ValueError, DataError) as error:
        raise FormatError(path, f"its metadata 'input' cannot be read: {error}") from error


def _columns(
    path: str, named: tuple[str, ...] | None, classes: tuple[str, ...] | None
) -> tuple[list[int] | None, tuple[str, ...] | None]:
    if named is None or classes is None or named == classes:
        return None, named
    if sorted(named) != sorted(classes):
        raise MismatchError(
            f"{path} names the classes {', '.join(named[:6])}, and the data have {', '.join(classes[:6])}: names must "
            "be the same"
        )
    return [named.index(name) for name in classes], classes


def _digest(path: str) -> str:
    """Of the file, and of the weights that are kept beside it."""
    held = hashlib.sha256()
    for part in (path, f"{path}.data"):
        if os.path.isfile(part):
            with open(part, "rb") as file:
                held.update(hashlib.file_digest(file, "sha256").digest())
    return held.hexdigest()
