"""Evaluate and use: its errors, its size, its speed."""

__all__ = [
    "Answers",
    "answers_of",
    "evaluate",
    "file_bytes",
    "labels_of",
    "multiply_adds",
    "scores_of",
    "size_of",
    "speed_of",
    "title_of",
]

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.table import Table
from limbeck.errors import DataError, MismatchError
from limbeck.evaluation import metrics
from limbeck.evaluation.calibration import calibrated, debiased_calibration_error
from limbeck.evaluation.prediction import answers_in_blocks, device_of, shown_to
from limbeck.inputs import move
from limbeck.models import count_parameters
from limbeck.models.calling import call_model, evaluating
from limbeck.models.class_names import named_classes
from limbeck.models.titles import title_of
from limbeck.models.wrapped import unwrapped
from limbeck.protocols import Answering, Teacher
from limbeck.runs.calibrating import Calibration, calibration_of
from limbeck.runs.data_warnings import tell_scale_of_training, tell_trained_on, tell_unknown_categories
from limbeck.runs.models import load
from limbeck.runs.speed import modules_of, placed, speed_of
from limbeck.system.devices import Device, find_device
from limbeck.system.eager_torch import eager_mode
from limbeck.teacher_warnings import tell_probabilities
from limbeck.teachers import as_teacher

_KEPT = 1 << 24
"""Largest number of log-probabilities to keep."""


@checked_arguments
def evaluate(
    model: nn.Module | Answering | str | Path,
    data: DataSet | Examples,
    *,
    teacher: nn.Module | Answering | None = None,
    device: str | torch.device | None = None,
) -> dict[str, Any]:
    """Evaluate a model on held-out examples, in float32.

    Args:
        model: A module, a teacher, or a run folder.
        data: Labelled examples; of a data set the test part.
        teacher: A teacher to compare predictions with.
        device: Where to compute: "auto" (the best there is), or a PyTorch device; None for where each of the two is.
            Both are afterwards where they were. An 8-bit network is judged on the CPU, which it is made for.

    Returns:
        ``test_examples``, ``test_errors``, ``error_rate``, ``accuracy``, ``balanced_accuracy``, ``nll`` (nats
        per example; None where a true class has probability 0, so that it is infinite), ``ece`` (15 bins of equal
        width), ``ece_debiased``; where there is a validation set, ``calibration_temperature`` fitted on it, and with it
        ``calibrated_nll`` and so on; ``agreement_with_teacher``, ``parameters``, ``file_bytes``, ``multiply_adds`` (per
        example), ``latency_ms`` (one example, median) and ``images_per_second`` (up to 256 at a time).

    Raises:
        DataError: If there is no test set, or it has no labels.
        MismatchError: If the model's classes are not the data's, or stored outputs are of other examples.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> some = Examples.of(torch.zeros(8, 2, 2), torch.tensor([0, 1] * 4))
        >>> evaluate(net, some)["test_errors"]
        4
    """
    subject = load(model) if isinstance(model, str | Path) else model
    examples = _test_part(subject, data)
    known = len(data.classes) if isinstance(data, DataSet) else None
    if not isinstance(subject, nn.Module):
        subject = as_teacher(subject).bind(examples)
    examples = shown_to(subject, examples)
    if isinstance(examples.inputs, Table):
        tell_unknown_categories(examples.inputs.presentation, examples.inputs)
    tell_scale_of_training("model", subject, examples)
    place = None if device is None else find_device(str(device), "float32").device
    guide = None
    if teacher is not None:
        beside = as_teacher(teacher).bind(examples)
        with placed(beside, place or device_of(beside)) as there:
            tell_probabilities("teacher", there, examples, Device(device_of(there), "float32"), None)
            guide = answers_of(there, examples)
            _same_classes("teacher", guide, "the data", known)
    if isinstance(data, DataSet):
        tell_trained_on("model", subject, data, None)
    with placed(subject, place or device_of(subject)) as there:
        tell_probabilities("model", there, examples, Device(device_of(there), "float32"), None)
        fitted = calibration_of(there, data.validation) if isinstance(data, DataSet) else None
        answers = answers_of(there, examples, calibration=fitted)
        _same_classes("model", answers, "the data", known)
        _same_classes("model", answers, "the teacher", None if guide is None else guide.classes)
        return {
            **scores_of(answers, labels_of(examples), teacher=guide),
            **examples.scores(answers.predicted, labels_of(examples)),
            **size_of(there, examples),
            **speed_of(there, examples),
        }


