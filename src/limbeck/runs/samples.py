"""A few held-out examples in raw form, for exports that show samples."""

__all__ = ["samples_of"]

import torch
from torch import nn

from limbeck.data.source import Source
from limbeck.exporters import Samples
from limbeck.exporters.comparing import pixels_of, plain_view
from limbeck.exporters.parity import Held
from limbeck.exporters.tracing import bare_inputs
from limbeck.models.calling import presentation_of

_MOST = 12


def samples_of(model: nn.Module, held: Held, classes: int, *, images: bool) -> Samples:
    """Choose held-out examples, one of each of the first classes where labels are known.

    Args:
        model: The model; its presentation is used.
        held: All held-out examples.
        classes: Number of classes.
        images: Whether they are images.

    Returns:
        At most 12, with the raw input where that is known.
    """
    examples, rows = held.examples, held.rows[:_MOST]
    if examples.labels is not None:
        known = examples.labels[held.rows]
        firsts = [(known == label).nonzero()[:1, 0] for label in range(min(classes, _MOST))]
        rows = held.rows[torch.cat(firsts)]
    batch = examples.batch(rows)
    inputs, single = bare_inputs(batch.inputs)
    seen = presentation_of(model) or examples.presentation
    if not single:  # positions of sequences, or pairs of example and label
        return Samples(held.part, seen, inputs)
    labels = None if batch.labels is None else tuple(batch.labels.tolist())
    if images:
        pixels = pixels_of(batch, plain_view(examples, model))
        if isinstance(pixels, torch.Tensor) and pixels.ndim == 4 and pixels.shape[1] in {1, 3}:
            return Samples(held.part, seen, inputs, pixels, labels)
    given = examples.inputs.as_given(rows) if isinstance(examples.inputs, Source) else None
    return Samples(held.part, seen, inputs, given, labels)
