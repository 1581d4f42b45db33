"""What callers may give as examples, models and teachers, made into what runs work with."""

__all__ = [
    "as_data_set",
    "as_examples",
    "check_answers",
    "check_classes",
    "fresh_copy",
    "load_module",
    "load_teacher",
    "model_maker",
]

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.data.examples import DataSet, Examples
from limbeck.devices import Device
from limbeck.errors import ConfigError, DataError, LimbeckError, MismatchError
from limbeck.models import from_options
from limbeck.options import ModelOptions
from limbeck.prediction import predict
from limbeck.protocols import Teacher
from limbeck.runs.models import load
from limbeck.teachers import Ensemble, ModelTeacher


def as_examples(given: Any) -> Examples:
    """Examples from what people have.

    Args:
        given: :class:`Examples`; a pair of inputs and labels (arrays or tensors); inputs alone; or a
            ``torch.utils.data.Dataset`` of such pairs, which is read into memory.

    Returns:
        The examples.

    Raises:
        DataError: If it is none of these.

    Example:
        >>> len(as_examples((torch.zeros(3, 4), torch.tensor([0, 1, 0]))))
        3
    """
    if isinstance(given, Examples):
        return given
    if isinstance(given, torch.utils.data.TensorDataset):
        return Examples.of(*given.tensors[:2])
    if isinstance(given, torch.utils.data.Dataset):
        items = [given[number] for number in range(len(given))]  # type: ignore[arg-type]
        inputs = torch.stack([torch.as_tensor(item[0]) for item in items])
        return Examples.of(inputs, torch.tensor([int(item[1]) for item in items]))
    if isinstance(given, tuple | list) and len(given) == 2:
        return Examples.of(given[0], given[1])
    if isinstance(given, Tensor) or hasattr(given, "__array__"):
        return Examples.of(given)
    raise DataError(
        f"examples must be a pair (inputs, labels), a data set or Examples, and are a {type(given).__name__}"
    )


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
    given = {"validation": validation, "test": test}
    parts = {name: as_examples(part) for name, part in given.items() if part is not None}
    if isinstance(train, DataSet):
        return DataSet(
            train.name,
            tuple(classes) if classes is not None else train.classes,
            train.train,
            parts.get("test", train.test),
            parts.get("validation", train.validation),
        )
    parts["train"] = as_examples(train)
    if classes is None:
        labels = [int(part.labels.max()) for part in parts.values() if part.labels is not None]
        if not labels:
            raise DataError("no example has a label: name the classes with classes=[...]")
        classes = [str(number) for number in range(max(labels) + 1)]
    return DataSet("examples", tuple(classes), parts["train"], parts.get("test"), parts.get("validation"))


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
    if classes is None or tuple(classes) == data.classes:
        return
    if len(classes) != len(data.classes):
        raise MismatchError(f"the {role} knows {len(classes)} classes, and {data.name} has {len(data.classes)}")
    place = next(k for k, names in enumerate(zip(classes, data.classes, strict=True)) if names[0] != names[1])
    raise MismatchError(
        f"the {role} calls class {place} {classes[place]!r}, and {data.name} calls it {data.classes[place]!r}: "
        "names and order must be the same"
    )


def check_answers(role: str, subject: nn.Module | Teacher, data: DataSet) -> None:
    """Refuse a model that cannot take the data's examples, or does not score each of its classes.

    Args:
        role: What to call the model in the message.
        subject: A module, or a teacher on the CPU.
        data: The data set, of which one example is tried.

    Raises:
        MismatchError: If the model fails on the example, or answers with another number of classes.
    """
    first = next(subject.parameters(), None) if isinstance(subject, nn.Module) else None
    place = None if first is None else Device(first.device, "float32")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            answers = predict(subject, data.train.take(torch.arange(1)), device=place)
    except LimbeckError as error:
        raise MismatchError(f"the {role}: {error}") from error
    except Exception as error:  # whatever the forward pass of a user's module raises
        reason = " ".join(str(error).split())
        raise MismatchError(
            f"the {role} cannot take an example of shape {data.train.shape} from {data.name}: {reason[:200]}"
        ) from error
    if answers.shape[1] != len(data.classes):
        raise MismatchError(
            f"the {role} answers with {answers.shape[1]} classes, and {data.name} has {len(data.classes)}"
        )


