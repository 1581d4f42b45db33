"""The rank plan: the rank of every layer, frozen, printable, and saved as JSON."""

__all__ = ["LayerPlan", "RankPlan"]

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, get_args

from limbeck.errors import FormatError
from limbeck.lowrank.matrices import Placement
from limbeck.lowrank.spectrum import Metric
from limbeck.system.files import read_json, replace_json

_FORMAT = "limbeck rank plan 1"


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """The plan of one layer.

    Attributes:
        name: The layer's name in the network.
        kind: ``"linear"`` or ``"conv"``.
        shape: Of its matrix, outputs by inputs.
        rank: Its rank, or None where it is not factorised.
        kept: Share kept of the sum of the squares of the singular values in the plan's metric; 1 for a whole layer.
        loss: What is lost, in the unit of the plan's metric.
        parameters: Weights before, without the bias.
        parameters_after: Weights after, without the bias.
        positions: Applications per example, or None where that is unknown.
        reason: Why it stays whole, or None.
        spatial: Where it becomes a convolution over columns and one over rows: the shape, outputs and width by channels
            and height, of the matrix whose rank that is; else None.
        columns: How often the first of these, or of three, is applied per example; None where it is unknown, or the
            same as ``positions``.
        inner: Where it becomes three convolutions: to how many channels the first goes; else None.
        channels: How many it had then.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    rank: int | None
    kept: float
    loss: float
    parameters: int
    parameters_after: int
    positions: float | None
    reason: str | None
    spatial: tuple[int, int] | None = None
    columns: float | None = None
    inner: int | None = None
    channels: int | None = None

    @property
    def multiply_adds(self) -> tuple[float, float] | None:
        """Per example, before and after; None where unknown."""
        if self.positions is None:
            return None
        before = self.positions * self.parameters
        if (self.spatial is None and self.inner is None) or self.rank is None:
            return before, self.positions * self.parameters_after
        if self.columns is None:
            return None
        if self.inner is not None and self.channels is not None:
            first = self.inner * self.channels
            return before, self.columns * first + self.positions * (self.parameters_after - first)
        assert self.spatial is not None
        m, n = self.spatial
        return before, self.rank * (self.columns * n + self.positions * m)


@dataclass(frozen=True, kw_only=True)
class RankPlan:
    """Which ranks the layers of one network shall have; printed as a table.

    Attributes:
        model_digest: SHA-256 of the network that the plan is for.
        spectrum_digest: SHA-256 of the spectrum it was made from, where the metric needs that spectrum to be applied.
        rule: The rule, in words.
        metric: In which errors are counted.
        placement: Where the singular values go, see :func:`limbeck.lowrank.truncate`.
        layers: The layers, in order.
        parameters: Of the whole network before, biases and all.
        parameters_after: Of the whole network after.
        bytes: Of all the network saves, before.
        bytes_after: The same after.
    """

    stage: ClassVar[str] = "svd"
    """What the network that is made by it is called."""

    model_digest: str
    spectrum_digest: str | None
    rule: str
    metric: Metric
    placement: Placement
    layers: tuple[LayerPlan, ...]
    parameters: int
    parameters_after: int
    bytes: int
    bytes_after: int

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of each layer that becomes two, by name."""
        return {layer.name: layer.rank for layer in self.layers if layer.rank is not None}

    @property
    def spatial(self) -> tuple[str, ...]:
        """The convolutions among them that become one over columns and one over rows."""
        return tuple(layer.name for layer in self.layers if layer.rank is not None and layer.spatial is not None)

    @property
    def tucker(self) -> dict[str, int]:
        """The convolutions that become three: to how many channels the first goes, by name."""
        return {layer.name: layer.inner for layer in self.layers if layer.rank is not None and layer.inner is not None}

    @property
    def loss(self) -> float:
        """Sum of the layers' losses: with calibration data an estimate of the soft-target loss, in nats per example."""
        return math.fsum(layer.loss for layer in self.layers)

    @property
    def multiply_adds(self) -> tuple[float, float] | None:
        """Multiply-adds per example before and after, of linear layers and convolutions; None where unknown."""
        before = after = 0.0
        for layer in self.layers:
            if layer.multiply_adds is None:
                return None
            before, after = before + layer.multiply_adds[0], after + layer.multiply_adds[1]
        return before, after

    def to_metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds of it."""
        found: dict[str, Any] = {"rule": self.rule, "metric": self.metric, "ranks": self.ranks}
        found |= {"spatial": list(self.spatial)} if self.spatial else {}
        return found | ({"tucker": self.tucker} if self.tucker else {})

    def __str__(self) -> str:
        """The plan as a table."""
        head = ("layer", "shape", "rank", "kept", "weights", "after")
        rows = [
            (
                layer.name or "(network)",
                f"{layer.shape[0]} x {layer.shape[1]}" + (" conv" if layer.kind == "conv" else ""),
                _rank_in_words(layer),
                f"{layer.kept:.4f}",
                f"{layer.parameters:,}",
                f"{layer.parameters_after:,}" + ("" if layer.reason is None else f"  ({layer.reason})"),
            )
            for layer in self.layers
        ]
        widths = [max(len(row[column].split("  (")[0]) for row in (head, *rows)) for column in range(len(head))]
        lines = [f"{self.rule}; errors counted in {self.metric}; singular values: {self.placement}"]
        for row in (head, *rows):
            cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
            for cell, width in zip(row[2:], widths[2:], strict=True):
                number, separator, note = cell.partition("  (")
                cells.append(number.rjust(width) + separator + note)
            lines.append("  ".join(cells).rstrip())
        lines.append(f"parameters {self.parameters:,} -> {self.parameters_after:,} ({self._share:.1%})")
        lines.append(f"bytes {self.bytes:,} -> {self.bytes_after:,}")
        if self.multiply_adds is not None:
            lines.append("multiply-adds {:,.0f} -> {:,.0f}".format(*self.multiply_adds))
        return "\n".join(lines)

    @property
    def _share(self) -> float:
        return self.parameters_after / self.parameters

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON.

        Args:
            path: The file; its folder must exist.
        """
        replace_json(Path(path), {"format": _FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: str | Path) -> "RankPlan":
        """Read what :meth:`save` wrote, and check it.

        Args:
            path: The file.

        Returns:
            The plan.

        Raises:
            FormatError: If the file is missing, or not a valid plan.
        """
        content = read_json(Path(path))
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise FormatError(path, f"is not a rank plan: its format must be {_FORMAT!r}")
        try:
            values = _fields(content, RankPlan, extra=("format",))
            values["layers"] = tuple(_read_layer(layer) for layer in values["layers"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(path, f"is not a valid rank plan: {error}") from error


def _rank_in_words(layer: LayerPlan) -> str:
    if layer.rank is None:
        return "whole"
    if layer.inner is not None:
        return f"{layer.inner} x {layer.rank} tucker"
    return f"{layer.rank}{'' if layer.spatial is None else ' spatial'}"


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _optional(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "model_digest": _text,
    "spectrum_digest": _optional(_text),
    "rule": _text,
    "metric": lambda value: value in get_args(Metric),
    "placement": lambda value: value in get_args(Placement),
    "layers": lambda value: isinstance(value, list) and len(value) > 0,
    "parameters": _count,
    "parameters_after": _count,
    "bytes": _count,
    "bytes_after": _count,
    "name": _text,
    "kind": lambda value: value in ("linear", "conv"),
    "shape": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_count, value)),
    "rank": _optional(lambda value: _count(value) and value > 0),
    "kept": lambda value: _number(value) and value <= 1,
    "loss": _number,
    "positions": _optional(_number),
    "reason": _optional(_text),
    "spatial": lambda value: value is None or (isinstance(value, list) and len(value) == 2 and all(map(_count, value))),
    "columns": _optional(_number),
    "inner": _optional(lambda value: _count(value) and value > 0),
    "channels": _optional(lambda value: _count(value) and value > 0),
}
_LATER = ("spatial", "columns", "inner", "channels")
"""What plans of before do not have."""


def _fields(content: Any, owner: type[Any], extra: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError("a layer must be an object")
    names = [field.name for field in fields(owner)]
    unknown = sorted(set(content) - set(names) - set(extra))
    if unknown:
        raise ValueError(f"unknown keys {', '.join(unknown)}")
    for name in names:
        if name not in content and name not in _LATER:
            raise ValueError(f"{name} is missing")
        if not _CHECKS[name](content.get(name)):
            raise ValueError(f"{name} cannot be {content[name]!r}"[:200])
    return {name: content.get(name) for name in names}


def _read_layer(content: Any) -> LayerPlan:
    values = _fields(content, LayerPlan)
    values["shape"] = tuple(values["shape"])
    values["spatial"] = None if values["spatial"] is None else tuple(values["spatial"])
    rank, possible = values["rank"], min(values["spatial"] or values["shape"])
    if rank is not None and rank > possible:
        raise ValueError(
            f"layer {values['name']} of shape {values['shape']} cannot have rank {rank}: at most {possible}"
        )
    if values["inner"] is not None and (values["spatial"] is not None or values["inner"] > (values["channels"] or 0)):
        raise ValueError(f"layer {values['name']} cannot go to {values['inner']} of {values['channels']} channels")
    return LayerPlan(**values)
