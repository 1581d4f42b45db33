"""Answering of a model or a teacher for many examples."""

__all__ = ["answer_views", "answers_in_blocks", "predict"]

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from limbeck.calling import call_model, evaluating, require_logits
from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.devices import Device
from limbeck.errors import MismatchError
from limbeck.options import Augmentation
from limbeck.protocols import Teacher
from limbeck.softtargets.digests import teacher_fingerprint
from limbeck.teachers import StoredTargets


def answers_in_blocks(
    model: nn.Module | Teacher,
    examples: Examples,
    *,
    device: Device | None = None,
    batch_size: int = 1000,
    within: slice | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Log-probabilities at T = 1 of a model's or teacher's answers, block by block.

    A module is put in evaluation mode for the time, without gradient, and each of its parts afterwards as it was.

    Args:
        model: A module that gives scores ``(N, K)``, or a teacher.
        examples: What to answer.
        device: Where and how precisely to compute; None for float32 on the CPU.
        batch_size: Examples at a time; it does not change the answers beyond rounding.
        within: From which row to before which; None for all.

    Yields:
        Which rows, and natural logarithms, float32 ``(rows, K)`` on the CPU.

    Raises:
        DataError: If the answers are not of shape ``(N, K)``.
    """  # noqa: DOC502
    place = device or Device(torch.device("cpu"), "float32")
    with evaluating(model) if isinstance(model, nn.Module) else nullcontext():
        first, stop, _ = (within or slice(None)).indices(len(examples))
        for start in range(first, stop, batch_size):
            rows = slice(start, min(start + batch_size, stop))
            with torch.no_grad(), place.autocast():
                if isinstance(model, nn.Module):
                    inputs = examples.as_seen(rows).to(place.device)
                    logits = call_model(model, inputs)
                    require_logits(logits, rows.stop - rows.start)
                    answers = torch.log_softmax(logits, -1).cpu()
                else:
                    answers = model.log_probs(examples.batch(rows).to(place.device), 1.0).float().cpu()
            yield rows, answers


def predict(
    model: nn.Module | Teacher, examples: Examples, *, device: Device | None = None, batch_size: int = 1000
) -> Tensor:
    """All of :func:`answers_in_blocks` as one tensor.

    Args:
        model: A module that gives scores ``(N, K)``, or a teacher.
        examples: What to answer.
        device: Where and how precisely to compute; None for float32 on the CPU.
        batch_size: Examples at a time; it does not change the answers beyond rounding.

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
    batch_size: int = 1000,
) -> StoredTargets:
    """A teacher's answers to the pictures that training will show, computed once and held in memory.

    Args:
        teacher: Who answers; it is on the device already.
        examples: What is shown.
        augmentation: How it is distorted.
        classes: Names of the classes.
        views: How many views of each example.
        device: Where and how precisely to compute.
        temperature: None for answers at T = 1 that serve every temperature (see
            :attr:`~limbeck.protocols.Teacher.every_temperature`); otherwise the one temperature that they are for.
        batch_size: Examples at a time.

    Returns:
        The answers, on the device.

    Raises:
        MismatchError: If the teacher answers with another number of classes.
    """
    feed = Feed(examples, batch_size=batch_size, augmentation=augmentation, seed=0, device=device.device)
    index = feed.examples.index.long()
    row_of = torch.empty(int(index.max()) + 1, dtype=torch.int64, device=device.device)
    row_of[index] = torch.arange(len(index), device=device.device)
    values = torch.empty(views, len(index), len(classes), dtype=torch.float32, device=device.device)
    for view in range(views):
        for batch in feed.batches(view):
            with device.autocast():
                answers = teacher.log_probs(batch, temperature or 1.0)
            if answers.shape[1] != len(classes):
                raise MismatchError(f"the teacher answers with {answers.shape[1]} classes, not {len(classes)}")
            values[view, row_of[batch.index]] = answers.float()
    stored = StoredTargets(values, index, classes=classes, temperature=temperature, source=examples.source)
    stored.fingerprint = teacher_fingerprint(teacher)
    return stored
