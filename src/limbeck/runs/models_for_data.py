"""Models for a data set: made by name, or loaded from a folder or a file."""

__all__ = ["load_module", "load_teacher", "model_maker", "named_model", "options_as_trained"]

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, DataError, LimbeckError
from limbeck.models import from_options, hf_teacher
from limbeck.models.class_names import named_classes
from limbeck.models.hf_files import HF_PREFIX, has_tokenizer
from limbeck.models.timm_models import TIMM_PREFIX
from limbeck.options import DataOptions, ModelOptions
from limbeck.protocols import Teacher
from limbeck.runs.inputs import check_answers, check_classes, teacher_for
from limbeck.runs.models import attached_reading, load, reading_of
from limbeck.system.devices import widest
from limbeck.teachers import Ensemble, ModelTeacher


def named_model(model: Any, data: DataSet) -> Any:
    """A maker in the place of an architecture's name or settings; anything else as it is.

    Args:
        model: A module, a function that makes one from a seed, a name such as "mlp", or settings of a network.
        data: The examples.

    Returns:
        The module, or a function that makes one from a seed.
    """
    if isinstance(model, str):
        model = ModelOptions(model=model)
    return model_maker(model, data) if isinstance(model, ModelOptions) else model


def model_maker(options: ModelOptions, data: DataSet, reading: DataOptions | None = None) -> Callable[[int], nn.Module]:
    """Make a function from a seed to the network of the options, for a data set's shape and classes.

    Args:
        options: The network's settings.
        data: The examples.
        reading: How they were read, for the tokenizer and the length of texts; or None.

    Returns:
        The function.
    """
    mean, std = _moments(data.train) if options.standardise else (0.0, 1.0)
    return partial(
        _make_model, options, data.train.shape, data.outputs, mean, std, _text_settings(options.model, reading)
    )


def _text_settings(model: str, reading: DataOptions | None) -> dict[str, Any]:
    """The tokenizer and the length of texts for a Hugging Face model; nothing for others."""
    if reading is None or not model.startswith(HF_PREFIX) or (reading.tokenizer, reading.max_length) == (None, None):
        return {}
    beside = has_tokenizer(model.removeprefix(HF_PREFIX))
    return {"tokenizer": None if beside else reading.tokenizer, "max_length": reading.max_length}


def _make_model(
    options: ModelOptions,
    shape: tuple[int, ...],
    classes: tuple[str, ...],
    mean: float,
    std: float,
    text: Mapping[str, Any],
    seed: int,
) -> nn.Module:
    try:
        return from_options(
            options,
            input_shape=shape,
            classes=len(classes),
            class_names=classes,
            seed=seed,
            input_mean=mean,
            input_std=std,
            **text,
        )
    except LimbeckError:
        raise
    except Exception as error:
        if ":" not in options.model:
            raise
        raise ConfigError(f"model {options.model} failed: {type(error).__name__}: {error}") from error


def _moments(examples: Examples) -> tuple[float, float]:
    """Mean and standard deviation over all inputs, computed in blocks."""
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(examples), 4096):
        seen = examples.as_seen(slice(start, start + 4096))
        if not isinstance(seen, Tensor):
            raise DataError("inputs by name are not standardised: set standardise to False")
        block = seen.to(widest("cpu"))
        count, total, squares = count + block.numel(), total + float(block.sum()), squares + float(block.square().sum())
    mean = total / count
    deviation = max(squares / count - mean**2, 0.0) ** 0.5
    if deviation == 0:
        raise DataError("all inputs have the same value: there is nothing to standardise or to learn")
    return mean, deviation


