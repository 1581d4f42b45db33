"""Tables of metrics, models side by side, as text for terminals and notebooks."""

__all__ = ["score_cell", "score_rows", "scores_by_role"]

from collections.abc import Callable, Mapping
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


def score_cell(scores: Mapping[str, Any], key: str, form: Callable[[Any], str], missing: str) -> str:
    """One model's value of a metric, for a table.

    Args:
        scores: Metrics of the model.
        key: Name of the metric.
        form: Writes a value.
        missing: What stands where the model lacks the metric.

    Returns:
        The text; "infinite" for a negative log-likelihood that is None, since a true class has probability 0.

    Example:
        >>> [score_cell(scores, "nll", "{:.2f}".format, "-") for scores in ({"nll": 0.5}, {"nll": None}, {})]
        ['0.50', 'infinite', '-']
    """
    value = scores.get(key)
    if value is not None:
        return form(value)
    return "infinite" if key.endswith("nll") and key in scores else missing


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
        cells = [score_cell(scores, key, pattern.format, "-") for scores in models.values()]
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
