"""Predictions for new examples: labels and probabilities, in memory or block by block into a file.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["Predictions", "load_own", "predict"]

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.multi_label import ManyLabels, MultiLabel
from limbeck.data.position_files import WORDS
from limbeck.data.presentations import load_presentation
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.evaluation.prediction import answers_in_blocks, device_of
from limbeck.formats.in_memory import is_held
from limbeck.formats.records import peek_columns
from limbeck.models import describe
from limbeck.models.calling import presentation_of, presentations_of
from limbeck.models.class_names import named_classes
from limbeck.models.hf_files import OF_TOKENS
from limbeck.options import DataOptions, ModelOptions, TextPresentation
from limbeck.protocols import Answering, Teacher
from limbeck.runs.calibrating import checked_temperature, temperature_of_run
from limbeck.runs.data_settings import options_as_read
from limbeck.runs.data_warnings import tell_scale_of_training
from limbeck.runs.folder import RunFolder
from limbeck.runs.inputs import check_answers
from limbeck.runs.models import classes_of, load
from limbeck.runs.models_for_data import model_maker
from limbeck.runs.prediction_files import Format, likeliest, require_target, write_blocks
from limbeck.runs.speed import placed
from limbeck.runs.unlabelled import given_unlabelled, open_unlabelled, open_unlabelled_texts
from limbeck.system.devices import find_device
from limbeck.system.files import read_json
from limbeck.system.user_code import refuse_misfit
from limbeck.teachers import Ensemble, as_teacher


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of a model, computed lazily.

    Attributes:
        model: The model, or a teacher.
        examples: The examples.
        classes: Names of the K classes.
        ids: Identifier of each example: a name or a number.
        device: A PyTorch device; None for the model's.
        several: Whether the data are multi-label; then ``classes`` are the labels.
        beside: Further columns per example, by name, such as its word.
        temperature: Calibration temperature, which logits are divided by.
        read_from: The path of the data, or None for data in memory.
    """

    model: nn.Module | Teacher
    examples: Examples
    classes: tuple[str, ...]
    ids: Sequence[Any]
    device: str | None = None
    several: bool = False
    beside: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    temperature: float = 1.0
    read_from: str | Path | None = None

    def __repr__(self) -> str:
        return f"Predictions({len(self):,} examples, {len(self.classes):,} classes; probabilities and labels on demand)"

    def __len__(self) -> int:
        return len(self.ids)

    def blocks(
        self, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[tuple[Sequence[Any], NDArray[np.float32]]]:
        """Yield identifiers and probabilities in blocks of bounded memory.

        Args:
            progress: Called with the number of examples done and the total.

        Yields:
            Identifiers ``(n,)`` and probabilities ``(n, K)``.

        Raises:
            DataError: If an answer is NaN.
        """
        place = device_of(self.model) if self.device is None else find_device(self.device, "float32").device
        done, waiting = 0, np.zeros((0, len(self.classes)), np.float32)
        with placed(self.model, place) as there:
            for _, answers in answers_in_blocks(there, self.examples):
                found = (answers if self.temperature == 1 else _scaled(answers, self.temperature)).exp().numpy()
                if self.several:  # pairs of example and label; a block may end within an example
                    flat = np.concatenate([waiting.reshape(-1), found[:, 1]])
                    whole = len(flat) // len(self.classes) * len(self.classes)
                    found, waiting = flat[:whole].reshape(-1, len(self.classes)), flat[whole:]
                spoilt = np.isnan(found).any(1)
                if spoilt.any():
                    row = self.ids[done + int(np.argmax(spoilt))]
                    raise DataError(
                        f"the model's answer to example {row} is not a number (NaN), as to {int(spoilt.sum()):,} of "
                        f"these {len(found):,}: are its inputs far outside of what it was trained on?"
                    )
                if len(found):
                    yield self.ids[done : done + len(found)], found
                    done += len(found)
                if progress is not None:
                    progress(done, len(self))

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """The probabilities of all examples, ``(N, K)``."""
        return np.concatenate([found for _, found in self.blocks()])

    @property
    def labels(self) -> list[str]:
        """The top-1 class of each example; for multi-label data, the labels with a probability of at least one half."""
        return likeliest(self.probabilities, self.classes, several=self.several)

    def write(
        self,
        target: str | Path | IO[str],
        *,
        top: int | None = None,
        kind: Format | None = None,
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Write the predictions block by block, in constant memory.

        Args:
            target: A ``.csv``, ``.parquet`` or ``.jsonl`` file, or an open text stream.
            top: How many of the top-1 classes; None for a column for each class.
            kind: The format; None for the file's extension, and CSV for a stream.
            overwrite: Whether a file that is there may be replaced; the file of the data never is.
            progress: Called with the number of examples done and the total.

        Returns:
            The number of examples written.

        Raises:
            ConfigError: If ``top`` is not from 1 to K, or the format is unknown.
            RunError: If the file is there already, or cannot be written.
        """  # noqa: DOC502
        if top is not None and not 1 <= top <= len(self.classes):
            raise ConfigError(f"top must be from 1 to {len(self.classes)}, the number of classes, and is {top}")
        if isinstance(target, str | os.PathLike):
            require_target(target, kind=kind, overwrite=overwrite, data=self.read_from)
        blocks = self.blocks(progress)
        return write_blocks(target, blocks, self.classes, top=top, kind=kind, several=self.several, beside=self.beside)


def _scaled(answers: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at another temperature, float32."""
    return (answers.double() / temperature).log_softmax(-1).float()


def predict(
    model: nn.Module | Answering | str | Path,
    data: Any,
    *,
    classes: Sequence[str] | None = None,
    options: DataOptions | None = None,
    id_column: str | None = None,
    calibrate: bool = False,
    temperature: float | None = None,
    device: str | None = None,
) -> Predictions:
    """Predict labels and probabilities of new examples.

    Args:
        model: A module, a teacher, or a run folder.
        data: Inputs as for :func:`limbeck.distill`, whose labels are ignored; a DataFrame; or a path to a folder of
            images, a table, a file of texts, or other data like the run's own.
        classes: Names of the classes; None for those of the model.
        options: Data options, to read a path with.
        id_column: A column that identifies the rows.
        calibrate: For a run folder: temperature scaling, fitted on its validation set.
        temperature: Instead of calibrate: divide the logits by this temperature. Predicted classes do not change.
        device: "auto", "cpu", "cuda"; None for the model's device.

    Returns:
        The predictions, computed lazily.

    Raises:
        ConfigError: If there is no temperature to calibrate with, or both are given.
        MismatchError: If the model cannot take the data.
        DataError: If there is not one name per class.

    Example:
        >>> import torch
        >>> net = nn.Linear(2, 2)
        >>> _ = net.weight.data.copy_(torch.eye(2)), net.bias.data.zero_()
        >>> predict(net, torch.tensor([[3.0, 0.0], [0.0, 1.0]]), classes=["left", "right"]).labels
        ['left', 'right']
    """
    scale = _temperature(model, calibrate, temperature)
    subject: Any = load(model) if isinstance(model, str | Path) else model
    if not isinstance(subject, nn.Module | Ensemble):
        subject = as_teacher(subject, classes)
    seen = _presentation(subject)
    many = seen if isinstance(seen, ManyLabels) else None
    seen = seen if many is None else many.inner
    path = data if isinstance(data, str | Path) else None
    asked = options or DataOptions(data="the data" if path is None else str(path))
    if path is not None:
        if isinstance(model, str | Path):
            asked = options_as_read(asked, model, labelled=False)
            id_column = id_column or _known_names(model, path)
        examples, ids = open_unlabelled(path, seen, _as_answered(subject, asked), id_column=id_column)
        name = str(path)
    elif is_held(data) and isinstance(seen, TextPresentation):
        examples, ids = open_unlabelled_texts(data, seen, _as_answered(subject, asked), id_column)
        name = "the data"
    else:
        examples, ids, name = *given_unlabelled(data, seen, id_column), "the data"
    if not isinstance(subject, nn.Module):
        subject = subject.bind(examples)
    tell_scale_of_training("model", subject, examples)
    if many is not None:
        pairs = MultiLabel(examples.inputs, len(many.names), many.names)
        whole = Examples(pairs, None, torch.arange(len(pairs)))
        check_answers("model", subject, DataSet(name, ("no", "yes"), whole))
        labels = tuple(map(str, classes or many.names))
        return Predictions(subject, whole, labels, ids, device, several=True, temperature=scale, read_from=path)
    names = classes if classes is not None else named_classes(subject)
    if names is None:
        few = dataclasses.replace(examples.take(_first(examples)), labels=None)
        with refuse_misfit("model", few.shape, name):
            count = next(answers_in_blocks(subject, few))[1].shape[1]
        names = [str(number) for number in range(count)]
    check_answers("model", subject, DataSet(name, tuple(map(str, names)), examples))
    words = getattr(examples.inputs, "words_of_examples", None)
    beside = {} if words is None else {"word": words()}
    outputs = tuple(map(str, names))
    return Predictions(subject, examples, outputs, ids, device, beside=beside, temperature=scale, read_from=path)


def _temperature(model: Any, calibrate: bool, given: float | None) -> float:
    """The temperature that logits are divided by; 1 by default."""
    if not calibrate:
        return 1.0 if given is None else checked_temperature(given)
    if given is not None:
        raise ConfigError("calibrate uses the run's temperature, and another is given: leave one of them out")
    if not isinstance(model, str | Path):
        raise ConfigError("calibrate uses the temperature of a run: give its folder, or a temperature instead")
    return temperature_of_run(model)


def _known_names(run: str | Path, data: str | Path) -> str | None:
    """The id column of a run's own data, if a file has it too."""
    config = RunFolder(run).config() if (Path(run) / "config.toml").is_file() else {}
    column = config.get("id_column")
    names = peek_columns(data, [column]) if isinstance(column, str) else None
    return column if names is not None and column in names else None


def _as_answered(subject: Any, options: DataOptions) -> DataOptions:
    """The text options of the model: token classification, or next tokens."""
    if options.text_column is not None or options.words_column is not None or options.next_token:
        return options
    networks = [subject] if isinstance(subject, nn.Module) else [network for network, _ in subject.modules()]
    kinds = [str((describe(network) or {}).get("architecture", "")) for network in networks]
    if any(kind.endswith("ForTokenClassification") for kind in kinds):
        return dataclasses.replace(options, words_column=WORDS)
    return dataclasses.replace(options, next_token=any(kind.endswith(OF_TOKENS) for kind in kinds))


def load_own(run: Path, spec: str, data: str | Path, options: DataOptions) -> nn.Module | Ensemble:
    """Load the model of a run with a user's architecture.

    Args:
        run: The run's folder.
        spec: The architecture, as ``package.module:function``.
        data: The data, for the shape of an example.
        options: The data options.

    Returns:
        The model.

    Raises:
        FormatError: If the folder has no model.
    """
    folder = run / "model" if (run / "model").is_dir() else run
    if not (folder / "config.json").is_file():
        raise FormatError(folder, "is not a run with a model: it has no model/config.json; is the run finished?")
    config = read_json(folder / "config.json")
    classes = classes_of(config) if isinstance(config, dict) else None
    if classes is None:
        raise FormatError(folder / "config.json", "does not name the classes")
    examples, _ = open_unlabelled(data, load_presentation(folder, config), options)
    made = model_maker(ModelOptions(model=spec), DataSet(str(data), classes, examples))
    return load(run, model=made(0))


def _first(examples: Examples) -> Any:
    return examples.index.new_zeros(1)


def _presentation(subject: Any) -> Any:
    """The presentation of the model, or of a teacher's first network."""
    if isinstance(subject, nn.Module):
        return presentation_of(subject)
    return next((seen for seen in presentations_of(subject) if seen is not None), None)
