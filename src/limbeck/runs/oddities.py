"""What is odd about models and data, though it is not an error: told before hours are spent on it."""

__all__ = ["tell_odd_teacher", "tell_probabilities", "tell_shared_examples"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck.data.duplicates import shared_examples
from limbeck.data.examples import DataSet, Examples
from limbeck.data.feed import Feed
from limbeck.inputs import move
from limbeck.models.answers import looks_like_probabilities, looks_like_sigmoids
from limbeck.models.calling import call_model, evaluating, weights_dtype
from limbeck.options import Augmentation
from limbeck.protocols import Batch, Teacher
from limbeck.specialists import Committee
from limbeck.system.devices import Device
from limbeck.system.watcher import Watcher
from limbeck.teachers import Ensemble, ModelTeacher, UserTeacher
from limbeck.teachers.adapters import FunctionTeacher

_LOOKED_AT = 1024
"""Examples that a teacher is asked about."""
_16_BITS = {torch.float16, torch.bfloat16}
_ANSWERED = 64
"""Examples whose logits are looked at."""
_ALIKE = 1e-6
"""Largest difference between probabilities that are called alike."""


def tell_odd_teacher(
    teacher: Teacher,
    examples: Examples,
    augmentation: Augmentation,
    temperature: float,
    device: Device,
    watcher: Watcher | None,
) -> None:
    """Warn of a teacher that does worse than guessing, or says the same of every example.

    It is asked about the first examples that training would show.

    Args:
        teacher: Who is asked, on the device.
        examples: What the student will learn from.
        augmentation: The random views.
        temperature: Of the soft targets.
        device: Where to compute.
        watcher: Is told; None: it is a :class:`~limbeck.LimbeckWarning`.
    """
    watcher = watcher or Watcher()
    feed = Feed(examples, batch_size=_LOOKED_AT, augmentation=augmentation, seed=0, device=device.device)
    batch: Batch = next(feed.batches(0))
    with torch.no_grad(), device.autocast():
        # Where a hot answer is that at T = 1 softened, the latter tells examples apart better.
        answers = teacher.log_probs(batch, 1.0 if teacher.every_temperature else temperature).float()
    count = len(answers)
    if count < 2:
        return
    probabilities = answers.exp()
    if float((probabilities - probabilities[0]).abs().max()) < _ALIKE:
        watcher.warn(
            f"the teacher says the same of all {count} examples looked at, so that its targets teach nothing "
            "about them: are its inputs scaled as it was trained?"
        )
        return
    if batch.labels is None:
        return
    right = float((answers.argmax(-1) == batch.labels).float().mean())
    guessing = float(torch.bincount(batch.labels).max()) / count
    # Three standard errors: a teacher that guesses is told to be no better, one that is a little better is not.
    noise = 3 * (guessing * (1 - guessing) / count) ** 0.5
    if right < guessing - noise or (right <= 1 / answers.shape[1] and right < guessing):
        watcher.warn(
            f"the teacher is right on {right:.1%} of {count} training examples, and guessing the commonest class "
            f"would be on {guessing:.1%}: are its classes in the data's order, and its inputs scaled as it was trained?"
        )


def tell_probabilities(
    role: str, subject: nn.Module | Teacher, examples: Examples, device: Device | None, watcher: Watcher | None
) -> None:
    """Warn of a model that ends in a softmax, where logits are needed: a second softmax makes all answers alike.

    Outputs of a sigmoid are told for teachers alone: an untrained model's small logits may look like them. Logarithms
    of probabilities need no word, for they are logits of the same distribution.

    Args:
        role: What to call it, such as "teacher".
        subject: A module, or a teacher on the device.
        examples: Of which the first few are shown to it.
        device: Where a teacher is; None for the CPU.
        watcher: Is told.
    """
    batch = examples.batch(slice(0, _ANSWERED))
    told = watcher or Watcher()
    found = _logits(subject, batch if device is None else batch.to(device.device))
    for number, (logits, coarse) in enumerate(found):
        name = role if number == 0 else f"{role} (its part {number + 1})"
        if looks_like_probabilities(logits, coarse=coarse):
            told.warn(
                f"the answers of the {name} look like probabilities (at least 0, summing to one), and logits are "
                "needed: leave out the softmax at its end, or end it in log_softmax"
            )
        elif role == "teacher" and looks_like_sigmoids(logits):
            told.warn(
                f"the answers of the {name} all lie between 0 and 1, as after a sigmoid, and logits are needed: leave "
                "out the sigmoid at its end"
            )


@torch.no_grad()
def _logits(subject: object, batch: Batch) -> list[tuple[Tensor, bool]]:
    """What each model in a subject answers before a softmax, so far as it is known, and whether in 16 bits."""
    if isinstance(subject, nn.Module):
        first = next(subject.parameters(), None)
        with evaluating(subject):
            logits = call_model(subject, batch.inputs if first is None else move(batch.inputs, first.device))
        return [(logits, weights_dtype(subject) in _16_BITS)]
    if isinstance(subject, ModelTeacher):
        return [(subject.logits(batch), weights_dtype(subject.model) in _16_BITS)]
    if isinstance(subject, FunctionTeacher):
        return [(subject.logits(batch), False)]
    if isinstance(subject, UserTeacher):
        return _logits(subject.teacher, batch) if isinstance(subject.teacher, FunctionTeacher) else []
    if isinstance(subject, Ensemble):
        return [found for member in subject.members for found in _logits(member, batch)]
    return _logits(subject.generalist, batch) if isinstance(subject, Committee) else []


def tell_shared_examples(
    data: DataSet, parts: Sequence[str], watcher: Watcher | None, *, transfer: Examples | None = None
) -> None:
    """Warn of judged examples that something learnt from or chose by, and of such as come more than once.

    Errors on examples that were learnt from say little of new ones; a test set that the epoch was chosen on is no test
    set; and an example that comes twice counts twice, as if it were more evidence.

    Args:
        data: The data set.
        parts: Which of "validation" and "test" are looked at.
        watcher: Is told.
        transfer: What the student learns from instead of the training set, where that is something else.
    """
    tell = (watcher or Watcher()).warn
    for part in parts:
        examples = data.parts().get(part)
        if examples is None:
            continue
        others = {"training": data.train, "transfer": transfer}
        others |= {"validation": data.validation} if part == "test" else {}
        for name, seen in others.items():
            if seen is None:
                continue
            rows, found = shared_examples(examples, seen)
            if len(rows):
                tell(
                    f"{len(rows)} of {len(examples)} {part} examples are in the {name} set too, to the bit (the first "
                    f"is {part} example {int(rows[0])}, which is {name} example {int(found[0])}): errors on them say "
                    "little of new examples"
                )
        rows, found = shared_examples(examples, examples)
        again = rows[rows != found]
        if len(again):
            tell(
                f"{len(again)} of {len(examples)} {part} examples have come before in it, to the bit (the first is "
                f"{part} example {int(again[0])}): they count as if each were more evidence, which they are not"
            )
