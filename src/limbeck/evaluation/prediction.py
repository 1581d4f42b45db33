"""Inference of a model or a teacher on many examples."""

__all__ = ["answer_views", "answers_in_blocks", "device_of", "predict", "shown_to"]

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.data.viewing import TEXTS_AT_ONCE, Viewing, in_parts, lengths_of
from limbeck.errors import DataError, MismatchError
from limbeck.evaluation.blocks import block_size, is_out_of_memory, release_memory
from limbeck.evaluation.subjects import Subject, subject_of
from limbeck.models.calling import presentations_of
from limbeck.options import Augmentation
from limbeck.protocols import Batch, Teacher
from limbeck.softtargets.digests import teacher_fingerprint
from limbeck.system.devices import Device, full_float32
from limbeck.teachers import StoredTargets
from limbeck.training.self_check import name_examples


def device_of(subject: nn.Module | Teacher) -> torch.device:
    """The device of a model or teacher: that of its first weight, or of its stored outputs.

    Args:
        subject: A module, or a teacher; other kinds have an attribute ``device``.

    Returns:
        The device; the CPU where it is unknown.

    Example:
        >>> device_of(nn.Linear(2, 2)), device_of(nn.Flatten())
        (device(type='cpu'), device(type='cpu'))
    """
    return subject_of(subject).device


def answers_in_blocks(
    model: nn.Module | Teacher,
    examples: Examples,
    *,
    device: Device | None = None,
    batch_size: int | None = None,
    within: slice | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield log-probabilities at T = 1 of a model or teacher, block by block.

    A module runs in evaluation mode without gradient; the mode of each submodule is restored afterwards.

    Args:
        model: A module that gives logits ``(N, K)``, or a teacher; it is on the device already.
        examples: The examples.
        device: Device and precision; None for float32 on the model's device, without TF32.
        batch_size: Batch size; it changes outputs only by rounding. None for as many as fit in a memory budget, at most
            1,000.
        within: First row, and one past the last row; None for all.

    Yields:
        Which rows, and natural logarithms, float32 ``(rows, K)`` on the CPU.

    Raises:
        DataError: If the answers are not of shape ``(N, K)``, or there is no memory for a single example.
    """
    subject = subject_of(model)
    place = device or Device(subject.device, "float32")
    first, stop, _ = (within or slice(None)).indices(len(examples))
    examples = subject.shown(examples)
    viewing = Viewing(examples, presentations=subject.presentations)

    def answer(batch: Batch, asked: Subject = subject) -> Tensor:
        exactly = full_float32() if device is None else nullcontext()
        with torch.no_grad(), place.autocast(), exactly:
            return asked.log_probs(batch, place.device).cpu()

    def rows_from(start: int, stop: int) -> Tensor:
        return torch.arange(start, stop, device=examples.index.device)

    def measured(few: int) -> Tensor:
        largest = examples.largest(few)
        return rows_from(first, first + few) if largest is None else largest

    with subject.asking():
        watched = subject.watched()
        size = batch_size or _fitting(
            watched.measured,
            examples,
            stop - first,
            place,
            lambda few: answer(viewing.batch(measured(few)), watched),
        )
        start, lengths = first, lengths_of(examples)
        if lengths is not None:
            few = min(size, TEXTS_AT_ONCE) if place.device.type == "cpu" and batch_size is None else size
            yield from _by_length(answer, viewing, lengths, slice(first, stop), few, place.device)
            return
        while start < stop:
            parts = in_parts(stop - start, size)
            for batch in viewing.batches(rows_from(start, stop), parts):
                rows = slice(start, start + len(batch.index))
                answers = unless_out_of_memory(partial(answer, batch), len(batch.index), place.device)
                if answers is None:
                    size = len(batch.index) // 2
                    break
                yield rows, answers
                start = rows.stop


def _by_length(
    answer: Callable[[Batch], Tensor],
    viewing: Viewing,
    lengths: Tensor,
    within: slice,
    size: int,
    device: torch.device,
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of texts, within which those of like length are answered together."""
    for block in in_parts(within.stop - within.start, max(size, _BLOCK)):
        rows = torch.arange(within.start + block.start, within.start + block.stop)
        order = lengths[rows].argsort(stable=True)
        parts: list[Tensor] = []
        done = 0
        while done < len(order):
            wanted = rows[order[done:]]
            for batch in viewing.batches(wanted, in_parts(len(wanted), size)):
                answers = unless_out_of_memory(partial(answer, batch), len(batch.index), device)
                if answers is None:
                    size = len(batch.index) // 2
                    break
                parts.append(answers)
                done += len(answers)
        found = torch.cat(parts)
        yield slice(int(rows[0]), int(rows[-1]) + 1), found[order.argsort()]


def shown_to(subject: nn.Module | Teacher, examples: Examples) -> Examples:
    """Examples in a model's presentation; in a teacher's where they have no other.

    Texts need a tokenizer: the teacher's, unless the student has another.

    Args:
        subject: A module, or a teacher.
        examples: Any.

    Returns:
        The examples.
    """
    return subject_of(subject).shown(examples)


_BLOCK = 1000
"""Texts among which those of like length are answered together."""
_SIZES: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], int]] = WeakKeyDictionary()
"""Block sizes of models that were measured: a model in training is asked again after each epoch."""


