"""The layers of a network as matrices, and their inputs as rows.

A convolution with a ``h x w`` kernel is the matrix ``(outputs, channels * h * w)`` applied to every patch of the image.
Of rank ``k`` it becomes a ``h x w`` convolution to ``k`` channels and a ``1 x 1`` convolution from these.
"""

__all__ = ["Matrix", "find_layers", "gradient_rows", "input_rows", "model_digest", "model_size"]

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.models import Factored, count_parameters
from limbeck.system.devices import widest
from limbeck.system.files import digest_bytes


@dataclass(frozen=True, eq=False)
class Matrix:
    """A layer that is a matrix.

    Attributes:
        name: Its name in the network, as ``named_modules`` has it; the first where it has several.
        module: The layer.
        reason: Why it must stay whole, or None.
    """

    name: str
    module: nn.Linear | nn.Conv2d
    reason: str | None

    @property
    def kind(self) -> str:
        """``"linear"`` or ``"conv"``."""
        return "linear" if isinstance(self.module, nn.Linear) else "conv"

    def weight(self) -> NDArray[np.float64]:
        """The weights as a matrix, outputs by inputs, in float64.

        Returns:
            ``(M, N)``.

        Raises:
            DataError: If one is NaN or infinite.
        """
        weight: NDArray[np.float64] = (
            self.module.weight.detach().cpu().to(widest("cpu")).flatten(1).numpy().astype(np.float64)
        )
        if not np.isfinite(weight).all():
            row, column = np.argwhere(~np.isfinite(weight))[0].tolist()
            raise DataError(
                f"layer {self.name or '(the whole network)'} holds NaN or infinite weights, the first in row {row}, "
                f"column {column} of its matrix: it cannot be made smaller"
            )
        return weight


def find_layers(model: nn.Module) -> list[Matrix]:
    """The linear layers and two-dimensional convolutions of a network, each once, in order.

    Only these two classes themselves count: a class derived from them, such as the output of PyTorch's attention, may
    be used by its weights and not by a call, and is left alone.

    Args:
        model: Any module.

    Returns:
        The layers.

    Raises:
        DataError: If there is none.

    Example:
        >>> [layer.name for layer in find_layers(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))]
        ['0', '2']
    """
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    halves = {id(half) for module in model.modules() if isinstance(module, Factored) for half in module}
    found = []
    for name, module in model.named_modules():
        if type(module) is nn.Linear or type(module) is nn.Conv2d:
            reason = None
            if id(module) in halves:
                reason = "it belongs to a layer of low rank already"
            elif owners[id(module.weight)] > 1:
                reason = "its weights are shared with another layer"
            elif isinstance(module, nn.Conv2d) and module.groups > 1:
                reason = f"a convolution in {module.groups} groups"
            found.append(Matrix(name, module, reason))
    if not found:
        raise DataError(
            f"{type(model).__name__} has no linear layer and no two-dimensional convolution: there is nothing to "
            "make smaller"
        )
    return found


def input_rows(module: nn.Linear | nn.Conv2d, inputs: Tensor) -> Tensor:
    """The inputs of the layer's matrix as rows: examples, or patches of images.

    Args:
        module: The layer.
        inputs: Its input, ``(..., N)`` or ``(B, C, H, W)``.

    Returns:
        Rows ``(rows, N)``.
    """
    if isinstance(module, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1])
    pictures = inputs if inputs.ndim == 4 else inputs.unsqueeze(0)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = nn.functional.pad(pictures, module._reversed_padding_repeated_twice, mode=mode)
    patches = nn.functional.unfold(padded, _pair(module.kernel_size), _pair(module.dilation), 0, _pair(module.stride))
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def gradient_rows(module: nn.Linear | nn.Conv2d, gradient: Tensor) -> Tensor:
    """A gradient at the layer's outputs as rows ``(rows, M)``, in the order of :func:`input_rows`."""
    if isinstance(module, nn.Conv2d):
        gradient = (gradient if gradient.ndim == 4 else gradient.unsqueeze(0)).movedim(1, -1)
    return gradient.reshape(-1, gradient.shape[-1])


def model_size(model: nn.Module) -> tuple[int, int]:
    """Parameters of a network, and bytes of all it saves, buffers included."""
    values = model.state_dict().values()
    return count_parameters(model), sum(v.numel() * v.element_size() for v in values)


def model_digest(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all that a network saves.

    Args:
        model: Any module.

    Returns:
        The digest in hexadecimal.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = model_digest(layer)
        >>> with torch.no_grad(): _ = layer.bias.add_(1)
        >>> model_digest(layer) == before
        False
    """
    pieces: list[bytes | memoryview] = []
    for name, value in sorted(model.state_dict().items()):
        flat = value.detach().cpu().contiguous().reshape(-1)
        pieces.append(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        pieces.append(memoryview(flat.view(torch.uint8).numpy()))
    return digest_bytes(pieces)
