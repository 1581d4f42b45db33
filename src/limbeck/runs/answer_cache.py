"""Cache a teacher's outputs in memory where each is needed more than once."""

__all__ = ["answer_once"]


from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.evaluation.prediction import answer_views
from limbeck.models.calling import presentations_of
from limbeck.options import Augmentation, Training
from limbeck.protocols import Teacher
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device

_KEEP_BYTES = 1 << 29
"""Outputs up to this size are cached in memory, twice: at T = 1, and softened."""


def answer_once(
    guide: Teacher,
    examples: Examples,
    data: DataSet,
    augmentation: Augmentation,
    options: Training,
    device: Device,
    callback: Callback | None,
    *,
    temperature: float | None,
) -> Teacher:
    """The teacher, or its cached outputs where each is needed more than once and they fit into memory.

    Args:
        guide: The teacher, on the device.
        examples: The student's training examples.
        data: The data set, for its classes.
        augmentation: The augmentation.
        options: The training settings.
        device: Where to compute.
        callback: Receives training progress.
        temperature: The only temperature that the outputs are valid for; None where caching is of no use.

    Returns:
        A teacher.
    """
    views = 1 if not augmentation.active else augmentation.views
    if not guide.live or views is None or views >= options.epochs or temperature is None:
        return guide
    if views * len(examples) * len(data.classes) * 4 > _KEEP_BYTES:
        return guide
    if not _repeats(guide, examples, augmentation, device):
        (callback or Callback()).on_warning(
            "the teacher is not deterministic: it gives different outputs for the same examples, so they are not "
            "cached, and its results cannot be reproduced"
        )
        return guide
    (callback or Callback()).on_note(f"the teacher answers {views * len(examples):,} examples once")
    return answer_views(
        guide,
        examples,
        augmentation,
        classes=data.classes,
        views=views,
        device=device,
        temperature=None if guide.every_temperature else temperature,
    )


_TRIED = 64
"""Examples that are answered twice to check for determinism."""
_NOISE = 1e-3
"""Largest difference of a probability that the order of summation may explain."""


def _repeats(guide: Teacher, examples: Examples, augmentation: Augmentation, device: Device) -> bool:
    """Whether the teacher is deterministic, so that its outputs may be cached."""
    seen = presentations_of(guide)
    feed = Feed(
        examples, batch_size=_TRIED, augmentation=augmentation, seed=0, device=device.device, presentations=seen
    )
    with device.autocast():
        first, second = (guide.log_probs(next(feed.batches(0)), 1.0).float().exp() for _ in range(2))
    return bool((first - second).abs().max() <= _NOISE)
