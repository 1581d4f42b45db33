"""Planning of a store, before anything is written.

Axes: ``N`` examples, ``V`` views.
"""

__all__ = ["SHARD_BYTES", "make_plan"]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError
from limbeck.softtargets.encodings import Encoding
from limbeck.softtargets.manifest import Plan
from limbeck.system.files import digest_bytes

SHARD_BYTES = 64 << 20
"""About how large a shard is."""


def make_plan(
    *,
    classes: Sequence[str],
    examples: int,
    views: int = 1,
    encoding: Encoding,
    temperature: float | None = None,
    index: NDArray[np.int64] | None = None,
    labelled: bool = False,
    augmentation: Mapping[str, Any] | None = None,
    mean: str = "none",
    teacher_digest: str | None = None,
    data_digest: str | None = None,
    inputs_digest: str | None = None,
    card_rows: int | None = None,
    precision: str | None = None,
    source: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Plan:
    """Make a plan, and check the settings.

    Args:
        classes: Names of the classes.
        examples: How many examples N.
        views: Views of each, V.
        encoding: How rows are kept.
        temperature: The only temperature that the targets hold for; None for logits at T = 1, which serve all.
        index: The examples' numbers, ``(N,)``; None for 0, 1, 2, ...
        labelled: Whether labels will be given, for the teacher's accuracy.
        augmentation: Settings of the views.
        mean: How the teacher averages.
        teacher_digest: SHA-256 of the teacher.
        data_digest: SHA-256 of the examples.
        inputs_digest: SHA-256 of the examples without labels.
        card_rows: Rows of a shard that the card measures, evenly spaced; None for all.
        precision: In which the teacher computes, where known.
        source: Digest of the data that the examples were taken from; None where they are whole.
        shard_bytes: About how large a shard is, bytes.

    Returns:
        The plan.

    Raises:
        ConfigError: If a value is out of its range, or contradicts another.
    """
    for name, value in (("examples", examples), ("views", views), ("shard_bytes", shard_bytes)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, and is {value}")
    if len(classes) < 2:
        raise ConfigError(f"at least two classes are needed, and there are {len(classes)}")
    if temperature is not None and not 0 < temperature < float("inf"):
        raise ConfigError(f"temperature must be positive and finite, and is {temperature}")
    ladder = encoding.parameters().get("ladder", [1.0])
    if temperature is not None and ladder != [1.0]:
        raise ConfigError("top-k targets of one temperature need no ladder: set it to (1.0,)")
    if temperature is None and encoding.name == "sampled":
        raise ConfigError("sampled targets hold for one temperature: name it")
    if card_rows is not None and card_rows < 1:
        raise ConfigError(f"card_rows must be at least 1, and is {card_rows}")
    row_bytes = sum(field.row_bytes for field in encoding.fields(len(classes)))
    rows = min(max(1, shard_bytes // row_bytes), examples * views)
    plain = index is None or bool((index == np.arange(examples)).all())
    return Plan(
        classes=tuple(classes),
        examples=examples,
        views=views,
        augmentation=None if augmentation is None else dict(augmentation),
        encoding={"name": encoding.name, **encoding.parameters()},
        temperature=temperature,
        mean=mean,
        teacher_digest=teacher_digest,
        data_digest=data_digest,
        inputs_digest=inputs_digest,
        index=None if plain or index is None else digest_bytes([index.astype("<i8").tobytes()]),
        labelled=labelled,
        rows_per_shard=rows,
        card_rows=rows if card_rows is None else min(rows, card_rows),
        precision=precision,
        source=source,
    )
