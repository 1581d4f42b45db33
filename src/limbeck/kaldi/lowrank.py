"""Low rank for Kaldi nnet1 networks: each large matrix becomes a ``<LinearTransform>`` and an ``<AffineTransform>``.

Layers are found by their components, so any number of them and any activations between them will do. What stands
between the matrices is carried over as it is. Ranks are chosen by :mod:`limbeck.lowrank`, on a torch module of the same
layers, whose names are the components' numbers.
"""

__all__ = ["as_module", "calibration_frames", "choose_ranks", "compress_nnet", "name_of"]

from collections import OrderedDict
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.formats.opened import Table
from limbeck.kaldi.forward import propagate, without_softmax
from limbeck.lowrank import Metric, Placement, RankPlan, Spectrum, check_plan, look, metric_for, most_for, plan_by_rule
from limbeck.lowrank.act import replacement
from limbeck.lowrank.layers import find_layers
from limbeck.options import RankRule

_MOST_FRAMES = 500_000


class _Component(nn.Module):
    """A component without a matrix."""

    def __init__(self, part: nc.Component) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        run = _RUN.get(type(self.part))
        if run is None:
            raise DataError(f"calibration cannot pass a <{self.part.tag}>: plan without features")
        return run(self.part, x)


_RUN: dict[type[nc.Component], Callable[[Any, Tensor], Tensor]] = {
    nc.Sigmoid: lambda part, x: x.sigmoid(),
    nc.Tanh: lambda part, x: x.tanh(),
    nc.Relu: lambda part, x: x.relu(),
    nc.Linear: lambda part, x: x,
    nc.Dropout: lambda part, x: x,
    nc.Softmax: lambda part, x: x.softmax(-1),
    nc.HiddenSoftmax: lambda part, x: x.softmax(-1),
    nc.LengthNormComponent: lambda part, x: nn.functional.normalize(x, dim=-1),
    nc.ParametricRelu: lambda part, x: torch.where(x > 0, _tensor(part.alpha) * x, _tensor(part.beta) * x),
    nc.Maxout: lambda part, x: x.reshape(len(x), part.outputs, -1).amax(-1),
    nc.Copy: lambda part, x: x[:, list(part.indices)],
    nc.AddShift: lambda part, x: x + _tensor(part.values),
    nc.Rescale: lambda part, x: x * _tensor(part.values),
}


def _tensor(values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(values))


def name_of(place: int) -> str:
    """What the layer of a component is called in plans: the component's number, from 0."""
    return str(place)


def as_module(nnet: Nnet) -> nn.Sequential:
    """The network as a torch module that gives scores before the last softmax.

    Affine and linear transforms are linear layers. Other components are run where frames are passed through; a
    ``<Splice>`` cannot be, for it needs whole utterances.

    Args:
        nnet: The network.

    Returns:
        The module, in evaluation mode; its layers are named by :func:`name_of`.

    Example:
        >>> weight, bias = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
        >>> as_module(Nnet((nc.AffineTransform(weight, bias), nc.Softmax(2))))(torch.ones(1, 3)).tolist()
        [[3.0, 3.0]]
    """
    parts: list[tuple[str, nn.Module]] = []
    for place, part in enumerate(without_softmax(nnet).components):
        if isinstance(part, nc.AffineTransform | nc.LinearTransform):
            bias = part.bias if isinstance(part, nc.AffineTransform) else None
            layer = nn.Linear(part.input_dim, part.output_dim, bias=bias is not None, device="meta").to_empty(
                device="cpu"
            )
            with torch.no_grad():
                layer.weight.copy_(_tensor(part.weight))
                if bias is not None:
                    layer.bias.copy_(_tensor(bias))
            parts.append((name_of(place), layer))
        else:
            parts.append((name_of(place), _Component(part)))
    return nn.Sequential(OrderedDict(parts)).eval()


