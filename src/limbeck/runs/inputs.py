"""What callers may give as examples, models and teachers, made into what runs work with."""

__all__ = ["as_data_set", "as_examples", "as_part", "check_answers", "check_classes", "teacher_for", "verify_stores"]

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from limbeck.data.conversion import as_examples
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.items import class_names_of, has_items
from limbeck.data.multi_label import ManyLabels
from limbeck.data.splits import PART_NAMES
from limbeck.errors import ConfigError, DataError, ItemError, LimbeckError, MismatchError, UserCodeError
from limbeck.evaluation.prediction import answers_in_blocks
from limbeck.protocols import Answering, Teacher
from limbeck.system.callbacks import Callback, warn_user
from limbeck.system.processes import on_first
from limbeck.teachers import as_teacher


def as_data_set(train: Any, validation: Any, test: Any, classes: Sequence[str] | None) -> DataSet:
    """One data set of its parts, each as :func:`as_examples` takes it.

    Args:
        train: The training examples, or a whole data set.
        validation: What choices are made on, or None.
        test: What is judged on, or None.
        classes: Names of the classes, or None to number them.

    Returns:
        The data set; parts given beside a whole data set replace its own.

    Raises:
        DataError: If nothing has labels, so that the number of classes is not known.
    """
    if isinstance(train, Mapping) and train and all(has_items(part) for part in train.values()):
        train, validation, test = _divided(train, validation, test)
    if classes is None and not isinstance(train, DataSet):
        classes = class_names_of(train)
    given = {"validation": validation, "test": test}
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
            raise DataError(f"labels run from {first} to {last}, and classes count from 0: subtract {first} from them")
        classes = [str(number) for number in range(last + 1)]
    return DataSet("examples", tuple(classes), parts["train"], parts.get("test"), parts.get("validation"))


def _labelled(parts: dict[str, Examples], given: Mapping[str, Any], classes: Sequence[str] | None) -> DataSet:
    """A data set of examples of which several labels may hold; ``classes`` names the labels."""
    for name, part in given.items():
        if name in parts and not hasattr(
            parts[name].inputs, "label_names"
        ):  # by chance one label holds of each example
            if not isinstance(part, tuple | list) or len(part) != 2:
                raise DataError(
                    f"{name} data: give them as limbeck.Examples.of_labels(inputs, labels), as several hold"
                )
            parts[name] = Examples.of_labels(*part)
    train = parts["train"]
    if classes is not None and tuple(classes) != ("no", "yes"):
        train = dataclasses.replace(train, inputs=train.inputs.named(classes))  # type: ignore[union-attr]
    return DataSet("examples", ("no", "yes"), train, parts.get("test"), parts.get("validation"))


def _divided(given: Mapping[Any, Any], validation: Any, test: Any) -> tuple[Any, Any, Any]:
    """The parts of a mapping of data sets, such as a DatasetDict of Hugging Face, beside those given apart."""
    found = {PART_NAMES[str(name).lower()]: part for name, part in given.items() if str(name).lower() in PART_NAMES}
    others = [str(name) for name in given if str(name).lower() not in PART_NAMES]
    if "train" in found and others:
        warn_user(f"beside train, {', '.join(others)} are not read: known are train, validation and test")
    if "train" not in found:
        raise DataError(f"a mapping of data sets needs one named train, and has {', '.join(map(str, given))}")
    for name, apart in (("validation", validation), ("test", test)):
        if apart is not None and name in found:
            raise ConfigError(f"{name} is in the mapping of data sets and given apart: leave one of them out")
        found[name] = found.get(name) if apart is None else apart
    return found["train"], found["validation"], found["test"]


def as_part(name: str, given: Any) -> Examples:
    """Examples as :func:`as_examples` makes them, whose errors say which part of the data they are.

    Args:
        name: Of the part, such as "validation".
        given: What was given.

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
    """Refuse a model whose classes are not the data's: names and order must agree.

    Args:
        role: What to call the model in the message.
        subject: Whatever may have an attribute ``classes``.
        data: The data set.

    Raises:
        MismatchError: If they differ.
    """
    classes = getattr(subject, "classes", None)
    _check_labels(role, subject, data)
    if classes is None or tuple(classes) == data.classes:
        return
    if len(classes) != len(data.classes):
        raise MismatchError(f"the {role} knows {len(classes)} classes, and {data.name} has {len(data.classes)}")
    place = next(k for k, names in enumerate(zip(classes, data.classes, strict=True)) if names[0] != names[1])
    raise MismatchError(
        f"the {role} calls class {place} {classes[place]!r}, and {data.name} calls it {data.classes[place]!r}: "
        "names and order must be the same"
    )


def _check_labels(role: str, subject: object, data: DataSet) -> None:
    """Refuse a model of several labels whose names or order are not the data's."""
    seen = getattr(subject, "presentation", None)
    names = getattr(seen, "names", None) if isinstance(seen, ManyLabels) else None
    if names is None:
        return
    if not hasattr(data.train.inputs, "label_names"):
        raise MismatchError(f"the {role} knows several labels, and {data.name} has one of each example")
    if tuple(names) != data.outputs:
        shown = ", ".join(data.outputs[:8])
        raise MismatchError(
            f"the {role} knows the labels {', '.join(names[:8])}, and {data.name} has {shown}: names and order must be "
            "the same"
        )


def teacher_for(teacher: nn.Module | Answering, data: DataSet, *, role: str = "teacher") -> Teacher:
    """A teacher of whatever can be one, whose classes are the data's.

    Where several labels may hold what names its classes names labels; each is one of two classes from here on.

    Args:
        teacher: As :func:`~limbeck.teachers.as_teacher` takes it.
        data: The data set.
        role: What to call it in a message.

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
    """Refuse a model that cannot take the data's examples, or does not score each of its classes.

    Args:
        role: What to call the model in the message.
        subject: A module, or a teacher; it is asked where it is.
        data: The data set, of which one example is tried.

    Raises:
        ItemError: If the example cannot be read.
        MismatchError: If the model fails on the example, or answers with another number of classes.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, answers = next(answers_in_blocks(subject, data.train, within=slice(0, 1), batch_size=1))
    except UserCodeError as error:
        cause = error.__cause__
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        whole = data.train.kind == "integers"
        cure = "; inputs are integers: give floating-point numbers where they are not token ids" if whole else ""
        raise MismatchError(
            f"the {role} cannot take an example of shape {data.train.shape} from {data.name}: {reason[:200]}{cure}"
        ) from cause
    except ItemError:
        raise  # which is not for the model to mend
    except LimbeckError as error:
        raise MismatchError(f"the {role}: {error}") from error
    if answers.shape[1] != len(data.classes):
        raise MismatchError(
            f"the {role} answers with {answers.shape[1]} classes, and {data.name} has {len(data.classes)}"
        )


def verify_stores(teacher: object, callback: Callback | None) -> None:
    """Compare each store of soft targets that a teacher answers from with its checksums, before it trains.

    Args:
        teacher: A teacher, or an ensemble of such at any depth.
        callback: Told how much was checked, and how fast.

    Raises:
        FormatError: If a byte differs; the message names the file.
    """  # noqa: DOC502
    verify = getattr(teacher, "verify_once", None)
    if verify is not None:
        said = on_first(verify)
        if said is not None and callback is not None:
            callback.note(said)
    for member in getattr(teacher, "members", None) or ():
        verify_stores(member, callback)
