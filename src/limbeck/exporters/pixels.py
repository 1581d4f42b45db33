"""A model of images with its normalisation inside: bytes in, probabilities out.

Axes: ``N`` images, ``C`` channels, ``H`` and ``W`` pixels, ``K`` classes.
"""

__all__ = ["FromPixels"]

import torch
from torch import Tensor, nn

from limbeck.models.calling import logits_of, two_of_one, weights_dtype
from limbeck.options import ImagePresentation


class FromPixels(nn.Module):
    r"""A model that takes the pixels of images, already of its size, and gives probabilities.

    .. math::
        p = \mathrm{softmax}\bigl(f((x / 255 - \mu) / \sigma)\bigr)

    Args:
        model: It takes normalised images; in evaluation mode.
        presentation: Whose mean and standard deviation are used; None for pixels on [0, 1].

    Example:
        >>> net = FromPixels(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), None)
        >>> (net(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)).sum(-1) - 1).abs() < 1e-6
        tensor([True, True, True])
    """

    input_name = "pixels"
    output_name = "probabilities"
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, presentation: ImagePresentation | None) -> None:
        super().__init__()
        self.model, self.dtype = model, weights_dtype(model)
        shown = presentation or ImagePresentation.plain(1, channels=1)
        self.register_buffer("mean", torch.tensor(shown.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(shown.std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Probabilities ``(N, K)`` of uint8 ``(N, C, H, W)``."""
        seen = (pixels.float() * (1 / 255) - self.mean) / self.std
        logits = logits_of(self.model(seen if self.dtype is None else seen.to(self.dtype)))
        return two_of_one(logits, pixels.shape[0]).float().softmax(-1)