def _test_part(subject: nn.Module | Answering, data: DataSet | Examples) -> Examples:
    if isinstance(data, Examples):
        return data
    if data.test is None:
        raise DataError(f"{data.name} has no test set to evaluate on")
    classes = named_classes(subject)
    if classes is not None and tuple(classes) != data.classes:
        raise MismatchError(
            f"the model has the classes {_few(classes)} and {data.name} has {_few(data.classes)}: names and order "
            "must be the same"
        )
    return data.test


def _same_classes(role: str, answers: "Answers", other: str, count: int | None) -> None:
    if count is not None and answers.classes != count:
        raise MismatchError(f"the {role} outputs {answers.classes} classes, and {other} has {count}")


def _few(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:6])}{', ...' if len(names) > 6 else ''} ({len(names)})"


def labels_of(examples: Examples) -> NDArray[np.int64]:
    """The labels as an array.

    Returns:
        int64 ``(N,)``.

    Raises:
        DataError: If there are none.
    """
    if examples.labels is None:
        raise DataError("these examples have no labels to evaluate with")
    labels: NDArray[np.int64] = examples.labels.long().cpu().numpy()
    return labels


@dataclass(frozen=True, eq=False)
class Answers:
    """A compact form of a model's predictions, for millions of examples over a thousand classes.

    Attributes:
        predicted: Top-1 class, int64 ``(N,)``.
        confidence: Its probability, float64 ``(N,)``.
        true_log_probs: Natural logarithm of the true class's probability, float64 ``(N,)``.
        classes: K.
        log_probs: All log-probabilities, float32 ``(N, K)``, or None where they would be large.
        calibration: The temperature fitted on other examples, or None.
        calibrated_confidence: As ``confidence``, at that temperature; None where there is none.
        calibrated_true_log_probs: As ``true_log_probs``, at that temperature; None where there is none.
    """

    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    true_log_probs: NDArray[np.float64]
    classes: int
    log_probs: Tensor | None
    calibration: Calibration | None = None
    calibrated_confidence: NDArray[np.float64] | None = None
    calibrated_true_log_probs: NDArray[np.float64] | None = None


def answers_of(subject: nn.Module | Teacher, examples: Examples, *, calibration: Calibration | None = None) -> Answers:
    """Predict labelled examples, block by block, in float32 on the model's device.

    Args:
        subject: A module or a teacher.
        examples: The examples.
        calibration: Its temperature; ignored where it was fitted on these same examples.

    Returns:
        The predictions.
    """
    labels = labels_of(examples)
    predicted, confidence, true = np.empty(len(labels), np.int64), np.empty(len(labels)), np.empty(len(labels))
    temperature = None if calibration is None or calibration.digest == examples.digest else calibration.temperature
    at_t = None if temperature is None else (np.empty(len(labels)), np.empty(len(labels)))
    whole: list[Tensor] | None = []
    for rows, answers in answers_in_blocks(subject, examples):
        log_probs, right = answers.numpy(), labels[rows]
        metrics.negative_log_likelihood(log_probs, right)  # refuses values that are not a distribution
        place = np.arange(len(right))
        predicted[rows] = log_probs.argmax(-1)
        confidence[rows] = np.exp(log_probs[place, predicted[rows]].astype(np.float64))
        true[rows] = log_probs[place, right]
        if at_t is not None and temperature is not None:
            scaled = calibrated(log_probs, temperature)
            at_t[0][rows], at_t[1][rows] = np.exp(scaled[place, predicted[rows]]), scaled[place, right]
        if whole is not None:
            whole = [*whole, answers] if log_probs.shape[1] * len(labels) <= _KEPT else None
    kept = None if whole is None else torch.cat(whole)
    return Answers(predicted, confidence, true, answers.shape[1], kept, calibration, *(at_t or (None, None)))


