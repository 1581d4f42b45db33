"""Tables of metrics, models side by side, as text for terminals and notebooks."""

__all__ = ["INFINITE", "has_no_bound", "score_rows", "scores_by_role"]

from collections.abc import Mapping
from typing import Any

_ROWS = (
    ("test_errors", "errors", "{:,}"),
    ("accuracy", "accuracy", "{:.2%}"),
    ("balanced_accuracy", "balanced acc.", "{:.2%}"),
    ("nll", "nll", "{:.4f}"),
    ("ece", "ece", "{:.4f}"),
    ("calibration_temperature", "calibration T", "{:.3g}"),
    ("calibrated_ece", "ece with it", "{:.4f}"),
    ("agreement_with_teacher", "agrees", "{:.2%}"),
    ("agreement_with_original", "agrees", "{:.2%}"),
    ("parameters", "parameters", "{:,}"),
    ("file_bytes", "bytes", "{:,}"),
    ("multiply_adds", "multiply-adds", "{:,}"),
    ("latency_ms", "ms at batch 1", "{:.3f}"),
    ("images_per_second", "examples/s", "{:,.0f}"),
)


INFINITE = "infinite"


def has_no_bound(key: str, scores: Mapping[str, Any]) -> bool:
    """Whether a metric was computed and is infinite: a negative log-likelihood where a true class has probability 0.

    Args:
        key: Name of the metric.
        scores: Metrics of one model.

    Returns:
        Whether it is there, and None.

    Example:
        >>> has_no_bound("nll", {"nll": None}), has_no_bound("nll", {})
        (True, False)
    """
    return key.endswith("nll") and key in scores and scores[key] is None


def score_rows(models: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row per metric that any model has: its name, and the models' values.

    Args:
        models: Metrics by role, as in ``metrics.json``.

    Returns:
        The rows; "-" where a model lacks the metric, "infinite" for a likelihood that is None.

    Example:
        >>> score_rows({"teacher": {"test_errors": 1200, "accuracy": 0.88}, "student": {"test_errors": 90}})
        [('errors', '1,200', '90'), ('accuracy', '88.00%', '-')]
    """
    rows = []
    for key, label, pattern in _ROWS:
        cells = [
            pattern.format(scores[key])
            if scores.get(key) is not None
            else INFINITE
            if has_no_bound(key, scores)
            else "-"
            for scores in models.values()
        ]
        if any(cell != "-" for cell in cells):
            rows.append((label, *cells))
    return rows


def scores_by_role(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The models of a run in display order, with their metrics.

    Args:
        metrics: The contents of ``metrics.json``.

    Returns:
        Metrics by role.

    Example:
        >>> list(scores_by_role({"student": {}, "teacher": {}, "judged_on": "test"}))
        ['teacher', 'student']
    """
    stages = metrics.get("stages")
    if isinstance(stages, Mapping):
        return dict(stages)
    return {role: metrics[role] for role in ("model", "teacher", "baseline", "student") if role in metrics}
