"""Conversion and checks of the examples, models and teachers that callers give."""

__all__ = ["as_data_set", "as_examples", "as_part", "check_answers", "check_classes", "teacher_for", "verify_stores"]

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data.conversion import as_examples
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.items import class_names_of, has_items
from limbeck.data.multi_label import ManyLabels
from limbeck.data.splits import PART_NAMES
from limbeck.errors import ConfigError, DataError, ItemError, LimbeckError, MismatchError, UserCodeError
from limbeck.evaluation.prediction import answers_in_blocks
from limbeck.models.class_names import named_classes
from limbeck.protocols import Answering, Teacher
from limbeck.runs.label_names import numbered_labels
from limbeck.system.callbacks import Callback, warn_user
from limbeck.system.processes import on_first
from limbeck.system.user_code import refuse_misfit
from limbeck.teachers import as_teacher
from limbeck.teachers.stored import StoredTargets

_MOST_GAPS = 100
"""Labels are class indices up to so many numbers for each class that is there, and so many that are missing."""


def as_data_set(train: Any, validation: Any, test: Any, classes: Sequence[str] | None) -> DataSet:
    """Make a data set of its parts, each as for :func:`as_examples`.

    Args:
        train: The training examples, or a whole data set.
        validation: Validation examples, or None.
        test: Test examples, or None.
        classes: Names of the classes, or None to number them.

    Returns:
        The data set; given parts replace those of a whole data set.

    Raises:
        DataError: If there are no labels, so that the number of classes is unknown.
    """
    if isinstance(train, Mapping) and train and all(has_items(part) for part in train.values()):
        train, validation, test = _divided(train, validation, test)
    if classes is None and not isinstance(train, DataSet):
        classes = class_names_of(train)
    known = classes if classes is not None or not isinstance(train, DataSet) else train.classes
    given, named = numbered_labels({"training": train, "validation": validation, "test": test}, known)
    train, classes = given.pop("training"), classes if isinstance(train, DataSet) else named
    parts = {name: as_part(name, part) for name, part in given.items() if part is not None}
    if isinstance(train, DataSet):
        return dataclasses.replace(
            train,
            classes=train.classes if classes is None else tuple(classes),
            test=parts.get("test", train.test),
            validation=parts.get("validation", train.validation),
        )
    parts["train"] = as_part("training", train)
    if hasattr(parts["train"].inputs, "label_names"):
        return _labelled(parts, given, classes)
    labels = [part.labels for part in parts.values() if part.labels is not None]
    if not labels and classes is None:
        raise DataError("no example has a label: name the classes with classes=[...]")
    last = max((int(each.max()) for each in labels), default=0)
    if classes is None:
        first = min(int(each.min()) for each in labels)
        if first > 0:
            raise DataError(
                f"labels run from {first} to {last}, and class indices start at 0: subtract {first} from them"
            )
        _refuse_gaps(labels, last)
        classes = [str(number) for number in range(last + 1)]
    return DataSet("examples", tuple(classes), parts["train"], parts.get("test"), parts.get("validation"))


def _refuse_gaps(labels: Sequence[Tensor], last: int) -> None:
    """Refuse numbers of something else than classes, such as customers, before each number up to them gets a name."""
    different = len(np.unique(np.concatenate([np.unique(part.cpu().numpy()) for part in labels])))
    if last > _MOST_GAPS * (different + _MOST_GAPS):
        raise DataError(
            f"labels go up to {last:,}, and there are {different:,} different ones: class indices count from 0 without "
            "gaps; number them, as numpy.unique(labels, return_inverse=True)[1] does, or give them as text"
        )


def _labelled(parts: dict[str, Examples], given: Mapping[str, Any], classes: Sequence[str] | None) -> DataSet:
    """A multi-label data set; ``classes`` names the labels."""
    for name, part in given.items():
        if name in parts and not hasattr(
            parts[name].inputs, "label_names"
        ):  # each example may happen to have exactly one label
            if not isinstance(part, tuple | list) or len(part) != 2:
                raise DataError(
                    f"{name} data: the data set is multi-label: give limbeck.Examples.of_labels(inputs, labels)"
                )
            parts[name] = Examples.of_labels(*part)
    train = parts["train"]
    if classes is not None and tuple(classes) != ("no", "yes"):
        train = dataclasses.replace(train, inputs=train.inputs.named(classes))  # type: ignore[union-attr]
    return DataSet("examples", ("no", "yes"), train, parts.get("test"), parts.get("validation"))


def _divided(given: Mapping[Any, Any], validation: Any, test: Any) -> tuple[Any, Any, Any]:
    """Merge a mapping of data sets, such as a Hugging Face DatasetDict, with separately given parts."""
    found = {PART_NAMES[str(name).lower()]: part for name, part in given.items() if str(name).lower() in PART_NAMES}
    others = [str(name) for name in given if str(name).lower() not in PART_NAMES]
    if "train" in found and others:
        warn_user(f"ignored parts {', '.join(others)}: only train, validation and test are read")
    if "train" not in found:
        raise DataError(f"a mapping of data sets needs one named train, and has {', '.join(map(str, given))}")
    for name, apart in (("validation", validation), ("test", test)):
        if apart is not None and name in found:
            raise ConfigError(f"{name} is in the mapping of data sets and also given separately: leave one of them out")
        found[name] = found.get(name) if apart is None else apart
    return found["train"], found["validation"], found["test"]


