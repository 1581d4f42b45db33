"""The contents of a report, as plain data: arrays, numbers and text.

Axes: ``N`` evaluation examples, ``K`` classes, ``H`` and ``W`` the height and width of an image.
"""

__all__ = ["Contents", "Heard", "Layer", "Model", "Singular"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        name: Its name.
        shape: Shape of its output for one example, channels or units first.
        parameters: Number of its weights.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, eq=False)
class Model:
    """One model of a run: predictions, training history and metrics.

    Attributes:
        role: "teacher", "baseline", "student", or any other word.
        title: A short description, such as "mlp 784-1200-1200-10".
        log_probs: Log-probabilities at T = 1 of the evaluation examples, float ``(N, K)``, or None.
        history: One mapping per epoch with any of ``epoch``, ``train_loss``, ``train_accuracy``,
            ``validation_errors``, ``validation_accuracy``, ``validation_nll``, ``learning_rate``,
            ``images_per_second``, ``seconds``.
        scores: Any of ``test_examples``, ``test_errors``, ``accuracy``, ``nll``, ``ece``,
            ``agreement_with_teacher``, ``parameters``, ``file_bytes``, ``multiply_adds``, ``latency_ms``,
            ``images_per_second``; of a decoded model ``wer``, ``insertions``, ``deletions``, ``substitutions``,
            ``acoustic_scale``, ``real_time_factor``.
            With ``calibration_temperature``, its reliability diagram is also drawn at that temperature.
        layers: Its layers in order; of an ensemble those of one member.
        members: Number of networks in an ensemble.
    """

    role: str
    title: str
    log_probs: NDArray[Any] | None = None
    history: tuple[Mapping[str, float | int | None], ...] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    members: int = 1

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The top-1 class of each example, int64 ``(N,)``."""
        answers: NDArray[np.int64] = self._answers.argmax(-1)
        return answers

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of that class, ``(N,)``."""
        chosen = self._answers[np.arange(len(self.predicted)), self.predicted]
        return np.exp(chosen.astype(np.float64))

    def sure_at(self, temperature: float) -> NDArray[np.float64]:
        """The probability of the top-1 class at another temperature, ``(N,)``."""
        rows = np.arange(len(self.predicted))
        return self.softened(rows, temperature)[rows, self.predicted]

    def softened(self, rows: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
        """Probabilities of some examples at a temperature.

        Args:
            rows: Which examples, int64 ``(n,)``.
            temperature: T, above 0.

        Returns:
            Probabilities, ``(n, K)``.

        Example:
            >>> model = Model("teacher", "", np.log([[0.8, 0.2]]))
            >>> model.softened(np.array([0]), 2.0).round(3)
            array([[0.667, 0.333]])
        """
        scores = self._answers[rows].astype(np.float64) / temperature
        mass = np.exp(scores - scores.max(-1, keepdims=True))
        probs: NDArray[np.float64] = mass / mass.sum(-1, keepdims=True)
        return probs

    @property
    def _answers(self) -> NDArray[Any]:
        if self.log_probs is None:
            raise DataError(f"the {self.role} has no predictions for the examples")
        return self.log_probs


@dataclass(frozen=True, eq=False)
class Singular:
    """The singular values of one layer, and its rank.

    Attributes:
        layer: Its name.
        values: In descending order, ``(R,)`` or the largest of them.
        rank: The rank, or None where the layer was not factorised.
    """

    layer: str
    values: NDArray[Any]
    rank: int | None


@dataclass(frozen=True, eq=False)
class Heard:
    """An utterance with the models' posteriors.

    Attributes:
        key: The utterance.
        features: Filterbanks, ``(frames, channels)``.
        posteriors: Of phones, by role, ``(frames, phones)``.
        truth: The right phone of each frame, ``(frames,)``.
        phones: Names of the phones.
        frame_shift: Seconds from one frame to the next.
    """

    key: str
    features: NDArray[np.float32]
    posteriors: Mapping[str, NDArray[np.float32]]
    truth: NDArray[np.int64]
    phones: tuple[str, ...]
    frame_shift: float


@dataclass(frozen=True, eq=False)
class Contents:
    """The contents of a report. Sections whose data are missing are left out.

    Attributes:
        title: Heading of the page.
        created: When the run was made, as text.
        classes: Names of the classes, K of them.
        models: In display order, usually teacher, baseline, student.
        labels: True classes of the evaluation examples, integers ``(N,)``, or None.
        images: The images of these examples, uint8 ``(N, H, W)`` or ``(N, H, W, 3)``, or None.
        command: The command line that made the run, or None.
        temperature: T of the soft targets, or None.
        hard_weight: Weight of the hard labels, or None.
        verdict: ``to_dict()`` of a verdict: ``sentence``, ``helped`` and the sentence of ``harm`` are shown; or None.
        margin: ``to_dict()`` of the non-inferiority verdict, with ``outcome``; or None.
        inherited: ``to_dict()`` of the teacher's mistakes that the student repeats: the sentence, and the counts by
            class and group, are shown; or None.
        judged_on: The evaluated part of the data, "test" or "validation".
        seeds: One mapping per seed with ``seed``, ``student_errors``, ``baseline_errors``.
        config: The run's settings, nested.
        notes: Remarks, one per paragraph.
        warned: Warnings of the run.
        way: Roles in order from the first model to the exported one, where each was made from the one before.
        spectra: Singular values of the compressed layers.
        heard: For speech, an evaluated utterance.
        given: Gives some of these examples as texts, or as mappings of a table's columns; None where it cannot.
        tried: Relative URL of an interactive page of the network; None where there is none.
    """

    title: str
    created: str
    classes: tuple[str, ...]
    models: tuple[Model, ...]
    labels: NDArray[Any] | None = None
    images: NDArray[np.uint8] | None = None
    command: str | None = None
    temperature: float | None = None
    hard_weight: float | None = None
    verdict: Mapping[str, Any] | None = None
    margin: Mapping[str, Any] | None = None
    inherited: Mapping[str, Any] | None = None
    judged_on: str = "test"
    seeds: tuple[Mapping[str, Any], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    way: tuple[str, ...] = ()
    spectra: tuple[Singular, ...] = ()
    heard: Heard | None = None
    given: Callable[[NDArray[np.int64]], Sequence[Any] | None] | None = None
    tried: str | None = None

    def __post_init__(self) -> None:
        if not self.models:
            raise DataError("a report needs at least one model")
        count = len(self.classes)
        if self.labels is not None:
            inside = self.labels.ndim == 1 and np.issubdtype(self.labels.dtype, np.integer) and len(self.labels)
            if not inside or self.labels.min() < 0 or self.labels.max() >= count:
                raise DataError(f"labels of a report must be integers in [0, {count}), one per example, at least one")
        examples = None if self.labels is None else len(self.labels)
        for model in self.models:
            if model.log_probs is None:
                continue
            shape = model.log_probs.shape
            if len(shape) != 2 or shape[1] != count or shape[0] != examples:
                raise DataError(
                    f"the {model.role}'s log-probabilities have shape {shape}, "
                    f"and {examples or 'no'} labels over {count} classes ask for ({examples or 0}, {count})"
                )
            if not np.isfinite(model.log_probs.max(-1)).all():
                raise DataError(f"the {model.role}'s log-probabilities hold NaN, or no class has any: it is broken")
        if self.images is not None:
            shape = self.images.shape
            fits = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
            if self.images.dtype != np.uint8 or not fits or shape[0] != examples or 0 in shape:
                raise DataError(
                    f"images of a report must be uint8 of shape ({examples or 0}, H, W) or "
                    f"({examples or 0}, H, W, 3), "
                    f"and are {self.images.dtype} of shape {shape}"
                )

    @property
    def answering(self) -> tuple[Model, ...]:
        """The models with predictions."""
        return tuple(model for model in self.models if model.log_probs is not None)

    def model(self, role: str) -> Model | None:
        """The first model of a role with predictions.

        Args:
            role: Such as "teacher".

        Returns:
            The model, or None.
        """
        return next((model for model in self.answering if model.role == role), None)

    @cached_property
    def truth(self) -> NDArray[np.int64]:
        """The labels, int64 ``(N,)``; of length 0 where there are none."""
        return np.zeros(0, np.int64) if self.labels is None else self.labels.astype(np.int64)
