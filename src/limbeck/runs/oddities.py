"""What is odd about a teacher, though it is no error: told before hours are spent on it."""

__all__ = ["tell_odd_teacher"]

import torch

from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.devices import Device
from limbeck.options import Augmentation
from limbeck.protocols import Batch, Teacher
from limbeck.watcher import Watcher

_LOOKED_AT = 1024
"""Examples that a teacher is asked about."""
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
