"""Random views of pictures, made in batches on the device and keyed to the example.

The k-th view of an example is a function of the seed, k and the example's number: the same picture on any batch size,
in any order and after a resume, so a teacher's answer to it can be stored and used again.

Axes: ``N`` examples, ``C`` channels, ``H`` and ``W`` pixels.
"""

__all__ = ["Views", "affine_matrices", "apply_affine"]

import math

import torch
from torch import Tensor

from limbeck.data.examples import Examples
from limbeck.errors import DataError
from limbeck.keyed import uniform
from limbeck.options import Augmentation


class Views:
    """Makes any view of any of its examples.

    Args:
        examples: Pictures ``(N, C, H, W)``, already on the device.
        augmentation: Which distortions, how strong, and their seed.

    Raises:
        DataError: If the examples are no pictures.

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
            raise DataError(f"only pictures can be shifted or turned, and an example has shape {examples.shape}")
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

    def prepare(self, view: int) -> None:
        """Draw the distortions of every example for a view: once an epoch, not once a batch."""
        if view == self.view:
            return
        index, seed = self.examples.index, self.augmentation.view_seed
        if self.augmentation.whole_pixels:
            places = 2 * int(self.augmentation.shift) + 1
            self.corners = (uniform(index, seed=seed, view=view)[:, :2] * places).to(torch.int64)
        else:
            height, width = self.examples.shape[1:]
            self.matrices = affine_matrices(index, self.augmentation, view=view, size=(height, width))
        self.view = view

    def take(self, rows: Tensor) -> Tensor:
        """The prepared view of some examples, as a model sees them: float32 ``(n, C, H, W)`` in [0, 1]."""
        if self.augmentation.whole_pixels:
            corners = self.corners[rows]
            values = self.windows[rows, :, corners[:, 0], corners[:, 1]]
            return values.to(torch.float32).mul_(1 / 255) if values.dtype == torch.uint8 else values
        return apply_affine(self.examples.as_seen(rows), self.matrices[rows])


def affine_matrices(index: Tensor, augmentation: Augmentation, *, view: int, size: tuple[int, int]) -> Tensor:
    """Where each pixel of a view comes from, as a matrix an example.

    The picture is scaled, turned, sheared and shifted about its centre, each by an amount drawn evenly: shift in
    pixels, rotation in degrees, shear as a share, scale evenly in its logarithm.

    Args:
        index: The examples' numbers, int64 ``(N,)``.
        augmentation: How strong, and the seed.
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


def apply_affine(pictures: Tensor, matrices: Tensor) -> Tensor:
    """Pictures drawn anew by bilinear interpolation, black outside.

    Args:
        pictures: float32 ``(N, C, H, W)``.
        matrices: As :func:`affine_matrices` gives them, ``(N, 2, 3)``.

    Returns:
        Pictures of the same shape.
    """
    grid = torch.nn.functional.affine_grid(matrices, list(pictures.shape), align_corners=False)
    return torch.nn.functional.grid_sample(pictures, grid, align_corners=False)