def calibration_frames(
    path: str | PathLike[str],
    nnet: Nnet,
    *,
    transform: Nnet | None = None,
    count: int = 2000,
    seed: int = 0,
    allow_pipes: bool = False,
) -> Tensor:
    """Frames of an archive, as the network sees them.

    Args:
        path: An archive or script file of feature matrices, text or binary, or a specifier.
        nnet: The network.
        transform: A network to pass each utterance through first, such as a splice; or None.
        count: How many frames, drawn by the seed from the first half million.
        seed: Of the choice.
        allow_pipes: Run commands of a specifier or a script file, in a shell.

    Returns:
        float32 ``(N, inputs)``, ``N`` at most ``count``.

    Raises:
        DataError: If there is no frame.
        FormatError: If the archive is malformed.
        MismatchError: If the frames have another dimension than the network's inputs.
    """  # noqa: DOC502
    found: list[NDArray[np.float32]] = []
    total = 0
    for key, frames in Table(path, allow_pipes=allow_pipes).read():
        seen = frames if transform is None else propagate(transform, frames)
        if seen.shape[1] != nnet.input_dim:
            raise MismatchError(
                f"{path}: utterance {key} has frames of {seen.shape[1]} values, and the network has {nnet.input_dim} "
                "inputs: is a feature transform missing?"
            )
        found.append(seen)
        total += len(seen)
        if total >= _MOST_FRAMES:
            break
    if not total:
        raise DataError(f"{path} holds no frame to calibrate with")
    rows = np.random.default_rng(seed).permutation(total)[:count]
    return torch.from_numpy(np.ascontiguousarray(np.concatenate(found)[rows], np.float32))


def choose_ranks(
    module: nn.Module,
    rule: RankRule,
    frames: Tensor | None = None,
    *,
    metric: Metric | None = None,
    placement: Placement = "input",
) -> tuple[RankPlan, Spectrum]:
    """Look at a network, and decide the ranks.

    Args:
        module: What :func:`as_module` made of it.
        rule: The rank rule.
        frames: Frames to calibrate with, as the network sees them, or None to count errors of weights alone.
        metric: See :func:`limbeck.lowrank.look`; None: that which suits the rule.
        placement: Where the singular values go.

    Returns:
        The plan, and what it was made from.

    Raises:
        ConfigError: If the rule asks for what is impossible, or a metric for frames that are not given.
        DataError: If there is no matrix, or values are not finite.
    """  # noqa: DOC502
    if metric not in (None, "weights") and frames is None:
        raise ConfigError(f"metric {metric} looks at data: give frames with --features")
    chosen = metric or ("weights" if frames is None else metric_for(rule))
    spectrum = look(module, None if chosen == "weights" else frames, metric=chosen, most=most_for(rule))
    return plan_by_rule(spectrum, rule, placement=placement), spectrum


def compress_nnet(nnet: Nnet, plan: RankPlan, spectrum: Spectrum | None = None) -> Nnet:
    """Make the network that a plan describes.

    A first half is a ``<LinearTransform>``. A second half is an ``<AffineTransform>`` with the old bias, or where the
    layer had none another ``<LinearTransform>``. Factors of learning rates are carried over; a limit on norms is not,
    for it would hold the second half alone.

    Args:
        nnet: The network that the plan was made for, by :func:`as_module`.
        plan: The ranks.
        spectrum: What the plan was made from, where it counts errors on calibration data.

    Returns:
        A new network.

    Raises:
        MismatchError: If plan or spectrum belong to another network.
        ConfigError: If the plan needs its spectrum.

    Example:
        >>> from limbeck.lowrank import look, plan_ranks
        >>> weight = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
        >>> nnet = Nnet((nc.AffineTransform(weight, np.zeros(30, np.float32)), nc.Sigmoid(30)))
        >>> print(compress_nnet(nnet, plan_ranks(look(as_module(nnet)), rank=5)))
         # component         inputs  outputs  parameters
         0 LinearTransform       40        5         200
         1 AffineTransform        5       30         180
         2 Sigmoid               30       30           0
                                                     380
    """  # noqa: DOC502
    module = as_module(nnet)
    seen = check_plan(plan, module, spectrum)
    layers = {layer.name: layer for layer in find_layers(module)}
    parts: list[nc.Component] = []
    for place, part in enumerate(nnet.components):
        rank = plan.ranks.get(name_of(place))
        if rank is None:
            parts.append(part)
            continue
        assert isinstance(part, nc.AffineTransform | nc.LinearTransform)
        (first, second), bias = replacement(layers[name_of(place)], rank, plan.placement, seen.get(name_of(place)))
        parts.append(nc.LinearTransform(first.astype(np.float32), part.learn_rate))
        if isinstance(part, nc.AffineTransform):
            assert bias is not None
            rates = part.learn_rate, part.bias_learn_rate
            parts.append(nc.AffineTransform(second.astype(np.float32), bias.astype(np.float32), *rates))
        else:
            parts.append(nc.LinearTransform(second.astype(np.float32), part.learn_rate))
    return Nnet(tuple(parts))
