"""The page of a search: its best settings, a heat map of temperature and hard weight, every trial."""

__all__ = ["SearchContents", "write_search_report"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.options.search_space import options_of
from limbeck.report.figures_all import write_figures
from limbeck.report.figures_search import draw_axes, draw_heat_map, draw_history, temperature_of
from limbeck.report.figures_style import svg
from limbeck.report.page import render_page
from limbeck.system.files import replace_text

_SHOWN = 40
"""Trials in the page's table; all of them are in ``metrics.json``."""


@dataclass(frozen=True)
class SearchContents:
    """The contents of a search's page.

    Attributes:
        title: Its heading.
        created: When the search ended, as text.
        trials: One mapping per trial, as in ``metrics.json``.
        best: That of the best trial.
        examples: How many validation examples there are.
        counts: Number of trials by state.
        grid: Whether every combination of lists was tried.
        config: The search's settings.
    """

    title: str
    created: str
    trials: tuple[Mapping[str, Any], ...]
    best: Mapping[str, Any]
    examples: int
    counts: Mapping[str, int]
    grid: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)


def write_search_report(contents: SearchContents, path: Path) -> Path:
    """Write the page atomically, and its figures into ``figures/`` beside it.

    Args:
        contents: What the page shows.
        path: The HTML file; its folder must exist.

    Returns:
        The file.
    """
    drawn = {
        "heat_map": draw_heat_map(contents.trials, examples=contents.examples, grid=contents.grid),
        "trials": draw_history(contents.trials),
        "settings": draw_axes(contents.trials),
    }
    figures = {name: svg(drawing) for name, drawing in drawn.items() if drawing is not None}
    write_figures(figures, path.parent / "figures")
    ranked = sorted(contents.trials, key=_rank)[:_SHOWN]
    page = render_page(
        title=contents.title,
        facts=[contents.created, f"{len(contents.trials)} trials", f"{contents.examples:,} validation examples"],
        tiles=list(_tiles(contents)),
        notes=list(_notes(contents)),
        table={
            "title": "Trials, best first",
            "heading": ("trial", "T", "weight", "learning rate", "epochs", "errors", "accuracy", "nll", "options", ""),
            "rows": [_cells(row) for row in ranked],
        },
        figures=[(name, *_WORDS[name], text) for name, text in figures.items()],
        config=contents.config,
    )
    replace_text(path, page)
    return path


_WORDS = {
    "heat_map": (
        "Temperature and hard weight",
        "Errors on validation, the mean where several trials fall into a cell; darker is better. The best cell is "
        "framed. The row called logits is logit matching, the high-temperature limit. One trial per cell does not "
        "separate neighbouring cells that differ by a few errors.",
    ),
    "trials": (
        "Trial by trial",
        "Each point is a trial, in the order of their start; crosses were pruned, at their errors so far. The line is "
        "the best so far.",
    ),
    "settings": (
        "Effect of each setting",
        "The same trials by each searched setting. A cloud without slope means that the setting hardly matters in this "
        "range.",
    ),
}


def _rank(row: Mapping[str, Any]) -> tuple[bool, float, float, int]:
    errors, nll = row["validation_errors"], row["validation_nll"]
    return (
        row["state"] != "complete",
        float("inf") if errors is None else errors,
        float("inf") if nll is None else nll,
        row["trial"],
    )


def _tiles(contents: SearchContents) -> Iterator[tuple[str, str]]:
    best = contents.best
    yield f"{best['validation_errors']:,}", f"validation errors of {contents.examples:,}, best trial"
    yield temperature_of(best), "temperature"
    yield f"{best['hard_weight']:.3g}", "hard weight"
    yield f"{best['learning_rate']:.3g}", "peak learning rate"


def _notes(contents: SearchContents) -> Iterator[str]:
    again = "limbeck distill --config best.toml" if "data" in contents.config else "limbeck.distill with them in Python"
    yield (
        "All metrics here are on validation; the test set was not read. The best of many trials looks better than it "
        f"is: {again} trains it again and evaluates it on the test set."
    )
    if contents.counts.get("left"):
        left = contents.counts["left"]
        yield f"{left} trials are waiting, or running elsewhere: the same command with --resume continues."


def _cells(row: Mapping[str, Any]) -> list[str]:
    errors, accuracy, nll = row["validation_errors"], row["validation_accuracy"], row["validation_nll"]
    return [
        str(row["trial"]),
        temperature_of(row),
        f"{row['hard_weight']:.3g}",
        f"{row['learning_rate']:.3g}",
        str(row["epochs"]),
        "–" if errors is None else f"{errors:,}",
        "–" if accuracy is None else f"{100 * accuracy:.2f} %",
        "–" if nll is None else f"{nll:.4f}",
        options_of(row),
        "" if row["state"] == "complete" else row["state"],
    ]
