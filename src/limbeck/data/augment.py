"""Augmentation of images in batches on the device, keyed to the example.

The k-th view of an example is a function of the seed, k and the example's index: the same image for any batch size, in
any order and after a resume, so a teacher's output for it can be stored and reused.

Axes: ``N`` examples, ``C`` channels, ``H`` and ``W`` pixels.
"""

__all__ = ["Views", "affine_matrices", "bend_weights", "draw_anew"]

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.columns import seen_values
from limbeck.data.examples import Examples
from limbeck.errors import DataError
from limbeck.keyed import small_integers, uniform
from limbeck.options import Augmentation

_BEND_SPANS = 4
"""Spans of the spline along each side of an image: on 28 pixels it is about as smooth as a Gaussian of 4."""
_BEND_POINTS = _BEND_SPANS + 3
_BEND_FIRST_DRAW = 2
"""The draws before it are those of the affine map."""


class Views:
    """Makes augmented views of images in memory.

    Args:
        examples: Images ``(N, C, H, W)``, already on the device.
        augmentation: The augmentation and its seed.

    Raises:
        DataError: If the examples are not images, or a shift is larger than an image.

    Example:
        >>> import numpy as np
        >>> pictures = Examples.of(np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8))
        >>> views = Views(pictures, Augmentation(shift=2))
        >>> views.prepare(view=5)
        >>> views.take(torch.tensor([1, 0])).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, examples: Examples, augmentation: Augmentation) -> None:
        if not isinstance(examples.inputs, Tensor) or examples.inputs.ndim != 4:
            raise DataError(f"only images can be shifted or rotated, and an example has shape {examples.shape}")
        if examples.kind == "integers":
            raise DataError(
                f"only images can be shifted or rotated, and inputs are {examples.inputs.dtype}: leave augmentation "
                "out, or give images as uint8 or floating-point numbers"
            )
        least = min(examples.shape[1:])
        for name, reach in (("shift", augmentation.shift), ("elastic", augmentation.elastic)):
            if reach >= least:
                raise DataError(
                    f"{name} is {reach:g} pixels, and images have shape {examples.shape}: nothing would be left of "
                    "some; it must be smaller than their shorter side"
                )
        self.examples, self.augmentation = examples, augmentation
        self.view = -1
        if augmentation.whole_pixels:
            # Padded once, a shift is a window at another place.
            reach = int(augmentation.shift)
            height, width = examples.shape[1:]
            padded = torch.nn.functional.pad(examples.inputs, (reach, reach, reach, reach))
            self.windows = padded.unfold(2, height, 1).unfold(3, width, 1)
            self.corners = torch.empty(0)
        else:
            self.matrices = torch.empty(0)
            self.bends = torch.empty(0, dtype=torch.int16)
            self.weights = bend_weights(*examples.shape[1:]).to(examples.inputs.device)

    def prepare(self, view: int) -> None:
        """Draw the transforms of every example for a view: once per epoch, not once per batch."""
        if view == self.view:
            return
        index, seed = self.examples.index, self.augmentation.view_seed
        if self.augmentation.whole_pixels:
            places = 2 * int(self.augmentation.shift) + 1
            self.corners = (uniform(index, seed=seed, view=view)[:, :2] * places).to(torch.int64)
        else:
            height, width = self.examples.shape[1:]
            self.matrices = affine_matrices(index, self.augmentation, view=view, size=(height, width))
            if self.augmentation.elastic:
                self.bends = small_integers(
                    index, seed=seed, view=view, draw=_BEND_FIRST_DRAW, count=2 * _BEND_POINTS**2
                )
        self.view = view

    def take(self, rows: Tensor) -> Tensor:
        """The prepared view of some examples, as a model sees them: float32 ``(n, C, H, W)`` in [0, 1]."""
        if self.augmentation.whole_pixels:
            corners = self.corners[rows]
            values = self.windows[rows, :, corners[:, 0], corners[:, 1]]
            return seen_values(values)
        # A bf16 teacher sees the same image as the student: views are always computed in float32.
        with torch.autocast(rows.device.type, enabled=False):
            seen = self.examples.as_seen(rows)
            assert isinstance(seen, Tensor), "images are one tensor"
            return draw_anew(seen, self.matrices[rows], self.bent(rows))

    def bent(self, rows: Tensor) -> Tensor | None:
        """The displacement field of the elastic deformation: rows and columns, in pixels, ``(n, 2, H, W)``."""
        if not self.augmentation.elastic:
            return None
        # Ten bits times eleven: each sum is exact in float32, so its order, and the size of the batch, do not count.
        amounts = self.bends[rows].to(torch.float32).sub_(511.5).mul_(2.0**-9)
        moved = amounts.view(2 * len(rows), -1) @ self.weights
        return moved.mul_(self.augmentation.elastic).view(len(rows), 2, *self.examples.shape[1:])


def affine_matrices(index: Tensor, augmentation: Augmentation, *, view: int, size: tuple[int, int]) -> Tensor:
    """The affine map from each view's pixels to its source, one matrix per example.

    The image is scaled, rotated, sheared and shifted about its centre, each by an amount drawn evenly: shift in
    pixels, rotation in degrees, shear as a share, scale evenly in its logarithm.

    Args:
        index: The examples' numbers, int64 ``(N,)``.
        augmentation: The augmentation and its seed.
        view: Which view.
        size: Height and width, pixels.

    Returns:
        Matrices in the coordinates of ``torch.nn.functional.affine_grid``, float32 ``(N, 2, 3)``.

    Example:
        >>> affine_matrices(torch.tensor([3]), Augmentation(), view=0, size=(8, 8)).abs().tolist()
        [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    seed = augmentation.view_seed
    first = uniform(index, seed=seed, view=view, draw=0).mul(2).sub(1)
    second = uniform(index, seed=seed, view=view, draw=1).mul(2).sub(1)
    height, width = size
    angle = first[:, 2] * math.radians(augmentation.rotate)
    stretch = torch.exp(first[:, 3] * math.log1p(augmentation.scale))
    shear = second[:, 0] * augmentation.shear
    cos, sin = torch.cos(angle) / stretch, torch.sin(angle) / stretch
    # In pixels the inverse map is scale^-1 * rotation^T * shear^-1; grid coordinates divide by half the size.
    down, right = first[:, 0] * augmentation.shift, first[:, 1] * augmentation.shift
    xx, xy = cos, sin - shear * cos
    yx, yy = -sin, cos + shear * sin
    x0 = -(xx * right + xy * down) * (2 / width)
    y0 = -(yx * right + yy * down) * (2 / height)
    rows = (
        torch.stack((xx, xy * (height / width), x0), -1),
        torch.stack((yx * (width / height), yy, y0), -1),
    )
    return torch.stack(rows, 1)


def bend_weights(height: int, width: int) -> Tensor:
    """The weight of each control point of an elastic deformation at each pixel: cubic B-splines, seven points per side.

    A random displacement of each point gives the elastic distortions of Simard, Steinkraus and Platt, `Best practices
    for convolutional neural networks <https://doi.org/10.1109/ICDAR.2003.1227801>`_, 2003, who draw one for each pixel
    and smooth them by a Gaussian.

    Args:
        height: Pixels.
        width: Pixels.

    Returns:
        Multiples of 2**-11 that sum to 1 at each pixel, within 1 %; float32 ``(49, height * width)``.

    Example:
        >>> bend_weights(28, 28).sum(0).sub(1).abs().max() < 0.01
        tensor(True)
    """

    def side(size: int) -> NDArray[np.float64]:
        place = (np.arange(size) + 0.5) * (_BEND_SPANS / size)
        distance = np.abs(place[:, None] - np.arange(-1, _BEND_SPANS + 2))
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = np.clip(2 - distance, 0, None) ** 3 / 6
        value: NDArray[np.float64] = np.where(distance < 1, near, far)
        return value

    weights = np.einsum("yi,xj->ijyx", side(height), side(width)).reshape(_BEND_POINTS**2, height * width)
    return torch.from_numpy((np.round(weights * 2048) / 2048).astype(np.float32))


def draw_anew(pictures: Tensor, matrices: Tensor, moved: Tensor | None = None) -> Tensor:
    """Resample images by bilinear interpolation, with zero padding.

    Args:
        pictures: Images, float32 ``(N, C, H, W)``.
        matrices: From :func:`affine_matrices`, ``(N, 2, 3)``.
        moved: The displacement field, in pixels, ``(N, 2, H, W)``; None for no elastic deformation.

    Returns:
        Images of the same shape.
    """
    grid = torch.nn.functional.affine_grid(matrices, list(pictures.shape), align_corners=False)
    if moved is not None:
        height, width = pictures.shape[2:]
        grid[..., 1].add_(moved[:, 0], alpha=2 / height)
        grid[..., 0].add_(moved[:, 1], alpha=2 / width)
    return torch.nn.functional.grid_sample(pictures, grid, align_corners=False)