def _fitting(
    model: nn.Module | None, examples: Examples, count: int, place: Device, answer: Callable[[int], Tensor]
) -> int:
    if model is None or count < 2:
        return _size(answer, examples, count, place.device)
    known, key = _SIZES.setdefault(model, {}), (examples.shape, place)
    if key not in known:
        known[key] = _size(answer, examples, count, place.device)
    return known[key]


def _size(answer: Callable[[int], object], examples: Examples, count: int, device: torch.device) -> int:
    """Examples at a time; where they are positions, as many as so many of the longest sequences have in the mean."""
    together = examples.together_at_once
    return max(1, int(block_size(answer, math.ceil(count / together), device) * together))


def unless_out_of_memory(answer: Callable[[], Tensor], count: int, device: torch.device) -> Tensor | None:
    """Outputs, or None where memory ran out and a smaller batch may fit.

    Args:
        answer: Gives them.
        count: How many examples they are for.
        device: Where they are computed.

    Returns:
        The answers.

    Raises:
        DataError: If a single example does not fit.
    """  # noqa: DOC501
    try:
        return answer()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if count == 1:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"there is no memory on {device} for the answer to a single example ({reason}): stop what else uses "
                "it, or choose another device"
            ) from error
    release_memory(device)  # only here: the error held what the answer had allocated
    return None


def predict(
    model: nn.Module | Teacher, examples: Examples, *, device: Device | None = None, batch_size: int | None = None
) -> Tensor:
    """All of :func:`answers_in_blocks` as one tensor.

    Args:
        model: A module that gives logits ``(N, K)``, or a teacher; it is on the device already.
        examples: The examples.
        device: Device and precision; None for float32 on the model's device.
        batch_size: Batch size; it changes outputs only by rounding. None for as many as fit in a memory budget, at most
            1,000.

    Returns:
        Natural logarithms, float32 ``(N, K)`` on the CPU.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> predict(net, Examples.of(torch.zeros(3, 2, 2))).shape
        torch.Size([3, 2])
    """
    blocks = answers_in_blocks(model, examples, device=device, batch_size=batch_size)
    return torch.cat([answers for _, answers in blocks])


def answer_views(
    teacher: Teacher,
    examples: Examples,
    augmentation: Augmentation,
    *,
    classes: Sequence[str],
    views: int,
    device: Device,
    temperature: float | None = None,
    batch_size: int | None = None,
) -> StoredTargets:
    """A teacher's outputs for all training views, computed once and held in memory.

    Args:
        teacher: The teacher, on the device.
        examples: The training examples.
        augmentation: The augmentation.
        classes: Names of the classes.
        views: Number of views per example.
        device: Device and precision.
        temperature: None for outputs at T = 1 that serve every temperature (see
            :attr:`~limbeck.protocols.Teacher.every_temperature`); otherwise the one temperature that they are for.
        batch_size: Batch size; None for as many as fit in a memory budget, at most 1,000.

    Returns:
        The outputs, on the device.

    Raises:
        DataError: If an answer is NaN or infinite; the message names the example.
        MismatchError: If the teacher outputs another number of classes.
    """
    index = examples.index.long().to(device.device)
    row_of = torch.empty(int(index.max()) + 1, dtype=torch.int64, device=device.device)
    row_of[index] = torch.arange(len(index), device=device.device)
    values = torch.empty(views, len(index), len(classes), dtype=torch.float32, device=device.device)

    def answer(batch: Batch) -> Tensor:
        with device.autocast():
            return teacher.log_probs(batch, temperature or 1.0)

    def feed_of(size: int) -> Feed:
        seen = presentations_of(teacher)
        return Feed(
            examples, batch_size=size, augmentation=augmentation, seed=0, device=device.device, presentations=seen
        )

    def answer_few(count: int) -> None:
        feed, largest = feed_of(count), examples.largest(count)
        answer(next(feed.batches(0)) if largest is None else feed.viewing.batch(largest))

    size, view = batch_size or _size(answer_few, examples, len(examples), device.device), 0
    if batch_size is None and device.device.type == "cpu" and lengths_of(examples) is not None:
        size = min(size, TEXTS_AT_ONCE)
    while view < views:
        for batch in feed_of(size).batches(view):
            answers = unless_out_of_memory(partial(answer, batch), len(batch.index), device.device)
            if answers is None:
                size = len(batch.index) // 2
                break
            if answers.shape[1] != len(classes):
                raise MismatchError(f"the teacher outputs {answers.shape[1]} classes, not {len(classes)}")
            spoilt = ~(answers < math.inf).all(1)  # NaN too
            if bool(spoilt.any()):
                numbers = name_examples(batch.index[spoilt].tolist())
                raise DataError(f"the teacher's answer to {numbers} holds NaN or plus infinity: nothing can be learnt")
            values[view, row_of[batch.index]] = answers.float()
        else:
            view += 1
    stored = StoredTargets(values, index, classes=classes, temperature=temperature, source=examples.source)
    stored.fingerprint = teacher_fingerprint(teacher)
    return stored
