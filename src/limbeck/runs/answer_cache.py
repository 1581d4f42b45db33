"""Whether a teacher is asked once, and its answers kept, or at each step."""

__all__ = ["answer_once"]


from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.evaluation.prediction import answer_views
from limbeck.options import Augmentation, Training
from limbeck.protocols import Teacher
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device

_KEEP_BYTES = 1 << 29
"""Answers up to this size are computed once and held in memory, twice: as they are, and softened."""


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
    """The teacher, or its answers where each will be wanted more than once and they fit into memory.

    Args:
        guide: The teacher, on the device.
        examples: What the student will see.
        data: Whose classes are answered.
        augmentation: Random views.
        options: The settings of the training.
        device: Where to compute.
        callback: Hears how it goes.
        temperature: That of a teacher whose answers hold for one alone; None where answers that are kept serve nobody.

    Returns:
        A teacher.
    """
    views = 1 if not augmentation.active else augmentation.views
    if not guide.live or views is None or views >= options.epochs or temperature is None:
        return guide
    if views * len(examples) * len(data.classes) * 4 > _KEEP_BYTES:
        return guide
    if not _repeats(guide, examples, augmentation, device):
        (callback or Callback()).warn(
            "the teacher answers otherwise when it is asked twice about the same examples: its answers are not kept, "
            "and neither they nor its figures can be had again"
        )
        return guide
    (callback or Callback()).note(f"the teacher answers {views * len(examples):,} examples once")
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
"""Examples that are asked about twice before answers are kept."""
_NOISE = 1e-3
"""Largest difference of a probability that a device's order of summation may explain."""


def _repeats(guide: Teacher, examples: Examples, augmentation: Augmentation, device: Device) -> bool:
    """Whether the same examples get the same answers a second time, so that these may be kept."""
    feed = Feed(examples, batch_size=_TRIED, augmentation=augmentation, seed=0, device=device.device)
    with device.autocast():
        first, second = (guide.log_probs(next(feed.batches(0)), 1.0).float().exp() for _ in range(2))
    return bool((first - second).abs().max() <= _NOISE)