def as_part(name: str, given: Any) -> Examples:
    """Convert one part of the data to examples; errors name the part.

    Args:
        name: Name of the part, such as "validation".
        given: The given data.

    Returns:
        The examples.

    Raises:
        DataError: If they cannot be used.
    """
    try:
        return as_examples(given)
    except DataError as error:
        kind = ItemError if isinstance(error, ItemError) else DataError
        raise kind(f"{name} data: {error}") from error


def check_classes(role: str, subject: object, data: DataSet) -> None:
    """Refuse a model whose class names or their order differ from the data's.

    Args:
        role: Display name of the model in the message.
        subject: An object that may have an attribute ``classes``.
        data: The data set.

    Raises:
        MismatchError: If they differ.
    """
    classes = named_classes(subject)
    _check_labels(role, subject, data)
    if classes is not None and tuple(classes) == data.classes:
        return
    count = _stored_classes(subject) if classes is None else len(classes)
    if count not in {None, len(data.classes)}:
        raise MismatchError(f"the {role} has {count} classes, and {data.name} has {len(data.classes)}")
    if classes is None:
        return
    place = next(k for k, names in enumerate(zip(classes, data.classes, strict=True)) if names[0] != names[1])
    raise MismatchError(
        f"the {role} calls class {place} {classes[place]!r}, and {data.name} calls it {data.classes[place]!r}: "
        "names and order must be the same"
    )


def _stored_classes(subject: object) -> int | None:
    """The number of classes of stored answers, also in an ensemble; None of what is asked for its answers."""
    if isinstance(subject, StoredTargets):
        return subject.count
    found = (_stored_classes(member) for member in getattr(subject, "members", None) or ())
    return next((count for count in found if count is not None), None)


def _check_labels(role: str, subject: object, data: DataSet) -> None:
    """Refuse a multi-label model whose label names or their order differ from the data's."""
    seen = getattr(subject, "presentation", None)
    names = getattr(seen, "names", None) if isinstance(seen, ManyLabels) else None
    if names is None:
        return
    if not hasattr(data.train.inputs, "label_names"):
        raise MismatchError(f"the {role} is multi-label, and {data.name} has one label per example")
    if tuple(names) != data.outputs:
        shown = ", ".join(data.outputs[:8])
        raise MismatchError(
            f"the {role} has the labels {', '.join(names[:8])}, and {data.name} has {shown}: names and order must be "
            "the same"
        )


def teacher_for(teacher: nn.Module | Answering, data: DataSet, *, role: str = "teacher") -> Teacher:
    """Convert to a teacher, and check that its classes are the data's.

    For multi-label data the teacher's class names are label names; each label is a two-class problem from here on.

    Args:
        teacher: As for :func:`~limbeck.teachers.as_teacher`.
        data: The data set.
        role: Display name in a message.

    Returns:
        The teacher.

    Raises:
        MismatchError: If it has other classes, or labels.
    """  # noqa: DOC502
    found = as_teacher(teacher, data.outputs)
    several = hasattr(data.train.inputs, "label_names")
    if several and found.classes is not None and tuple(found.classes) == data.outputs and hasattr(found, "__dict__"):
        found = copy.copy(found)
        found.classes = data.classes  # type: ignore[misc]
    check_classes(role, found, data)
    return found


def check_answers(role: str, subject: nn.Module | Teacher, data: DataSet) -> None:
    """Refuse a model that cannot take the data's examples, or has another number of outputs than classes.

    Args:
        role: Display name of the model in the message.
        subject: A module, or a teacher, on its device.
        data: The data set; one example is tried.

    Raises:
        ItemError: If the example cannot be read.
        MismatchError: If the model fails on the example, or outputs another number of classes.
    """  # noqa: DOC501
    whole = data.train.kind == "integers"
    cure = "inputs are integers: give floating-point numbers where they are not token ids" if whole else ""
    with refuse_misfit(role, data.train.shape, data.name, cure):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                _, answers = next(answers_in_blocks(subject, data.train, within=slice(0, 1), batch_size=1))
        except (ItemError, UserCodeError):
            raise
        except LimbeckError as error:
            raise MismatchError(f"the {role}: {error}") from error
    if answers.shape[1] != len(data.classes):
        raise MismatchError(f"the {role} outputs {answers.shape[1]} classes, and {data.name} has {len(data.classes)}")


def verify_stores(teacher: object, callback: Callback | None) -> None:
    """Verify the checksums of a teacher's stores of soft targets, before training.

    Args:
        teacher: A teacher, or an ensemble at any depth.
        callback: Receives a note on how much was checked, and how fast.

    Raises:
        FormatError: If a byte differs; the message names the file.
    """  # noqa: DOC502
    verify = getattr(teacher, "verify_once", None)
    if verify is not None:
        said = on_first(verify)
        if said is not None and callback is not None:
            callback.on_note(said)
    for member in getattr(teacher, "members", None) or ():
        verify_stores(member, callback)
