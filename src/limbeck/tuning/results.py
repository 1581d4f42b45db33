"""The results of a search: best settings, metrics and report."""

__all__ = ["conclude", "conclude_baseline", "report_search"]

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.data.examples import Examples
from limbeck.errors import FormatError, RunError
from limbeck.options.search_space import option_texts
from limbeck.report import SearchContents, write_search_report
from limbeck.runs.folder import RunFolder

_SETTINGS = ("method", "temperature", "hard_weight", "learning_rate", "epochs")


def conclude(
    rows: Sequence[Mapping[str, Any]], validation: Examples, *, left: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best settings, and what ``metrics.json`` will hold.

    Args:
        rows: The trials that came to an end.
        validation: What they were evaluated on.
        left: How many trials wait, or are being run elsewhere.

    Returns:
        The settings of the trial with the fewest validation errors (then the least negative log-likelihood, then the
        first), and the metrics.

    Raises:
        RunError: If no trial was trained to its end.
    """
    complete = [row for row in rows if row["state"] == "complete"]
    if not complete:
        why = (
            "each became infinite: try smaller learning rates"
            if rows
            else "give it more time, and go on with resume=True (--resume)"
        )
        raise RunError(f"no trial came to its end: {why}")
    best = min(complete, key=lambda row: (row["validation_errors"], row["validation_nll"], row["trial"]))
    counts = Counter(row["state"] for row in rows)
    metrics = {
        "judged_on": "validation",
        "validation_examples": len(validation),
        "best": dict(best),
        "counts": {name: counts[name] for name in ("complete", "stopped early", "diverged")} | {"left": left},
        "seconds": sum(row["seconds"] or 0.0 for row in rows),
        "trials": [dict(row) for row in rows],
    }
    chosen = {name: best[name] for name in _SETTINGS if best[name] is not None}
    options = option_texts(best)
    return {**chosen, **({"method_options": list(options)} if options else {})}, metrics


def conclude_baseline(rows: Sequence[Mapping[str, Any]], metrics: dict[str, Any], *, left: int) -> dict[str, Any]:
    """What a search of the baseline's learning rate found, for ``best.toml``; its trials go to the metrics.

    Args:
        rows: The trials that came to an end.
        metrics: Those of the student's search, which get ``baseline``.
        left: How many trials wait.

    Returns:
        ``baseline_learning_rate`` and ``searched``; where the search did not come to its end, that it was the student's
        alone.
    """
    complete = [row for row in rows if row["state"] == "complete"]
    metrics["baseline"] = {"best": None, "left": left, "trials": [dict(row) for row in rows]}
    if left or not complete:
        return {"searched": "student"}
    best = min(complete, key=lambda row: (row["validation_errors"], row["validation_nll"], row["trial"]))
    metrics["baseline"]["best"] = dict(best)
    return {"baseline_learning_rate": best["learning_rate"], "searched": "both"}


def report_search(folder: str | Path) -> Path:
    """Write ``report.html`` and ``figures/`` into a search's folder.

    Args:
        folder: The search.

    Returns:
        The page.

    Raises:
        FormatError: If the folder's numbers are not those of a search.
    """
    run = RunFolder(folder)
    metrics, config = run.metrics(), run.config()
    modified = (run.path / "metrics.json").stat().st_mtime
    try:
        contents = SearchContents(
            title=f"Settings for {config.get('student', 'a student')} on {config.get('data', 'own data')}",
            created=datetime.datetime.fromtimestamp(modified, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            trials=tuple(metrics["trials"]),
            best=metrics["best"],
            examples=metrics["validation_examples"],
            counts=metrics["counts"],
            grid=bool(config.get("grid")),
            config=config,
        )
        return write_search_report(contents, run.path / "report.html")
    except (KeyError, TypeError) as error:
        raise FormatError(run.path / "metrics.json", f"is not that of a search: {error!r}") from error
