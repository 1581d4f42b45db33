"""Errors and calibration of a teacher, baselines and students on test examples that are damaged alike for all.

Errors are compared as everywhere: paired by seed and example, with intervals that hold the chance of both (and of
groups of examples, where there are any), and p-values that are adjusted by Holm for the number of damages. Calibration
errors (15 bins of equal mass, debiased) are means over seeds, before any temperature is fitted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from limbeck.data import Examples
from limbeck.evaluation.calibration import debiased_calibration_error
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.prediction import predict
from limbeck.evaluation.statistics import Interval, holm
from limbeck.evaluation.verdicts import in_points
from limbeck.protocols import Teacher

ROLES = ("teacher", "baseline", "student")


def measure(
    damaged: Iterable[tuple[str, Examples]], models: Mapping[str, Sequence[nn.Module | Teacher]]
) -> list[dict[str, Any]]:
    """A row per damage: errors and calibration by role, and the students against the baselines."""
    rows: list[dict[str, Any]] = []
    for name, seen in damaged:
        assert seen.labels is not None
        labels, groups = seen.labels.numpy(), seen.groups()
        wrong: dict[str, list[NDArray[np.bool_]]] = {}
        row: dict[str, Any] = {"damage": name}
        for role, some in models.items():
            answers = [predict(model, seen).double().exp().numpy() for model in some]
            wrong[role] = [each.argmax(1) != labels for each in answers]
            surprise = [debiased_calibration_error(each.max(1), each.argmax(1) == labels) for each in answers]
            row[role] = {
                "errors": [float(each.mean()) for each in wrong[role]],
                "calibration_error": sum(surprise) / len(surprise),
            }
        together = None if groups is None else groups.numpy()
        found = crossed_difference(wrong["student"], wrong["baseline"], groups=together)
        interval = found.interval(0.95)
        row |= {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
        row["p_value"] = found.cautious_p_value
        rows.append(row)
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_adjusted"] = float(adjusted)
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """For which damages a difference between students and baselines is shown."""
    shown = ", ".join(row["damage"] for row in rows if row["p_adjusted"] < 0.05) or "none of the damages"
    return (
        f"**Students against labels alone: a difference is shown for {shown}, "
        f"after Holm's correction for {len(rows)} comparisons.**"
    )


def table(rows: Sequence[dict[str, Any]], what: str) -> list[str]:
    """The rows as lines of Markdown; ``what`` is damaged."""
    lines = [
        f"| {what} | teacher, errors | labels alone | student | student − labels alone (95 %) | p, Holm "
        "| calibration error: teacher | labels alone | student |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rates = [100 * sum(row[role]["errors"]) / len(row[role]["errors"]) for role in ROLES]
        surprise = [100 * row[role]["calibration_error"] for role in ROLES]
        words = in_points(Interval(row["estimate"], row["low"], row["high"], 0.95))
        cells = [row["damage"], *(f"{rate:.2f} %" for rate in rates), words, f"{row['p_adjusted']:.2g}"]
        lines.append(f"| {' | '.join([*cells, *(f'{value:.1f} %' for value in surprise)])} |")
    return lines