def fresh_copy(model: nn.Module | Callable[[int], nn.Module], seed: int, *, first: bool) -> nn.Module:
    """A model to train, with weights of its own.

    Args:
        model: A module, or a function that makes one from a seed.
        seed: Seed of the weights.
        first: Whether a module's weights are taken as they are; otherwise they are drawn anew.

    Returns:
        The model; what was given is untouched.

    Raises:
        DataError: If the weights of a module cannot be drawn anew.
    """
    if not isinstance(model, nn.Module):
        return model(seed)
    copied = copy.deepcopy(model)
    if first:
        return copied
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in copied.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
            elif next(part.parameters(recurse=False), None) is not None:
                raise DataError(
                    f"several seeds need fresh weights, and {type(part).__name__} has no reset_parameters: give a "
                    "function that makes the model from a seed"
                )
    return copied


def model_maker(options: ModelOptions, data: DataSet) -> Callable[[int], nn.Module]:
    """A function that makes the network that options name, for the shape and classes of a data set, from a seed."""
    mean, std = _moments(data.train) if options.standardise else (0.0, 1.0)
    return partial(_make_model, options, data.train.shape, len(data.classes), mean, std)


def _make_model(
    options: ModelOptions, shape: tuple[int, ...], classes: int, mean: float, std: float, seed: int
) -> nn.Module:
    try:
        return from_options(options, input_shape=shape, classes=classes, seed=seed, input_mean=mean, input_std=std)
    except LimbeckError:
        raise
    except Exception as error:
        if ":" not in options.model:
            raise
        raise ConfigError(f"model {options.model} failed: {type(error).__name__}: {error}") from error


def _moments(examples: Examples) -> tuple[float, float]:
    """Mean and standard deviation over all inputs, in blocks, as models see them."""
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(examples), 4096):
        block = examples.as_seen(slice(start, start + 4096)).double()
        count, total, squares = count + block.numel(), total + float(block.sum()), squares + float(block.square().sum())
    mean = total / count
    deviation = max(squares / count - mean**2, 0.0) ** 0.5
    if deviation == 0:
        raise DataError("all inputs have the same value: there is nothing to standardise, or to learn")
    return mean, deviation


def load_teacher(
    folders: Sequence[Path],
    *,
    data: DataSet,
    mean: Literal["arithmetic", "geometric"] = "arithmetic",
    own: str | None = None,
    role: str = "teacher",
) -> Teacher:
    """The teacher that runs' folders hold; several make an ensemble.

    Args:
        folders: At least one.
        data: The examples it will answer, whose classes it must have.
        mean: How several are averaged.
        own: The architecture where it is the user's own, as ``package.module:function``.
        role: What to call it in a message.

    Returns:
        The teacher.

    Raises:
        MismatchError: If its classes or the shape of its inputs are not those of the data.
    """
    maker = None
    if own is not None:
        maker = model_maker(ModelOptions(model=own), data)
    members: list[Teacher] = []
    for folder in folders:
        loaded = load(folder, model=None if maker is None else maker(0))
        classes = getattr(loaded, "classes", None)
        member = loaded if isinstance(loaded, Ensemble) else ModelTeacher(loaded, classes)
        check_classes(f"{role} {folder}", member, data)
        check_answers(f"{role} {folder}", member, data)
        members.append(member)
    return members[0] if len(members) == 1 else Ensemble(members, mean=mean, classes=data.classes)


def load_module(folder: Path, *, data: DataSet, own: str | None = None) -> nn.Module:
    """The one network that a run's folder holds.

    Args:
        folder: The run.
        data: Examples of its classes and shape.
        own: The architecture where it is the user's own, as ``package.module:function``.

    Returns:
        The module in evaluation mode.

    Raises:
        ConfigError: If the run holds an ensemble.
        MismatchError: If its classes or the shape of its inputs are not those of the data.
    """  # noqa: DOC502
    loaded = load(folder, model=None if own is None else model_maker(ModelOptions(model=own), data)(0))
    if isinstance(loaded, Ensemble):
        raise ConfigError(
            f"{folder} holds an ensemble of {len(loaded.members)}: distil it into one network first, or name one of "
            f"them, such as {folder / 'members' / '1'}"
        )
    return loaded
