"""A data set with training, validation and test examples."""

__all__ = ["DataSet", "as_transfer"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data.examples import Examples
from limbeck.data.multi_label import seen_within
from limbeck.data.source import Source
from limbeck.data.table_encoding import TableEncoding
from limbeck.errors import DataError, MismatchError
from limbeck.models.calling import presentation_of
from limbeck.options.checks import shown

if TYPE_CHECKING:
    from limbeck.data.registry import Reading


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set with training, validation and test examples.

    Attributes:
        name: Its name.
        classes: Names of the classes, in the order of the labels.
        train: The training examples.
        test: The test examples, evaluated on once; None where there are none.
        validation: The validation examples; None until they are set aside from ``train``.
        every_class: Whether each class must have a training example; of a thousand classes some may have none.
        reading: How inputs are made from files, where models save that; None for tensors.
        notes: Notes on how the data were read.
    """

    name: str
    classes: tuple[str, ...]
    train: Examples
    test: Examples | None = None
    validation: Examples | None = None
    every_class: bool = True
    reading: "Reading | None" = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) or not isinstance(self.classes, Sequence | np.ndarray):
            raise DataError(f"classes must be a tuple of names, and is {shown(self.classes)}")
        object.__setattr__(self, "classes", tuple(self.classes))
        for part, given in self.parts().items():
            if not isinstance(given, Examples):
                raise DataError(f"{part} must be Examples, and is {shown(given)}: give Examples.of(inputs, labels)")
        self._number_apart()
        self._present_alike()
        count = len(self.classes)
        if count < 2:
            raise DataError(f"{self.name} has {count} class: at least two are needed")
        for name in self.classes:
            if not isinstance(name, str):
                raise DataError(f"{self.name}: the class name {name!r} is not text: give names as strings")
            if any("\ud800" <= letter <= "\udfff" for letter in name):
                raise DataError(f"{self.name}: the class name {str(name)!a} is not valid text: rename it")
        if len(set(self.classes)) < count:
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise DataError(f"{self.name}: two classes are named {twice!r}: give each a unique name")
        for part, examples in self.parts().items():
            if examples.labels is not None and int(examples.labels.max()) >= count:
                row = int(examples.labels.argmax())
                raise DataError(
                    f"{self.name}: label {int(examples.labels[row])} of {part} example {int(examples.index[row])} "
                    f"is outside the {count} classes (0 to {count - 1}){_counted_from(examples.labels)}"
                )
            if examples.kind != self.train.kind:
                raise DataError(
                    f"{self.name}: training examples are {self.train.kind}, and {part} examples are {examples.kind}: "
                    "give all parts in one type"
                )
            encoded = [isinstance(seen_within(each.presentation), TableEncoding) for each in (self.train, examples)]
            if encoded[0] != encoded[1]:
                forms = ("tensors", "rows of a table, which are encoded")
                raise DataError(
                    f"{self.name}: training examples are {forms[encoded[0]]}, and {part} examples are "
                    f"{forms[encoded[1]]}: give all parts as DataFrames, or all as tensors"
                )
            if examples.shape != self.train.shape:
                raise DataError(
                    f"{self.name}: a training example has shape {self.train.shape}, "
                    f"and a {part} example has {examples.shape}"
                )
        if self.train.labels is not None and self.every_class:
            present = torch.bincount(self.train.labels, minlength=count)
            missing = [self.classes[k] for k in (present == 0).nonzero().flatten().tolist()]
            if missing:
                raise DataError(
                    f"{self.name}: the training set has no example of {_listed(missing)}: add some, or leave the class "
                    "out and renumber the labels"
                )

    def __repr__(self) -> str:
        parts = ", ".join(f"{len(part):,} for {name}" for name, part in self.parts().items())
        return (
            f"DataSet({self.name!r}, {len(self.classes):,} classes, {self.train.kind} of {self.train.shape}: {parts})"
        )

    def _number_apart(self) -> None:
        """Renumber a part that shares indices with one before it: an index identifies one example."""
        taken: list[Tensor] = []
        for name, part in self.parts().items():
            if any(_share_a_number(part.index, before) for before in taken):
                part = part.numbered_from(1 + max(int(before.max()) for before in taken))
                object.__setattr__(self, name, part)
            taken.append(part.index)

    def _present_alike(self) -> None:
        """Fit data-dependent presentations on the training examples only."""
        if isinstance(self.train.inputs, Source):
            for name, part in self.parts().items():
                if name != "train" and isinstance(part.inputs, Source):
                    alike = part.inputs.like(self.train.inputs)
                    if alike is not part.inputs:
                        object.__setattr__(self, name, replace(part, inputs=alike))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of a model: each class, or each label of multi-label data."""
        return tuple(getattr(self.train.inputs, "label_names", self.classes))

    def parts(self) -> dict[str, Examples]:
        """The existing parts, by name."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: examples for name, examples in found.items() if examples is not None}

    def seen_by(self, model: nn.Module) -> "DataSet":
        """The data set in a model's own presentation."""
        presentation = presentation_of(model)
        if presentation is None:
            return self
        shown = {name: part.with_presentation(presentation) for name, part in self.parts().items()}
        return replace(self, train=shown["train"], test=shown.get("test"), validation=shown.get("validation"))

    def identity(self) -> dict[str, Any]:
        """Digests of the parts and the classes, which a resumed run must match."""
        return {**{name: part.digest for name, part in self.parts().items()}, "classes": list(self.classes)}

    def describe(self) -> dict[str, object]:
        """Counts and shapes, for printing and for the record."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "shape": list(self.train.shape),
            "examples": {name: len(part) for name, part in self.parts().items()},
            "digests": {name: part.digest for name, part in self.parts().items()},
        }


def as_transfer(given: Examples, data: DataSet, name: str) -> Examples:
    """The examples of a transfer set as those of the training data are shown.

    Args:
        given: The transfer set.
        data: The data set beside which it is used.
        name: What to call it in messages.

    Returns:
        The examples, without labels.

    Raises:
        MismatchError: If their type or shape is another than that of the training examples.
    """
    try:
        shown = given.without_labels().with_presentation(data.train.presentation)
    except MismatchError as error:
        raise MismatchError(f"{name} does not fit {data.name}: {error}") from error
    needed = f"those of {data.name} are {data.train.kind} of {data.train.shape}: give inputs of the same type and shape"
    if (shown.kind, shown.shape) != (data.train.kind, data.train.shape):
        raise MismatchError(f"{name} has {shown.kind} of {shown.shape}, and {needed}")
    return shown


def _share_a_number(one: Tensor, other: Tensor) -> bool:
    if int(one.min()) > int(other.max()) or int(other.min()) > int(one.max()):
        return False
    return bool(torch.isin(one.cpu(), other.cpu()).any())


def _counted_from(labels: Tensor) -> str:
    first, last = int(labels.min()), int(labels.max())
    return f": labels run from {first} to {last}, and classes count from 0" if first == 1 else ""


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ("class " if len(names) == 1 else "classes ") + shown + rest
