"""Image transforms of a presentation: crop, resize, augment, normalise.

Axes: ``N`` examples, ``C`` channels, ``H`` and ``W`` pixels.
"""

__all__ = ["Picture", "erase", "normalise", "room", "show"]

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from limbeck.data.augment_policies import Numbers, crop_box, erased_box, flipped, operated
from limbeck.options import ImagePresentation

if TYPE_CHECKING:
    from limbeck.options import Augmentation

_REDUCED_TO = 2
"""A JPEG is decoded at a fraction of its size that leaves this many pixels for each one that is wanted."""


class Picture(Protocol):
    """An image whose size is known and whose pixels are decoded on demand: see :func:`open_picture`."""

    height: int
    width: int

    def decode(self, least: int) -> Image.Image:
        """The pixels, in mode L or RGB, with at least that many on the shorter side where there are as many."""


def show(
    picture: Picture,
    presentation: ImagePresentation,
    drawn: Numbers | None = None,
    augmentation: "Augmentation | None" = None,
) -> NDArray[np.uint8]:
    """The pixels of an image as a presentation shows it, before normalisation and erasing.

    Args:
        picture: The image.
        presentation: Size, crop, channels.
        drawn: The view's numbers; None for the image itself, resized and cropped at its centre.
        augmentation: What becomes of them.

    Returns:
        uint8 ``(H, W, C)``.
    """
    resample = Image.Resampling[presentation.interpolation.upper()]
    height, width = presentation.size
    if drawn is None or augmentation is None:
        image = _centre(picture, presentation, resample)
    else:
        box = crop_box(drawn, picture.height, picture.width, least=augmentation.crop_area)
        need = _REDUCED_TO * max(height / box.height, width / box.width)
        whole = picture.decode(math.ceil(min(picture.height, picture.width) * need))
        down, right = whole.height / picture.height, whole.width / picture.width  # below 1 where it was reduced
        left, top = round(box.left * right), round(box.top * down)
        edges = (left, top, round((box.left + box.width) * right), round((box.top + box.height) * down))
        image = whole.crop(edges).resize((width, height), resample)
        if flipped(drawn):
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = operated(image, drawn, augmentation.augment)
    mode = "L" if presentation.channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    return np.array(image).reshape(height, width, presentation.channels)


def _centre(picture: Picture, presentation: ImagePresentation, resample: Image.Resampling) -> Image.Image:
    """The middle of an image, resized as the presentation says."""
    height, width = presentation.size
    high, wide = (math.floor(side / presentation.crop_pct) for side in (height, width))
    if not presentation.squash:  # the side that is farther from its aim keeps the image's proportions
        factor = max(high / picture.height, wide / picture.width)
        high, wide = max(high, int(picture.height * factor)), max(wide, int(picture.width * factor))
    whole = picture.decode(math.ceil(_REDUCED_TO * min(high, wide)))
    if whole.size != (wide, high):
        whole = whole.resize((wide, high), resample)
    top, left = round((high - height) / 2), round((wide - width) / 2)
    return whole.crop((left, top, left + width, top + height))


def room(*shape: int) -> Tensor:
    """An empty tensor; in a worker in memory that is shared with the process that waits for it, to be copied once."""
    if torch.utils.data.get_worker_info() is None or 0 in shape:
        return torch.empty(shape)
    # As torch's own default_collate does it: there is no public way that does not copy.
    shared = torch.UntypedStorage._new_shared(4 * math.prod(shape), device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0).set_(shared, 0, shape, torch.empty(shape, device="meta").stride())


def normalise(pixels: NDArray[np.uint8], presentation: ImagePresentation, out: Tensor) -> None:
    """Put pixels into a tensor ``(C, H, W)``: one image at a time stays in the processor's cache."""
    out.copy_(torch.from_numpy(pixels).permute(2, 0, 1).contiguous()).mul_(1 / 255)
    if any(presentation.mean) or any(std != 1 for std in presentation.std):
        out.sub_(_by_channel(presentation.mean)).div_(_by_channel(presentation.std))


@cache
def _by_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def erase(values: Tensor, drawn: Sequence[Numbers], share: float) -> None:
    """Erase a rectangle of some images: there they are the mean, which is 0."""
    for image, numbers in zip(values, drawn, strict=True):
        box = erased_box(numbers, *image.shape[1:], share=share)
        if box is not None:
            image[:, box.top : box.top + box.height, box.left : box.left + box.width] = 0
