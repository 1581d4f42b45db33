"""The pruning plan: the units to keep, frozen, printable, and saved as JSON."""

__all__ = ["PrunePlan", "UnitPlan"]

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from limbeck.errors import FormatError
from limbeck.system.files import read_json, replace_json

FORMAT = "limbeck prune plan 1"


@dataclass(frozen=True, kw_only=True)
class UnitPlan:
    """The plan of one group of units.

    Attributes:
        name: The layer that makes them.
        units: How many there are.
        kept: The numbers of those that stay, rising; all of them where it stays whole.
        loss: What taking the others out of this group alone costs, measured: the soft-target loss in nats per example.
        reason: Why all stay, or None.
    """

    name: str
    units: int
    kept: tuple[int, ...]
    loss: float
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """Which units of one network stay; printed as a table.

    Attributes:
        model_digest: SHA-256 of the network that the plan is for.
        rule: The rule, in words.
        groups: The groups of units, in order.
        loss: The soft-target loss of the pruned network on calibration examples, measured, nats per example.
        parameters: Of the whole network before.
        parameters_after: Of the whole network after.
        bytes: Of all the network saves, before.
        bytes_after: The same after.
    """

    stage: ClassVar[str] = "pruned"
    """What the network that is made by it is called."""

    model_digest: str
    rule: str
    groups: tuple[UnitPlan, ...]
    loss: float
    parameters: int
    parameters_after: int
    bytes: int
    bytes_after: int

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        """The units that stay, of each group that loses some."""
        return {group.name: group.kept for group in self.groups if len(group.kept) < group.units}

    def to_metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds of it."""
        units = {group.name: [len(group.kept), group.units] for group in self.groups if group.reason is None}
        return {"rule": self.rule, "metric": "divergence", "units": units, "loss": self.loss}

    def __str__(self) -> str:
        """The plan as a table."""
        head = ("layer", "units", "kept", "loss alone")
        rows = [
            (group.name or "(network)", f"{group.units:,}", f"{len(group.kept):,}", f"{group.loss:.2g}")
            for group in self.groups
            if group.reason is None
        ]
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        lines = [f"{self.rule}; units chosen by measured divergence"]
        for row in (head, *rows):
            numbers = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join([row[0].ljust(widths[0]), *numbers]).rstrip())
        share = self.parameters_after / self.parameters
        lines.append(f"parameters {self.parameters:,} -> {self.parameters_after:,} ({share:.1%})")
        lines.append(f"bytes {self.bytes:,} -> {self.bytes_after:,}")
        lines.append(f"measured divergence of the pruned network {self.loss:.3g} nats per example")
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON.

        Args:
            path: The file; its folder must exist.
        """
        replace_json(Path(path), {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: str | Path) -> "PrunePlan":
        """Read what :meth:`save` wrote, and check it.

        Args:
            path: The file.

        Returns:
            The plan.

        Raises:
            FormatError: If the file is missing, is not such a plan, or says what none can say.
        """
        content = read_json(Path(path))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise FormatError(path, f"is not a plan for pruning: its format must be {FORMAT!r}")
        try:
            values = _fields({name: value for name, value in content.items() if name != "format"}, cls)
            values["groups"] = tuple(_group(group) for group in values["groups"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(path, f"is not a valid plan for pruning: {error}") from error


def _fields(content: Any, owner: type[Any]) -> dict[str, Any]:
    names = {field.name for field in fields(owner)}
    if not isinstance(content, dict) or set(content) != names:
        raise ValueError(f"it must have {', '.join(sorted(names))}")
    for name, value in content.items():
        counts = name in {"units", "parameters", "parameters_after", "bytes", "bytes_after"}
        if counts and not (type(value) is int and value >= 0):
            raise ValueError(f"{name} cannot be {value!r}")
        if name == "loss" and not (type(value) in (int, float) and math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} cannot be {value!r}")
        text = name in {"model_digest", "rule", "name"} or (name == "reason" and value is not None)
        if text and not isinstance(value, str):
            raise ValueError(f"{name} cannot be {value!r}")
    return dict(content)


def _group(content: Any) -> UnitPlan:
    values = _fields(content, UnitPlan)
    kept, units = values["kept"], values["units"]
    whole = isinstance(kept, list) and all(type(unit) is int for unit in kept)
    if not whole or kept != sorted(set(kept)) or not kept or not (0 <= kept[0] and kept[-1] < units):
        raise ValueError(f"kept must be rising numbers below {units}")
    return UnitPlan(**{**values, "kept": tuple(kept)})
