"""The results of a comparison per arm: errors over seeds, differences with intervals, verdicts.

Axes: ``S`` seeds, ``N`` test examples.
"""

__all__ = ["Row", "judge_arms", "resolution"]

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from limbeck.comparing.arms import Settings
from limbeck.comparing.cells import Found, errors_of
from limbeck.evaluation.statistics import Interval
from limbeck.evaluation.verdicts import Verdict, judge_many


@dataclass(frozen=True)
class Row:
    """One arm of a comparison.

    Attributes:
        name: Of the arm.
        settings: Those that validation chose, in words.
        validation_errors: Of the chosen trial.
        errors: Test errors, one per seed.
        seconds: Median time of an epoch.
        against_labels: Error rate minus that of labels alone, with its interval; None for that arm itself.
        p_value: Of that difference, adjusted by Holm for the number of arms.
        verdict: "helps", "hurts", or "not shown".
        against_kd: Error rate minus that of kd; None where kd takes no part, and for kd itself.
        p_value_kd: Of that difference, with the same adjustment.
    """

    name: str
    settings: str
    validation_errors: int
    errors: tuple[int, ...]
    seconds: float
    against_labels: Interval | None = None
    p_value: float | None = None
    verdict: Literal["helps", "hurts", "not shown", ""] = ""
    against_kd: Interval | None = None
    p_value_kd: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {**asdict(self), "errors": list(self.errors)}
        for name in ("against_labels", "against_kd"):
            interval: Interval | None = getattr(self, name)
            found[name] = None if interval is None else interval.to_dict()
        return found


def judge_arms(
    chosen: Mapping[str, Settings],
    searched: Mapping[str, int],
    trained: Mapping[str, Sequence[Found]],
    examples: int,
    *,
    groups: ArrayLike | None = None,
) -> list[Row]:
    """Compare every arm with the first, labels alone, and every method with kd.

    Seeds and examples are crossed in the intervals, which hold the chance of both; p-values are adjusted by Holm for
    the number of arms that are compared.

    Args:
        chosen: The settings of each arm; the first is what others are compared with.
        searched: Validation errors of the trial that was chosen, by arm.
        trained: The trainings of each arm over the same seeds.
        examples: Number of test examples N.
        groups: Which test examples belong together, integers ``(N,)``, or None.

    Returns:
        One row per arm.

    Example:
        >>> known = {"labels": range(60), "kd": range(30)}
        >>> found = {arm: [Found(0, 0.0, 1.0, tuple(wrong))] * 2 for arm, wrong in known.items()}
        >>> rows = judge_arms(dict.fromkeys(known, Settings(0.1, 3)), dict.fromkeys(known, 0), found, 1000)
        >>> rows[1].verdict, round(100 * rows[1].against_labels.estimate, 1)
        ('helps', -3.0)
    """
    first, *others = chosen
    wrong = {arm: [errors_of(found, examples) for found in cells] for arm, cells in trained.items()}
    labels = judge_many({arm: wrong[arm] for arm in others}, wrong[first], groups=groups)
    methods = [arm for arm in others if not arm.startswith(first) and arm != "kd"]
    beside: dict[str, Verdict] = {}
    if "kd" in wrong and methods:
        beside = judge_many({arm: wrong[arm] for arm in methods}, wrong["kd"], groups=groups)
    return [
        Row(
            arm,
            settings.words(),
            searched[arm],
            tuple(int(each.sum()) for each in wrong[arm]),
            float(np.median([found.epoch_seconds for found in trained[arm]])),
            labels[arm].difference if arm in labels else None,
            labels[arm].p_value if arm in labels else None,
            _said(labels[arm]) if arm in labels else "",
            beside[arm].difference if arm in beside else None,
            beside[arm].p_value if arm in beside else None,
        )
        for arm, settings in chosen.items()
    ]


def resolution(rows: Sequence[Row]) -> float:
    """Half the width of a typical interval: a smaller difference cannot be shown by such a comparison.

    Args:
        rows: From :func:`judge_arms`.

    Returns:
        Median over the arms, as a share of the examples.
    """
    return float(np.median([(r.against_labels.high - r.against_labels.low) / 2 for r in rows if r.against_labels]))


def _said(verdict: Verdict) -> Literal["helps", "hurts", "not shown"]:
    return "not shown" if verdict.helped is None else "helps" if verdict.helped else "hurts"
