"""The fidelity card: a store's size and loss of information.

Axes: ``N`` rows measured, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["Card", "CardSums", "add_up", "card_temperatures", "measure_rows"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.softtargets.encodings import Encoding, below_largest, log_softmax

_TEMPERATURES = (1.0, 4.0, 20.0)
CardSums = tuple[float, ...]
"""Rows measured, mass kept, rows with a label, rows predicted rightly, then a sum of divergences per temperature."""


@dataclass(frozen=True)
class Card:
    r"""A store's size and loss of information.

    Attributes:
        examples: Number of examples.
        views: Views of each.
        encoding: Which, with its settings.
        bytes_per_example: Bytes for one view of one example.
        dense_bytes_per_example: What float16 for every class would take.
        rows_measured: Over how many rows the means below were taken.
        mass_kept: Mean probability that the teacher gives to the classes kept, in [0, 1].
        divergence: Mean :math:`\mathrm{KL}(\text{exact} \| \text{stored})`, nats, by temperature; empty for sampled
            targets, which give no mass to classes that were not drawn.
        teacher_accuracy: Share of labelled rows that the teacher gets right; None without labels.

    Example:
        >>> card = Card(10, 1, "dense dtype=float16", 20.0, 20.0, 10, 1.0, {"1": 2e-7}, None)
        >>> print(card)
        examples x views     10 x 1
        encoding             dense dtype=float16
        bytes per example    20 (1.000 of dense float16)
        mass kept            1.000000
        mean KL at T = 1     2.00e-07 nats
        teacher accuracy     no labels
        measured on          10 of 10 rows
    """

    examples: int
    views: int
    encoding: str
    bytes_per_example: float
    dense_bytes_per_example: float
    rows_measured: int
    mass_kept: float
    divergence: dict[str, float]
    teacher_accuracy: float | None

    def __str__(self) -> str:
        share = self.bytes_per_example / self.dense_bytes_per_example
        lines = {
            "examples x views": f"{self.examples:,} x {self.views}",
            "encoding": self.encoding,
            "bytes per example": f"{self.bytes_per_example:g} ({share:.3f} of dense float16)",
            "mass kept": f"{self.mass_kept:.6f}",
        }
        lines |= {f"mean KL at T = {name}": f"{value:.2e} nats" for name, value in self.divergence.items()}
        accuracy = self.teacher_accuracy
        lines["teacher accuracy"] = "no labels" if accuracy is None else f"{accuracy:.4%}"
        lines["measured on"] = f"{self.rows_measured:,} of {self.examples * self.views:,} rows"
        width = max(21, *(len(name) + 2 for name in lines))
        return "\n".join(f"{name:<{width}}{value}" for name, value in lines.items())

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON can hold it."""
        return asdict(self)


def card_temperatures(encoding: Encoding, temperature: float | None) -> tuple[float, ...]:
    """Temperatures at which the divergence is measured.

    Args:
        encoding: How rows are kept.
        temperature: The only one that the targets hold for, or None.

    Returns:
        1, 4 and 20 where they can be served; none for sampled targets.
    """
    if encoding.name == "sampled":
        return ()
    if temperature is not None:
        return (temperature,)
    lowest = encoding.parameters().get("ladder", [0.0])[0]
    return tuple(each for each in _TEMPERATURES if each >= lowest)


def measure_rows(
    scores: NDArray[np.float32],
    encoded: Mapping[str, NDArray[Any]],
    encoding: Encoding,
    temperature: float | None,
    labels: NDArray[np.int64] | None,
) -> CardSums:
    """Sums over some rows, in float64.

    Args:
        scores: The exact answers, ``(N, K)``.
        encoded: The same rows as they are kept.
        encoding: How.
        temperature: The only one that the targets hold for, or None.
        labels: True classes, ``(N,)``, -1 where unknown; or None.

    Returns:
        The sums for :func:`add_up`.
    """
    below = below_largest(scores)
    classes = below.shape[1]
    probability = np.exp(log_softmax(below, 1.0))
    mass = float(len(below))
    if "ids" in encoded:
        kept = np.zeros(below.shape, bool)
        np.put_along_axis(kept, encoded["ids"].astype(np.int64), True, 1)
        mass = float((probability * kept).sum())
    known = 0 if labels is None else int((labels >= 0).sum())
    right = 0 if labels is None else int((below.argmax(1) == labels).sum())
    sums = [float(len(below)), mass, float(known), float(right)]
    for each in card_temperatures(encoding, temperature):
        used = 1.0 if temperature is not None else each
        exact, stored = log_softmax(below, used), encoding.decode(encoded, classes, used)
        sums.append(float((np.exp(exact) * (exact - stored)).sum()))
    return tuple(sums)


def add_up(
    sums: Sequence[CardSums],
    *,
    examples: int,
    views: int,
    classes: int,
    encoding: Encoding,
    temperature: float | None,
) -> Card:
    """The card of a store, out of the sums of its shards.

    Args:
        sums: One per shard.
        examples: Number of examples.
        views: Views of each.
        classes: Number of classes, K.
        encoding: How rows are kept.
        temperature: The only one that the targets hold for, or None.

    Returns:
        The card.
    """
    totals = [math.fsum(column) for column in zip(*sums, strict=True)]
    rows, mass, known, right, *divergences = totals
    settings = " ".join(f"{name}={value}" for name, value in encoding.parameters().items())
    temperatures = card_temperatures(encoding, temperature)
    return Card(
        examples=examples,
        views=views,
        encoding=f"{encoding.name} {settings}",
        bytes_per_example=float(sum(field.row_bytes for field in encoding.fields(classes))),
        dense_bytes_per_example=2.0 * classes,
        rows_measured=int(rows),
        mass_kept=mass / rows,
        divergence={f"{each:g}": total / rows for each, total in zip(temperatures, divergences, strict=True)},
        teacher_accuracy=right / known if known else None,
    )
