"""Augmentation of images as they are read: random resized crops, flips, TrivialAugment, RandAugment and erasing.

What is drawn for a view is a function of (view seed, view, example), and shares of the image, not pixels: every
presentation of a view, whatever its size, shows the same crop, flip and operations.

Axes: ``n`` examples.
"""

__all__ = ["OPERATIONS", "CropBox", "crop_box", "draw", "erased_box", "flipped", "operated"]

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from limbeck.keyed import uniform_draws
from limbeck.options import Augmentation

_TRIES = 10
"""Attempts to draw a crop, or a box to erase, that fits into the image, as in torchvision."""
_ASPECTS = (3 / 4, 4 / 3)
_ERASED_SHARE, _ERASED_ASPECTS = (0.02, 1 / 3), (0.3, 3.3)
_RAND_OPERATIONS, _RAND_BIN = 2, 9
"""Number of operations of RandAugment, and their magnitude, of 31 bins from 0."""
_BINS = 31
# Where in an example's draws, of four numbers each, something begins.
_FLIP = _TRIES
_OPERATION = _FLIP + 1
_ERASE = _OPERATION + _RAND_OPERATIONS
_ERASE_BOX = _ERASE + 1
_DRAWS = _ERASE_BOX + _TRIES
_FIRST_DRAW = 64
"""The draws before it are those of shifts, rotations and elastic deformations."""

Numbers = NDArray[np.float64]
"""Random numbers for one view of one example, in [0, 1), ``(draws, 4)``."""


