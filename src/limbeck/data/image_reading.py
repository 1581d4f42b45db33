"""Image files as examples: held in memory if small, or decoded lazily.

Axes: ``N`` images, ``C`` channels, ``H`` and ``W`` pixels.
"""

__all__ = ["ImagePlan", "plan_images", "read_images"]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.image_transform import show
from limbeck.data.images import ImageFiles
from limbeck.errors import FormatError
from limbeck.formats.image_arrays import open_picture
from limbeck.options import ImagePresentation

_IN_MEMORY = 256 << 20
"""Bytes of pixels that are held in memory."""
_LOOKED_AT = 64
"""Number of files to inspect for the decision."""
_SMALL = 112
"""Images with a side below this are not enlarged to 224 pixels unasked."""

Parts = Mapping[str, Sequence[Path]]
"""Files by the name of a part."""


@dataclass(frozen=True)
class ImagePlan:
    """How some image files become examples.

    Attributes:
        presentation: The presentation for lazy decoding; None to hold all in memory.
        size: Height and width to which they are resized and cropped; None where all have one size.
        note: The decision in words.
    """

    presentation: ImagePresentation | None
    size: tuple[int, int] | None
    note: str


class _SizesDiffer(FormatError):
    """Images have several sizes where one is needed."""

    def __init__(self, file: Path, size: tuple[int, ...], other: Path, other_size: tuple[int, ...]) -> None:
        has, others = (" x ".join(map(str, each)) for each in (size, other_size))
        super().__init__(
            file,
            f"it has {has} pixels (height x width), and {other} has {others}: resize all, as with "
            "image_size=224 (--image-size 224)",
        )
        self.least = min(*size, *other_size)


def plan_images(
    parts: Parts, *, image_size: int | None = None, presentation: ImagePresentation | None = None
) -> ImagePlan:
    """Inspect some image files, and decide how to load them.

    They are held in memory where all pixels take at most 256 MiB, they have one size or one is given, and nobody wants
    them presented in a way of their own. Otherwise they are decoded as they are wanted: as ``presentation`` says, or
    with ImageNet's mean and deviation in ``image_size``; where that is not given, in the size of images that are small
    and have one, and at 224 pixels.

    Args:
        parts: The files.
        image_size: Pixels, square.
        presentation: How the student sees them.

    Returns:
        The plan.

    Raises:
        FormatError: If a file cannot be read, or small images have several sizes and none is given.
    """
    files = [file for part in parts.values() for file in part]
    if presentation is not None:
        return _streamed(len(files), presentation)
    chosen = [files[row] for row in np.unique(np.linspace(0, len(files) - 1, _LOOKED_AT).round().astype(int))]
    sizes, modes = zip(*(_look(file) for file in chosen), strict=True)
    channels, first = 3 if "RGB" in modes else 1, sizes[0]
    asked = None if image_size is None else (image_size, image_size)
    height, width = asked or first
    if len(files) * channels * height * width <= _IN_MEMORY and (asked is not None or len(set(sizes)) == 1):
        return ImagePlan(None, asked, f"{len(files):,} images are held in memory")
    if asked is not None:
        return _streamed(len(files), ImagePresentation(size=asked, channels=channels))
    return _plan_sizes(files, chosen, sizes, channels)


def _plan_sizes(
    files: Sequence[Path], chosen: Sequence[Path], sizes: Sequence[tuple[int, int]], channels: int
) -> ImagePlan:
    """The plan for images that are decoded as they are wanted, in a size that nobody gave."""
    if min(min(size) for size in sizes) >= _SMALL:
        return _streamed(len(files), ImagePresentation(channels=channels))
    if len(set(sizes)) == 1:
        return _streamed(len(files), ImagePresentation(size=sizes[0], crop_pct=1.0, channels=channels))
    odd = min(
        range(len(sizes)), key=lambda row: (min(sizes[row]), sizes[row] == sizes[0])
    )  # were it as large as others, all would be shown
    other = next(row for row, size in enumerate(sizes) if size != sizes[odd])
    error = _SizesDiffer(chosen[odd], sizes[odd], chosen[other], sizes[other])
    raise FormatError(error.path, error.reason)


def _streamed(count: int, presentation: ImagePresentation) -> ImagePlan:
    height, width = presentation.size
    shown = f"{height} x {width} pixels ({presentation.crop_pct:.3g} of the shorter side, {presentation.interpolation})"
    return ImagePlan(presentation, None, f"{count:,} images are decoded as they are wanted, and shown in {shown}")


def _look(file: Path) -> tuple[tuple[int, int], str]:
    with open_picture(file) as picture:
        return (picture.height, picture.width), picture.decode(1).mode


def read_images(
    root: Path, parts: Parts, *, image_size: int | None = None, presentation: ImagePresentation | None = None
) -> tuple[dict[str, Tensor | ImageFiles], str]:
    """The inputs of each part, as :func:`plan_images` decides.

    Args:
        root: A folder that holds all files.
        parts: The files.
        image_size: Pixels, square.
        presentation: How the student sees them.

    Returns:
        uint8 ``(N, C, H, W)`` or a source for each part; and what was decided, in words.

    Raises:
        FormatError: If a file cannot be read, or small images have several sizes and none is given.
    """
    plan = plan_images(parts, image_size=image_size, presentation=presentation)
    if plan.presentation is None:
        try:
            return dict(_held(parts, plan.size)), plan.note
        except _SizesDiffer as error:  # one that was not looked at
            if error.least < _SMALL:
                raise FormatError(error.path, error.reason) from error
            plan = _streamed(sum(map(len, parts.values())), ImagePresentation())
    assert plan.presentation is not None
    made: dict[str, Tensor | ImageFiles] = {}
    for part, files in parts.items():
        names = [str(file.relative_to(root) if file.is_relative_to(root) else file.absolute()) for file in files]
        made[part] = ImageFiles(root, names, plan.presentation)
    return made, plan.note


def _held(parts: Parts, size: tuple[int, int] | None) -> Iterable[tuple[str, Tensor]]:
    """All pixels of each part; one channel where no image of any part has a colour."""
    pixels = {part: [_pixels(file, size) for file in files] for part, files in parts.items()}
    first, expected = next((files[0], pixels[part][0].shape[:2]) for part, files in parts.items())
    for part, files in parts.items():
        for file, each in zip(files, pixels[part], strict=True):
            if each.shape[:2] != expected:
                raise _SizesDiffer(file, each.shape[:2], first, expected)
    grey = all(each.ndim == 2 for part in pixels.values() for each in part)
    for part, found in pixels.items():
        images = np.empty((len(found), 1 if grey else 3, *expected), np.uint8)
        for image, each in zip(images, found, strict=True):
            image[:] = each if each.ndim == 2 else each.transpose(2, 0, 1)
        yield part, torch.from_numpy(images)


def _pixels(file: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """uint8 ``(H, W)`` of a grey image, ``(H, W, 3)`` of another."""
    with open_picture(file) as picture:
        if size is None:
            return np.asarray(picture.decode(max(picture.height, picture.width)))
        presentation = ImagePresentation.plain(size)
        shown = show(picture, presentation)
        # The same pixels, decoded already.
        return shown[:, :, 0] if picture.decode(2 * min(size)).mode == "L" else shown