def load_teacher(
    folders: Sequence[Path],
    *,
    data: DataSet,
    mean: Literal["arithmetic", "geometric"] = "arithmetic",
    weights: Sequence[float] | None = None,
    own: str | None = None,
    role: str = "teacher",
    reading: DataOptions | None = None,
) -> Teacher:
    """Load a teacher from run folders; several form an ensemble.

    Args:
        folders: At least one; ``hf:`` and a folder or name for a Hugging Face classifier.
        data: The data set; the classes must match.
        mean: How several teachers' distributions are averaged.
        weights: Weight of each teacher; None for equal weights.
        own: A user's architecture, as ``package.module:function``.
        role: What to call it in a message.
        reading: How the examples were read, for the tokenizer and the length of texts of Hugging Face models.

    Returns:
        The teacher.

    Raises:
        ConfigError: If there is not one weight per folder.
        MismatchError: If its classes or the shape of its inputs are not those of the data.
    """
    if weights is not None and len(folders) == 1:
        raise ConfigError(
            "weights (--weights) say how much each of several teachers counts in their mean, and there is one teacher: "
            "leave them out"
        )
    if weights is not None and len(weights) != len(folders):
        raise ConfigError(
            f"weights (--weights) need one number for each teacher: {len(weights)} "
            f"{'is' if len(weights) == 1 else 'are'} given for {len(folders)} teachers"
        )
    maker = None
    if own is not None:
        maker = model_maker(ModelOptions(model=own), data)
    members: list[Teacher] = []
    for folder in folders:
        member = _open_teacher(folder, data, None if maker is None else maker(0), reading)
        _see_as_trained(f"{role} {folder}", member, data)
        check_classes(f"{role} {folder}", member, data)
        check_answers(f"{role} {folder}", member, data)
        members.append(member)
    return members[0] if len(members) == 1 else Ensemble(members, mean=mean, weights=weights, classes=data.classes)


def _open_teacher(path: Path, data: DataSet, architecture: nn.Module | None, reading: DataOptions | None) -> Teacher:
    """Load one teacher from a run folder, or a file that an adapter accepts."""
    if str(path).startswith(HF_PREFIX):
        module = hf_teacher(str(path), data.outputs, **_text_settings(str(path), reading))
        return ModelTeacher(module, data.classes)  # the order of its outputs
    if str(path).startswith(TIMM_PREFIX) or (not path.is_dir() and path.suffix):
        return teacher_for(path, data).bind(data.train)  # type: ignore[arg-type]
    loaded = load(path, model=architecture)
    return loaded if isinstance(loaded, Ensemble) else ModelTeacher(loaded, named_classes(loaded))


def _see_as_trained(role: str, teacher: Teacher, data: DataSet) -> None:
    """Give each model its own presentation, where the data were read for another."""
    for member in getattr(teacher, "members", None) or ():
        _see_as_trained(role, member, data)
    mine = attached_reading(getattr(teacher, "model", None))
    seen = None if mine is None else mine.seen_in(data.reading, role, data.name)
    if seen is not None:
        teacher.presentation = seen  # type: ignore[attr-defined]


def options_as_trained(options: DataOptions, folder: Path, *, context: bool) -> DataOptions:
    """Complete data options by how the inputs of a run's model were made.

    Args:
        options: What was asked for.
        folder: The run.
        context: Whether to include the model's own context; a student may have another one than its teacher.

    Returns:
        The options; unchanged where the model saves nothing of the kind.
    """
    reading = reading_of(folder)
    return options if reading is None else reading.fill_in(options, context=context)


def load_module(folder: Path, *, data: DataSet, own: str | None = None) -> nn.Module:
    """Load the single network of a run folder.

    Args:
        folder: The run.
        data: The data set; classes and shape must match.
        own: A user's architecture, as ``package.module:function``.

    Returns:
        The module in evaluation mode.

    Raises:
        ConfigError: If the run holds an ensemble.
        MismatchError: If its classes or the shape of its inputs are not those of the data.
    """  # noqa: DOC502
    loaded = load(folder, model=None if own is None else model_maker(ModelOptions(model=own), data)(0))
    if isinstance(loaded, Ensemble):
        raise ConfigError(
            f"{folder} has an ensemble of {len(loaded.members)}: distil it into one network first, or give one "
            f"member, such as {folder / 'members' / '1'}"
        )
    return loaded
