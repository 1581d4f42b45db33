r"""Linear layers with 8-bit weights, whose inputs are rounded to 8 bits as they come: dynamic quantisation.

A row of weights :math:`w` is kept as integers :math:`q \in [-127, 127]` and one scale, :math:`w \approx s q` with
:math:`s = \max |w| / 127`. The inputs of a batch get one scale and one zero point out of their least and greatest
value. The product of the integers is exact, and is scaled back to float32.

The arithmetic is PyTorch's own kernel, ``quantized::linear_dynamic``. What is saved is the integers, the scales and the
bias as plain tensors, so that a file needs no pickle and outlives the kernel.
"""

__all__ = ["Int8Linear", "count_parameters", "has_int8", "to_int8"]

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import DataError

_LARGEST = 127


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights, for answers on a processor; it cannot be trained.

    Args:
        in_features: Inputs.
        out_features: Outputs.
        bias: Whether there is one.

    Example:
        >>> layer = Int8Linear.of(nn.Linear(3, 2))
        >>> layer.weight.dtype, layer(torch.ones(1, 3)).shape
        (torch.int8, torch.Size([1, 2]))
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)
        self._packed: Any = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    @classmethod
    @torch.no_grad()
    def of(cls, layer: nn.Linear) -> "Int8Linear":
        """Round a layer's weights.

        Args:
            layer: It is left as it was.

        Returns:
            The new layer, on the CPU.

        Raises:
            DataError: If a weight is NaN or infinite.
        """
        new = cls(layer.in_features, layer.out_features, bias=layer.bias is not None)
        weight = layer.weight.detach().cpu().float()
        if not bool(weight.isfinite().all()):
            raise DataError("a linear layer holds NaN or infinite weights: it cannot be rounded to 8 bits")
        # A row of zeros keeps the scale 1.
        largest = weight.abs().amax(1)
        new.scale.copy_(torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest)))
        new.weight.copy_((weight / new.scale[:, None]).round().clamp(-_LARGEST, _LARGEST))
        if new.bias is not None:
            new.bias.copy_(layer.bias.detach())
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(..., M)`` of inputs ``(..., N)``, in float32."""
        if self._packed is None:
            self._packed = self._pack()
        # The inputs get 7 bits: with 8, sums of pairs overflow on processors without VNNI.
        result: Tensor = torch.ops.quantized.linear_dynamic(x.float(), self._packed, True)
        return result

    def _pack(self) -> Any:
        scale, bias = self.scale.double(), None if self.bias is None else self.bias.float()
        with warnings.catch_warnings():
            # The type of the kernel's argument is deprecated in PyTorch 2.13, with nothing as quick to replace it.
            warnings.filterwarnings("ignore", message="(?s).*quantized tensor creation functions", category=UserWarning)
            weight = torch._make_per_channel_quantized_tensor(
                self.weight.contiguous(), scale, torch.zeros_like(scale, dtype=torch.int64), 0
            )
        return torch.ops.quantized.linear_prepack(weight, bias)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def extra_repr(self) -> str:
        """The sizes, for printing."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def _forget(module: nn.Module, _: object) -> None:
    module._packed = None  # type: ignore[assignment]


def to_int8(model: nn.Module, *, round_weights: bool = True) -> nn.Module:
    """A copy of a network whose linear layers, and only these, have 8-bit weights.

    Only the class ``torch.nn.Linear`` itself counts: what derives from it may be used by its weights and not by a call.

    Args:
        model: The network; it is left as it was.
        round_weights: Whether the layers get its weights; otherwise they wait for saved ones.

    Returns:
        The new network, in evaluation mode on the CPU.

    Raises:
        DataError: If there is no linear layer with float weights, or a weight is not finite.

    Example:
        >>> to_int8(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
        Sequential(
          (0): Int8Linear(in_features=3, out_features=2, bias=True)
          (1): ReLU()
        )
    """
    new = copy.deepcopy(model).cpu().eval()
    made: dict[int, Int8Linear] = {}
    for name, module in list(new.named_modules()):
        if type(module) is nn.Linear:
            try:
                made[id(module)] = (
                    Int8Linear.of(module)
                    if round_weights
                    else Int8Linear(module.in_features, module.out_features, bias=module.bias is not None)
                )
            except DataError as error:
                raise DataError(f"layer {name or '(the whole network)'}: {error}") from error
    if not made:
        raise DataError(f"{type(model).__name__} has no linear layer with float weights: there is nothing to round")
    if id(new) in made:
        return made[id(new)]
    for parent in list(new.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in made:
                setattr(parent, name, made[id(child)])
    return new


def has_int8(model: nn.Module) -> bool:
    """Whether a network has linear layers with 8-bit weights."""
    return any(isinstance(module, Int8Linear) for module in model.modules())


def count_parameters(model: nn.Module) -> int:
    """Weights and biases of a network, those of 8 bits included.

    Args:
        model: Any module.

    Returns:
        The count; scales are none.

    Example:
        >>> count_parameters(nn.Linear(3, 2)), count_parameters(to_int8(nn.Linear(3, 2)))
        (8, 8)
    """
    count = sum(parameter.numel() for parameter in model.parameters())
    for module in model.modules():
        if isinstance(module, Int8Linear):
            count += module.weight.numel() + (0 if module.bias is None else module.bias.numel())
    return count
