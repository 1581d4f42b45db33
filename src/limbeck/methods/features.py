r"""The base class of feature methods: which layers they read, and how layers are paired.

Axes: ``N`` examples, ``C`` channels or hidden units, ``H`` and ``W`` of a feature map, ``L`` positions of a sequence.
"""

__all__ = ["FeatureMethod", "as_map", "averaged", "pooled_to", "scaled", "spread_average", "spread_back", "unrounded"]

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.losses import widened
from limbeck.methods.base import Method
from limbeck.protocols import Batch, Output


class FeatureMethod(Method):
    """A feature method: pairs of student and teacher layers.

    A subclass has the options ``student_layers`` and ``teacher_layers``: names separated by commas; by default
    :func:`choose` selects them from the networks' stages.
    """

    reads_features = True
    reads_logits = False
    student_layers: str = ""
    teacher_layers: str = ""

    def choose(self, stages: list[str], others: list[str]) -> tuple[list[str], list[str]]:
        """Choose the paired stages where no layers are named: by default the last of each, as many as both have.

        Args:
            stages: Stages of the student, in order.
            others: Stages of the teacher.

        Returns:
            Names of the student's layers and of the teacher's, as many of each.
        """
        count = min(len(stages), len(others))
        return stages[len(stages) - count :], others[len(others) - count :]

    def find_taps(self, stages: list[str], others: list[str]) -> None:
        """Choose the layers to read.

        Args:
            stages: Stages of the student.
            others: Stages of the teacher.

        Raises:
            ConfigError: If one side is named and the other is not, they are not as many, or none is found.
        """
        named = [[name.strip() for name in text.split(",") if name.strip()] for text in self._named()]
        if bool(named[0]) != bool(named[1]):
            raise ConfigError(f"method {self.name} pairs layers: give student_layers and teacher_layers, or neither")
        mine, theirs = named if named[0] else self.choose(stages, others)
        if len(mine) != len(theirs) or not mine:
            raise ConfigError(
                f"method {self.name} pairs {len(mine)} layers of the student with {len(theirs)} of the teacher: name "
                "as many of each with student_layers and teacher_layers (limbeck taps lists them)"
            )
        self.student_taps, self.teacher_taps = tuple(mine), tuple(theirs)

    def _named(self) -> tuple[str, str]:
        return self.student_layers, self.teacher_layers

    def pairs(self, student: Output, teacher: Output) -> list[tuple[Tensor, Tensor]]:
        """The features of each pair of layers, in float32 at least."""
        names = zip(self.student_taps, self.teacher_taps, strict=True)
        return [(widened(student.features[mine]), widened(teacher.features[theirs])) for mine, theirs in names]

    def known_gradient(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """No gradient by the logits."""
        return None


def as_map(features: Tensor) -> Tensor:
    """Features as ``(N, C, positions)``: of a map its pixels, of a sequence its positions, of a vector one.

    Args:
        features: ``(N, C, H, W)``, ``(N, L, C)`` or ``(N, C)``.

    Returns:
        The same numbers.

    Raises:
        ConfigError: If they are none of these.

    Example:
        >>> [tuple(as_map(torch.zeros(shape)).shape) for shape in ((2, 3, 4, 4), (2, 5, 3), (2, 3))]
        [(2, 3, 16), (2, 3, 5), (2, 3, 1)]
    """
    if features.ndim == 4:
        return features.flatten(2)
    if features.ndim == 3:
        return features.transpose(1, 2)
    if features.ndim == 2:
        return features.unsqueeze(2)
    raise ConfigError(
        f"features of shape {tuple(features.shape)} are not maps, sequences or vectors: name other layers"
    )


def pooled_to(features: Tensor, other: Tensor) -> Tensor:
    """A feature map averaged to the size of a smaller one; other features as they are.

    Args:
        features: Any.
        other: Those that they are compared with.

    Returns:
        The features.
    """
    if features.ndim != 4 or other.ndim != 4 or features.shape[2:] == other.shape[2:]:
        return features
    if features.shape[2] < other.shape[2] or features.shape[3] < other.shape[3]:
        return features
    return torch.nn.functional.adaptive_avg_pool2d(features, (other.shape[2], other.shape[3]))


def spread_back(slope: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """A gradient by what :func:`as_map` of :func:`pooled_to` gives as one by the features themselves.

    Args:
        slope: ``(N, C, P)``.
        s: The features.
        t: What they are compared with.

    Returns:
        The gradient, of the shape of ``s``.
    """
    if s.ndim == 3:
        return slope.transpose(1, 2)
    if s.ndim == 2:
        return slope.squeeze(2)
    small = pooled_to(s, t).shape[2:]
    shaped = slope.reshape(*slope.shape[:2], *small)
    if tuple(s.shape[2:]) == tuple(small):
        return shaped
    # Each mean is over the same pixels as adaptive pooling takes: from floor(i H / h) to ceil((i + 1) H / h).
    found = torch.zeros_like(s)
    for i in range(small[0]):
        for j in range(small[1]):
            rows = slice(i * s.shape[2] // small[0], -(-(i + 1) * s.shape[2] // small[0]))
            columns = slice(j * s.shape[3] // small[1], -(-(j + 1) * s.shape[3] // small[1]))
            area = (rows.stop - rows.start) * (columns.stop - columns.start)
            found[:, :, rows, columns] += shaped[:, :, i : i + 1, j : j + 1] / area
    return found


def averaged(features: Tensor) -> Tensor:
    """One vector per example: of a map the mean over its pixels, of a sequence that over its positions.

    Args:
        features: ``(N, C, H, W)``, ``(N, L, C)`` or ``(N, C)``.

    Returns:
        ``(N, C)``.

    Example:
        >>> averaged(torch.tensor([[[[1.0, 3.0]]]]))
        tensor([[2.]])
    """
    return as_map(features).mean(2)


def spread_average(slope: Tensor, features: Tensor) -> Tensor:
    """A gradient by what :func:`averaged` gives as one by the features themselves.

    Args:
        slope: ``(N, C)``.
        features: What was averaged.

    Returns:
        The gradient, of the shape of ``features``.
    """
    if features.ndim == 2:
        return slope
    if features.ndim == 3:
        return (slope / features.shape[1]).unsqueeze(1).expand_as(features)
    return (slope / (features.shape[2] * features.shape[3]))[:, :, None, None].expand_as(features)


def scaled(x: Tensor) -> Tensor:
    """Features times a power of two, without rounding, so that the largest is about 1 and squares are numbers.

    Args:
        x: Any numbers.

    Returns:
        The same but for the factor, which is a constant.

    Example:
        >>> scaled(torch.tensor([3e30, -1e30])).abs() < 2
        tensor([True, True])
    """
    exponent = torch.frexp(x.detach().abs().amax()).exponent.clamp(-126, 126)
    return x * torch.ldexp(torch.ones_like(x[:1].flatten()[:1]), -exponent)


def unrounded(like: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast: products are computed in the dtype of their factors.

    Args:
        like: A tensor on the device.

    Returns:
        A context: a product of matrices in bf16 has three digits, which differences of examples do not survive.
    """
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