def scores_of(
    answers: Answers,
    labels: NDArray[np.int64],
    *,
    teacher: Answers | None = None,
    original: Answers | None = None,
) -> dict[str, Any]:
    """The quality metrics of a model's predictions.

    Args:
        answers: From :func:`answers_of`.
        labels: True classes ``(N,)``.
        teacher: The teacher's predictions for the same examples.
        original: Predictions of the network that the model was made from.

    Returns:
        Errors, accuracy, balanced accuracy (mean recall over the classes present), negative log-likelihood, calibration
        errors, agreement; and the calibrated likelihood and calibration errors at the fitted temperature.
    """
    right = answers.predicted == labels
    errors = int((~right).sum())
    found = {
        "test_examples": len(labels),
        "test_errors": errors,
        "error_rate": errors / len(labels),
        "accuracy": 1 - errors / len(labels),
        "balanced_accuracy": metrics.balanced_accuracy(answers.predicted, labels),
        **_fit(answers.confidence, answers.true_log_probs, right),
    }
    if answers.calibration is not None:
        found |= answers.calibration.to_dict()
    if answers.calibrated_confidence is not None and answers.calibrated_true_log_probs is not None:
        found |= _fit(answers.calibrated_confidence, answers.calibrated_true_log_probs, right, "calibrated_")
    if teacher is not None:
        found["agreement_with_teacher"] = float((answers.predicted == teacher.predicted).mean())
    if original is not None:
        found["agreement_with_original"] = float((answers.predicted == original.predicted).mean())
    return found


def _fit(
    confidence: NDArray[np.float64], true_log_probs: NDArray[np.float64], right: NDArray[np.bool_], named: str = ""
) -> dict[str, float | None]:
    """Likelihood and calibration errors of probabilities."""
    nll = float(max(0.0, -true_log_probs.mean()))
    return {
        f"{named}nll": None if nll == math.inf else nll,  # JSON has no infinity; forests give classes no probability
        f"{named}ece": metrics.bin_confidence(confidence, right).expected_error,
        f"{named}ece_debiased": debiased_calibration_error(confidence, right),
    }


def size_of(subject: nn.Module | Teacher, examples: Examples) -> dict[str, Any]:
    """Parameters, bytes of the weights, and multiply-adds per example; empty where there is no module to count.

    Returns:
        ``parameters``, ``file_bytes``, ``multiply_adds``.
    """
    modules = modules_of(subject)
    if not modules:
        return {}
    return {
        "parameters": sum(count_parameters(module) for module, _ in modules),
        "file_bytes": sum(file_bytes(module) for module, _ in modules),
        "multiply_adds": sum(multiply_adds(module, examples, presentation=seen) for module, seen in modules),
    }


def file_bytes(module: nn.Module) -> int:
    """Size of the ``model.safetensors`` of a module, computed without copying the weights.

    Args:
        module: Any module.

    Returns:
        Bytes.

    Example:
        >>> net = nn.Linear(3, 2)
        >>> file_bytes(net) == len(save(net.state_dict(), {"format": "pt"}))
        True
    """
    weights = module.state_dict()
    # Empty tensors of the same names and types give the order in which the library writes them.
    empty = save({name: torch.empty(0, dtype=value.dtype) for name, value in weights.items()}, {"format": "pt"})
    header: dict[str, Any] = json.loads(empty[8 : 8 + int.from_bytes(empty[:8], "little")])
    offset = 0
    for name, entry in header.items():
        if name in weights:
            end = offset + weights[name].numel() * weights[name].element_size()
            entry |= {"shape": list(weights[name].shape), "data_offsets": [offset, end]}
            offset = end
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + offset


def multiply_adds(module: nn.Module, examples: Examples, *, presentation: Any = None) -> int:
    """Multiply-adds of one example, in matrix products and convolutions.

    Args:
        module: Any module.
        examples: Inputs; one example is used.
        presentation: Its presentation, where it is not that of the examples.

    Returns:
        The count.

    Example:
        >>> multiply_adds(nn.Linear(4, 3), Examples.of(torch.zeros(1, 4)))
        12
    """
    inputs = move(examples.as_seen(slice(0, 1), presentation), device_of(module))
    counter = FlopCounterMode(display=False, custom_mapping=_INT8_FLOPS)
    with evaluating(module), torch.no_grad(), counter:
        if counter.mode is not None:
            counter.mode.__class__ = eager_mode(type(counter.mode))
        call_model(unwrapped(module), inputs)  # compiled modules cannot be counted
    return int(counter.get_total_flops()) // 2


def _int8_flops(inputs: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
    return 2 * int(np.prod(inputs)) * out_shape[-1]


_INT8_FLOPS = {torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32: _int8_flops}
