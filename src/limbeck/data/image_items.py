"""Images in collections of items, handled like image files: each model has its own size and normalisation.

Axes: ``N`` items, ``C`` channels, ``H`` and ``W`` pixels.
"""

__all__ = ["ImageItems", "presentation_of_items"]

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from limbeck.data.image_transform import Picture
from limbeck.data.images import Held, Images
from limbeck.data.item_source import ItemSource
from limbeck.errors import DataError
from limbeck.keyed import seeds
from limbeck.options import ImagePresentation

if TYPE_CHECKING:
    from limbeck.options import Augmentation

_SMALL = 112
"""Images with a side below this are not enlarged to 224 pixels unasked."""


class ImageItems(Images):
    """Pillow images that a data set makes lazily, each under its own seed.

    Args:
        items: Reads them.
        presentation: The default presentation.
    """

    def __init__(self, items: ItemSource, presentation: ImagePresentation) -> None:
        super().__init__(presentation)
        self.items, self.random = items, items.random

    def __len__(self) -> int:
        return len(self.items)

    def picture(self, row: int) -> AbstractContextManager[Picture]:
        """An image, without what would be drawn for a view."""
        return self._held(row, 0)

    def opened(
        self, rows: Tensor, keys: Tensor, view: int, augmentation: "Augmentation | None"
    ) -> Iterator[AbstractContextManager[Picture]]:
        """The images, each read under the seed of its number and the view."""
        drawn = seeds(keys.cpu(), seed=0 if augmentation is None else augmentation.view_seed, view=view).tolist()
        for row, seed in zip(rows.tolist(), drawn, strict=True):
            yield self._held(row, seed)

    def _held(self, row: int, seed: int) -> AbstractContextManager[Picture]:
        number = int(self.items.numbers[row])
        found = self.items.item(number, seed)
        if not found.image or not isinstance(found.inputs, Tensor):
            raise DataError(f"item {number} of the {self.items.name} is not an image, and item 0 is one")
        return nullcontext(Held(found.inputs.numpy()))

    def select(self, rows: Tensor) -> "ImageItems":
        """Some of the images."""
        return ImageItems(self.items.select(rows), self.presentation)

    def content(self) -> Iterator[bytes | memoryview]:
        """Size and pixels of 64 images, spread evenly, however they are presented."""
        for row in torch.linspace(0, len(self) - 1, min(64, len(self))).round().long().tolist():
            pixels = self.items.item(int(self.items.numbers[row]), 0).inputs
            assert isinstance(pixels, Tensor)
            yield str(tuple(pixels.shape)).encode()
            yield pixels.contiguous().numpy().reshape(-1).data


def presentation_of_items(items: ItemSource, shapes: Sequence[tuple[int, ...]]) -> ImagePresentation:
    """How images are seen by a model that does not say: as they are where all have one size, else as ImageNet's.

    Args:
        items: The images.
        shapes: ``(C, H, W)`` of some of them, the first first.

    Returns:
        All pixels on [0, 1] where all have one size; else 224 pixels, with ImageNet's mean and deviation.

    Raises:
        DataError: If small images have several sizes.
    """
    channels = 3 if any(shape[0] == 3 for shape in shapes) else 1
    sizes = list(dict.fromkeys((shape[1], shape[2]) for shape in shapes))
    if len(sizes) == 1:
        return ImagePresentation.plain(sizes[0], channels=channels)
    if min(map(min, sizes)) < _SMALL:
        (high, wide), (other_high, other_wide) = sizes[:2]
        raise DataError(
            f"images of the {items.name} have {high} x {wide} pixels (height x width), and {other_high} x {other_wide}"
            ": resize them to one size in the data set"
        )
    return ImagePresentation(channels=channels)
