r"""Dynamic quantisation: linear layers with 8-bit weights, and inputs quantised to 7 bits at run time.

A row of weights :math:`w` is kept as integers :math:`q \in [-127, 127]` and one scale, :math:`w \approx s q` with
:math:`s = \max |w| / 127`. Each example's inputs :math:`x` get a step and a zero point of their own, out of their least
and greatest value and zero:

.. math::
    d = \frac{\max(x, 0) - \min(x, 0)}{127}, \qquad z = \mathrm{round}\Bigl(\frac{\min(x, 0)}{d}\Bigr), \qquad
    x \approx d \, (u + z), \qquad u = \mathrm{round}(x / d - z) \in [0, 128]

so that an example's output is bitwise the same in any batch. The product of the integers is exact, and is scaled back
to float32.

On x86 processors the product is PyTorch's own kernel; elsewhere, accelerators included, it is made of float32 products
over at most 1,024 inputs at a time, which are exact as well: :math:`1024 \cdot 128 \cdot 127 < 2^{24}`. What is saved
is the integers, the scales and the bias as plain tensors, so that a file needs no pickle and outlives the kernel.
"""

__all__ = ["Int8Linear", "Int8Portable", "count_parameters", "has_int8", "to_int8"]

import warnings
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.models.copying import copy_module
from limbeck.models.fused import take_off_fused
from limbeck.models.transposed import carry_mark

_LARGEST = 127
_EXACT = 1024
"""Products of 8-bit weights and 7-bit inputs that float32 adds up exactly, in any order."""
_SMALLEST = 1e-30
"""The least range of an example's inputs: below it they are rounded to zero."""


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
        self.register_buffer("scale", torch.ones(out_features, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(out_features, dtype=torch.float32) if bias else None)
        self._held: _Held | None = None
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

    @torch.no_grad()
    def widened(self) -> nn.Linear:
        """The linear layer of the weights that these bytes stand for, float32."""
        layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        layer.weight.copy_(self.weight.float() * self.scale[:, None])
        if self.bias is not None:
            layer.bias.copy_(self.bias)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(..., M)`` of inputs ``(..., N)``, in float32; each row's are the same bits in any batch.

        Args:
            x: Inputs; a row with NaN or an infinite value gets NaN.

        Returns:
            The outputs.
        """
        x = x.detach().float()
        low, high = x.amin(-1, keepdim=True).clamp_max_(0), x.amax(-1, keepdim=True).clamp_min_(0)
        step = (high - low).clamp_min_(_SMALLEST).div_(_LARGEST)
        step += 0 * step  # NaN where it is infinite: a ReLU behind would turn -inf into an answer
        zero = (low / step).round_()
        # One rounding a step: a fused multiplication and addition would round a row by its place in a batch.
        rounded = (x / step).sub_(zero)
        if self._held is None or self._held.device != x.device:
            self._held = _Held(self, x.device)
        outputs = self._held.product(rounded).add_(zero * self._held.row_sums).mul_(step)
        return outputs if self.bias is None else outputs.add_(self.bias.float())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}

    def extra_repr(self) -> str:
        """The sizes, for printing."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _Held:
    """What a layer's products need beside its state: its weights as a device multiplies them, made once.

    Args:
        layer: The layer.
        device: Where its inputs are.

    Attributes:
        row_sums: The sum of each row of the rounded weights, float32 ``(M,)``.
    """

    def __init__(self, layer: Int8Linear, device: torch.device) -> None:
        self.device, self.scale = device, layer.scale.float()
        self.row_sums = layer.weight.sum(1, dtype=torch.int32).float() * self.scale
        self.packed = _pack(layer) if device.type == "cpu" else None
        self.blocks = (
            [] if self.packed is not None else [block.float().T for block in torch.split(layer.weight, _EXACT, 1)]
        )

    def product(self, rounded: Tensor) -> Tensor:
        """Products ``(..., M)`` of the weights and of inputs that are rounded to integers from 0 to 128 here."""
        if self.packed is not None:
            result: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
                rounded, 1.0, 0, self.packed
            )
            return result
        with torch.autocast(self.device.type, enabled=False):
            parts = torch.split(rounded.round_(), _EXACT, -1)
            total = sum((part @ block).to(torch.int32) for part, block in zip(parts, self.blocks, strict=True))
        assert isinstance(total, Tensor), "a layer has inputs"
        return total.float().mul_(self.scale)


