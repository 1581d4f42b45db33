r"""Synchronised batch normalisation over processes: statistics of the whole batch, on CPU and GPU.

``torch.nn.SyncBatchNorm`` does so on GPUs alone, and replaces PyTorch's own layers, so that a subclass such as
timm's, which has an activation in it, would lose what it adds. Here no layer is replaced: each call of
:func:`torch.nn.functional.batch_norm` is intercepted while :func:`over_all` is active, on CPUs and GPUs, and the saved
model is the given one.

Axes: ``N`` rows of this process, ``C`` channels.
"""

__all__ = ["has_batch_norm", "over_all", "refuse_unshared"]

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limbeck.errors import ConfigError
from limbeck.system.processes import World

_BatchNorm = nn.modules.batchnorm._BatchNorm


@contextmanager
def over_all(world: World, *, own: int) -> Iterator[None]:
    r"""Let batch normalisation take its mean and variance over the rows of all processes.

    With the sums over all rows of all processes

    .. math::
        \mu_c = \frac{1}{n} \sum x_c, \qquad \sigma_c^2 = \frac{1}{n} \sum (x_c - \mu_c)^2

    running statistics are updated with :math:`\mu` and :math:`\sigma^2 n / (n - 1)`, in every process alike. The
    gradient goes through both sums: what each process's loss says of them is added up over all. All processes must
    call the same layers in the same order, forward and backward within this.

    Args:
        world: This process among those of the run; a single process changes nothing.
        own: How many rows of the batch this process has; 0 where it computes with a row that is not its own, which
            then counts in no statistic.

    Yields:
        None.

    References:
        Ioffe and Szegedy, `Batch normalization: accelerating deep network training by reducing internal covariate shift
        <https://arxiv.org/abs/1502.03167>`_, 2015.

    Example:
        >>> layer = nn.BatchNorm1d(2)
        >>> with over_all(World(0, 1, torch.device("cpu")), own=4):
        ...     layer(torch.rand(4, 2)).shape
        torch.Size([4, 2])
    """
    if world.size == 1:
        yield
        return
    with _OverAll(world, counted=own > 0):
        yield


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a model normalises by the statistics of a batch.

    Args:
        model: Any module.

    Returns:
        Whether one of its layers does.

    Example:
        >>> has_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
        True
    """
    return any(isinstance(part, _BatchNorm) or hasattr(part, "running_mean") for part in model.modules())


def refuse_unshared(model: nn.Module) -> None:
    """Refuse normalisation layers that cannot be synchronised.

    Args:
        model: What is to be trained in several processes.

    Raises:
        ConfigError: If a layer keeps no running statistics, so that its validation depends on how examples are
            divided, or it is compiled by TorchScript, whose calls cannot be answered otherwise.
    """
    for name, part in model.named_modules():
        scripted = isinstance(part, torch.jit.ScriptModule) and hasattr(part, "running_mean")
        if scripted:
            raise ConfigError(
                f"{name or 'the model'} is batch normalisation compiled by TorchScript, which takes its means over the "
                "part of a batch that one process has: train it in one process, or as the module that it was made of"
            )
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise ConfigError(
                f"{name or 'the model'} is batch normalisation without running statistics, whose answers depend on the "
                "examples beside: train it in one process, or with track_running_stats=True"
            )


class _OverAll(TorchFunctionMode):
    """Intercepts batch-normalisation calls that use batch statistics."""

    def __init__(self, world: World, *, counted: bool) -> None:
        super().__init__()
        self.world, self.counted = world, counted

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, or its replacement."""
        given = dict(kwargs or {})
        names = _CALLS.get(func)
        if names is not None:
            called = {**dict(zip(names, args, strict=False)), **given}
            if called.get("training", False):
                called.pop("cudnn_enabled", None)
                return self._normalised(**called)
        return func(*args, **given)

    def _normalised(
        self,
        input: Tensor,
        running_mean: Tensor | None = None,
        running_var: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            x = input.float() if input.dtype in {torch.float16, torch.bfloat16} else input
            counted = x if self.counted else x[:0]
            over = [axis for axis in range(x.ndim) if axis != 1]
            shape = [1, -1, *[1] * (x.ndim - 2)]
            count = x.new_full((1,), counted.numel() // x.shape[1])
            sums = _add_up(torch.cat([counted.sum(over), count]), self.world)
            total = sums[-1].detach()
            mean = sums[:-1] / total
            centred = x - mean.view(shape)
            squares = (centred if self.counted else centred[:0]).square().sum(over)
            variance = _add_up(squares, self.world) / total
            result = centred * torch.rsqrt(variance + eps).view(shape)
            if weight is not None:
                result = result * weight.to(x.dtype).view(shape)
            if bias is not None:
                result = result + bias.to(x.dtype).view(shape)
            with torch.no_grad():
                _follow(running_mean, mean, momentum)
                _follow(running_var, variance * (total / (total - 1).clamp(min=1)), momentum)
        return result.to(input.dtype)


_CALLS = {
    nn.functional.batch_norm: tuple(inspect.signature(nn.functional.batch_norm).parameters),
    torch.batch_norm: (
        "input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn_enabled",
    ),
}  # fmt: skip
"""Functions that normalise, and the names of their arguments in order."""


def _follow(running: Tensor | None, found: Tensor, momentum: float) -> None:
    if running is not None:
        running.mul_(1 - momentum).add_(found.to(running.dtype), alpha=momentum)


class _AddUp(torch.autograd.Function):
    """The sum over all processes. Each has its own part of the loss, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, world: World) -> Tensor:
        """Add up."""
        ctx.world = world
        total = values.clone()
        world.add_up([total])
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Sum the gradients over processes."""
        total = gradient.clone()
        ctx.world.add_up([total])
        return total, None


def _add_up(values: Tensor, world: World) -> Tensor:
    total: Tensor = _AddUp.apply(values, world)  # type: ignore[no-untyped-call]
    return total