class CropBox(NamedTuple):
    """Part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def draw(augmentation: Augmentation, keys: Tensor, view: int) -> Sequence[Numbers]:
    """Draw the random numbers of a view.

    Args:
        augmentation: The augmentation, with the seed of the views.
        keys: The examples' numbers, int64 ``(n,)``.
        view: Which view.

    Returns:
        Uniform numbers for each example.

    Example:
        >>> import torch
        >>> both = draw(Augmentation(augment="standard"), torch.tensor([7, 8]), view=1)
        >>> alone = draw(Augmentation(augment="standard"), torch.tensor([8]), view=1)
        >>> bool((both[1] == alone[0]).all()), bool((both[0] == both[1]).any())
        (True, False)
    """
    drawn = uniform_draws(keys, seed=augmentation.view_seed, view=view, draw=_FIRST_DRAW, count=_DRAWS)
    return list(drawn.numpy().astype(np.float64))


def crop_box(numbers: Numbers, height: int, width: int, *, least: float) -> CropBox:
    """A random part of an image: its area even in [least, 1] of the whole, its aspect even in the logarithm.

    The aspect (width by height) is in [3/4, 4/3]. Where ten boxes in a row do not fit, it is the middle of the image,
    cropped to an aspect in that range: `Going deeper with convolutions <https://arxiv.org/abs/1409.4842>`_, section 6,
    with torchvision's rules.

    Args:
        numbers: From :func:`draw`.
        height: Pixels of the image.
        width: Pixels of the image.
        least: Smallest share of the area, in (0, 1].

    Returns:
        The box.

    Example:
        >>> crop_box(np.full((10, 4), 0.5), 100, 200, least=1.0)
        CropBox(top=0, left=33, height=100, width=133)
    """
    for area_drawn, aspect_drawn, down, right in numbers[:_TRIES].tolist():
        area = height * width * (least + (1 - least) * area_drawn)
        aspect = _log_between(_ASPECTS, aspect_drawn)
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            return CropBox(int(down * (height - high + 1)), int(right * (width - wide + 1)), high, wide)
    high, wide = height, width
    if width < height * _ASPECTS[0]:
        high = max(1, round(width / _ASPECTS[0]))
    elif width > height * _ASPECTS[1]:
        wide = max(1, round(height * _ASPECTS[1]))
    return CropBox((height - high) // 2, (width - wide) // 2, high, wide)


def flipped(numbers: Numbers) -> bool:
    """Whether a view is flipped horizontally, with probability 1/2."""
    return bool(numbers[_FLIP, 0] < 0.5)


def operated(image: Image.Image, numbers: Numbers, policy: str) -> Image.Image:
    """Apply a policy's operations to an image.

    ``trivial`` is one of :data:`OPERATIONS` at any strength: Müller and Hutter, `TrivialAugment
    <https://arxiv.org/abs/2103.10158>`_, 2021, with the wide ranges. ``rand`` is two of them, of the narrower ranges at
    strength 9 of 30: Cubuk et al., `RandAugment <https://arxiv.org/abs/1909.13719>`_, 2019. Other policies have none.

    Args:
        image: Of mode L or RGB.
        numbers: From :func:`draw`.
        policy: Name of the policy.

    Returns:
        The image, of the same size and mode.
    """
    if policy == "trivial":
        chosen, strength, sign, _ = numbers[_OPERATION].tolist()
        steps = [(chosen, int(strength * _BINS), sign, _WIDE)]
    elif policy == "rand":
        drawn = numbers[_OPERATION : _OPERATION + _RAND_OPERATIONS].tolist()
        steps = [(chosen, _RAND_BIN, sign, _NARROW) for chosen, _, sign, _ in drawn]
    else:
        return image
    names = list(OPERATIONS)
    for chosen, strength_bin, sign, ranges in steps:
        name = names[int(chosen * len(names))]
        amount = strength_bin / (_BINS - 1) * ranges.get(name, 0.0)
        image = OPERATIONS[name](image, -amount if sign < 0.5 else amount)
    return image


def erased_box(numbers: Numbers, height: int, width: int, *, share: float) -> CropBox | None:
    """The box of random erasing.

    Its area is even in [0.02, 1/3] of the image, its aspect even in the logarithm over [0.3, 3.3]: Zhong et al.,
    `Random erasing data augmentation <https://arxiv.org/abs/1708.04896>`_, 2017.

    Args:
        numbers: From :func:`draw`.
        height: Pixels of the image.
        width: Pixels of the image.
        share: Probability of erasing, in [0, 1].

    Returns:
        The box; None where nothing is erased.
    """
    if numbers[_ERASE, 0] >= share:
        return None
    for area_drawn, aspect_drawn, down, right in numbers[_ERASE_BOX : _ERASE_BOX + _TRIES].tolist():
        area = _ERASED_SHARE[0] + (_ERASED_SHARE[1] - _ERASED_SHARE[0]) * area_drawn
        aspect = _log_between(_ERASED_ASPECTS, aspect_drawn)
        high, wide = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if high < 1 and wide < 1:  # shares of the sides, so that images of all sizes lose the same part
            box = (round(side * each) for side, each in ((height, down * (1 - high)), (width, right * (1 - wide))))
            top, left = box
            return CropBox(top, left, max(1, round(height * high)), max(1, round(width * wide)))
    return None


def _log_between(bounds: tuple[float, float], drawn: float) -> float:
    low, high = math.log(bounds[0]), math.log(bounds[1])
    return math.exp(low + (high - low) * drawn)


def _moved(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def _posterize(image: Image.Image, amount: float) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(abs(amount)))


def _solarize(image: Image.Image, amount: float) -> Image.Image:
    return ImageOps.solarize(image, math.ceil(255 - abs(amount)))


Operation = Callable[[Image.Image, float], Image.Image]
OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, amount: image,
    "shear x": lambda image, amount: _moved(image, (1, amount, 0, 0, 1, 0)),
    "shear y": lambda image, amount: _moved(image, (1, 0, 0, amount, 1, 0)),
    "translate x": lambda image, amount: _moved(image, (1, 0, -int(amount * image.width), 0, 1, 0)),
    "translate y": lambda image, amount: _moved(image, (1, 0, 0, 0, 1, -int(amount * image.height))),
    "rotate": lambda image, amount: image.rotate(amount),
    "brightness": lambda image, amount: ImageEnhance.Brightness(image).enhance(1 + amount),
    "colour": lambda image, amount: ImageEnhance.Color(image).enhance(1 + amount),
    "contrast": lambda image, amount: ImageEnhance.Contrast(image).enhance(1 + amount),
    "sharpness": lambda image, amount: ImageEnhance.Sharpness(image).enhance(1 + amount),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": lambda image, amount: ImageOps.autocontrast(image),
    "equalize": lambda image, amount: ImageOps.equalize(image),
}
"""The operations of TrivialAugment and RandAugment, functions of an image and a signed magnitude."""

_ENHANCED = ("brightness", "colour", "contrast", "sharpness")
_WIDE = {
    **dict.fromkeys(("shear x", "shear y", *_ENHANCED), 0.99),
    **dict.fromkeys(("translate x", "translate y"), 32 / 224),
    "rotate": 135.0,
    "posterize": 6.0,
    "solarize": 255.0,
}
"""Largest amounts of TrivialAugment; a translation is 32 pixels of an image of 224."""
_NARROW = {
    **dict.fromkeys(("shear x", "shear y"), 0.3),
    **dict.fromkeys(_ENHANCED, 0.9),
    **dict.fromkeys(("translate x", "translate y"), 150 / 331),
    "rotate": 30.0,
    "posterize": 4.0,
    "solarize": 255.0,
}
"""Largest magnitudes of RandAugment."""