class Int8Portable(nn.Module):
    """An :class:`Int8Linear` in operations that every runtime has, for exported programs; its weights stay 8 bits wide.

    Args:
        layer: Its weights are taken.

    Example:
        >>> layer, x = Int8Linear.of(nn.Linear(3, 2)), torch.randn(4, 3)
        >>> torch.allclose(Int8Portable(layer)(x), layer(x), atol=1e-6)
        True
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: Int8Linear) -> None:
        super().__init__()
        for name in ("weight", "scale", "bias"):
            self.register_buffer(name, getattr(layer, name))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(..., M)`` of inputs ``(..., N)``, in float32; in float64 where the inputs are."""
        x = x if x.dtype == torch.float64 else x.float()
        low, high = x.amin(-1, keepdim=True).clamp_max(0), x.amax(-1, keepdim=True).clamp_min(0)
        step = (high - low).clamp_min(_SMALLEST) / _LARGEST
        zero = (low / step).round()
        rounded = (x / step - zero).round() + zero
        # Whole numbers, whose products over 1,024 inputs are exact in float32.
        pieces = zip(torch.split(rounded, _EXACT, -1), torch.split(self.weight, _EXACT, 1), strict=True)
        total = torch.stack([part @ block.to(x.dtype).T for part, block in pieces]).sum(0)
        outputs = total * self.scale * step
        return outputs if self.bias is None else outputs + self.bias


def _pack(layer: Int8Linear) -> Any:
    # PyTorch's kernels for other processors cannot be told the range of the inputs.
    engines = torch.backends.quantized
    if "fbgemm" not in engines.supported_engines or not hasattr(
        torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32"
    ):
        return None
    try:
        scale = layer.scale.double()
    except TypeError:  # as where float64 is refused; the kernel takes no other
        return None
    before = engines.engine
    try:
        engines.engine = "fbgemm"
        with warnings.catch_warnings():
            # The type of the kernel's argument is deprecated in PyTorch 2.13, with nothing as quick to replace it.
            warnings.filterwarnings("ignore", message="(?s).*quantized tensor creation functions", category=UserWarning)
            weight = torch._make_per_channel_quantized_tensor(
                layer.weight.contiguous(), scale, torch.zeros_like(scale, dtype=torch.int64), 0
            )
        # Without the bias, which is added once the rows are scaled back.
        return torch.ops.quantized.linear_prepack(weight, None)
    finally:
        engines.engine = before


def _forget(module: nn.Module, _: object) -> None:
    module._held = None  # type: ignore[assignment]


def to_int8(
    model: nn.Module, *, round_weights: bool = True, whole: Collection[str] = (), only: Collection[str] | None = None
) -> nn.Module:
    """A copy of a network whose linear layers, and only these, have 8-bit weights.

    Only the class ``torch.nn.Linear`` itself counts: what derives from it may be used by its weights and not by a call.

    Args:
        model: The network; it is left as it was.
        round_weights: Whether the layers get its weights; otherwise they wait for saved ones.
        whole: Names of layers that stay as they are, see :func:`~limbeck.models.replaceable.whole_layers`.
        only: Names of the layers that are changed; None for all the others.

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
    new = copy_module(model, what="network").cpu().float().eval()  # its 8-bit layers give float32
    made: dict[int, Int8Linear] = {}
    for name, module in list(new.named_modules()):
        if type(module) is nn.Linear and name not in whole and (only is None or name in only):
            try:
                made[id(module)] = (
                    Int8Linear.of(module)
                    if round_weights
                    else Int8Linear(module.in_features, module.out_features, bias=module.bias is not None)
                )
                carry_mark(module, made[id(module)])
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
    take_off_fused(new)
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
