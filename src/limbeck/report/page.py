"""The report as one self-contained HTML page without scripts."""

__all__ = ["embedded", "render_page", "render_report", "verdict_box", "write_report"]

import base64
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from limbeck.evaluation.score_table import score_cell
from limbeck.evaluation.verdicts import sentences
from limbeck.report.contents import Contents, Model
from limbeck.report.figures_all import PLATES, draw_all, write_figures
from limbeck.report.figures_style import clean, colour, harmless, number, svg
from limbeck.report.sheets import Sheet, sheets_of
from limbeck.system.files import replace_text

_DASH = "–"
_NOISE = 1.15
"""Ratios of two latencies below this are not told apart from chance."""


def write_report(contents: Contents, path: Path) -> Path:
    """Write the page atomically, and its figures into ``figures/`` beside it.

    Args:
        contents: What the report shows.
        path: The HTML file; its folder must exist.

    Returns:
        The file.
    """
    figures = {name: svg(drawing) for name, drawing in draw_all(contents).items()}
    write_figures(figures, path.parent / "figures")
    replace_text(path, render_report(contents, figures))
    return path


def render_report(contents: Contents, figures: Mapping[str, str]) -> str:
    """Render the page as HTML; all text of the contents is escaped.

    Args:
        contents: What the report shows.
        figures: SVG text by the figures' names.

    Returns:
        The page, equal for equal contents.
    """
    return render_page(
        title=contents.title,
        facts=list(_facts(contents)),
        command=contents.command,
        verdict=verdict_box(contents.verdict, contents.margin, contents.inherited),
        tiles=list(_tiles(contents)),
        notes=contents.notes,
        warned=contents.warned,
        columns=_columns(contents),
        rows=list(_rows(contents.models, frames=contents.heard is not None, part=contents.judged_on)),
        seeds=[_seed_row(row) for row in contents.seeds],
        figures=[
            (plate.name, plate.title, plate.explain(contents), figures[plate.name])
            for plate in PLATES
            if plate.name in figures
        ],
        config=contents.config,
        tried=contents.tried,
        sheets=sheets_of(contents),
    )


def render_page(
    *,
    title: str,
    facts: Sequence[str],
    tiles: Sequence[tuple[str, str]],
    notes: Sequence[str],
    warned: Sequence[str] = (),
    figures: Sequence[tuple[str, str, str, str]],
    config: Mapping[str, Any],
    command: str | None = None,
    verdict: Mapping[str, Any] | None = None,
    columns: Sequence[Mapping[str, str]] = (),
    rows: Sequence[tuple[str, Sequence[str]]] = (),
    seeds: Sequence[Sequence[str]] = (),
    table: Mapping[str, Any] | None = None,
    tried: str | None = None,
    sheets: Sequence[Sheet] = (),
) -> str:
    """Render a page of given parts as HTML; all text in them is escaped.

    Args:
        title: Heading of the page.
        facts: A few words each, under the heading.
        tiles: The key numbers, each with its name.
        notes: Remarks, one per paragraph.
        warned: Warnings of the run, shown below the verdict.
        figures: Name, title, explanation and SVG text of each figure.
        config: The settings, nested.
        command: The command line that made it, or None.
        verdict: ``tone``, ``heading`` and ``sentences``, or None.
        columns: The compared models: ``role``, ``title`` and ``colour``.
        rows: The metrics, with one text per column.
        seeds: Four texts per seed.
        table: ``title``, ``heading`` and ``rows`` of a plain table, or None.
        tried: URL of an interactive page of the network, or None.
        sheets: More tables, with an explanation each, before the figures.

    Returns:
        The page, equal for equal parts.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("limbeck.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        facts=facts,
        command=command,
        verdict=verdict,
        tiles=tiles,
        notes=notes,
        warned=warned,
        columns=columns,
        rows=rows,
        seeds=seeds,
        table=table,
        tried=tried,
        sheets=sheets,
        plates=[
            embedded(text) | {"name": name, "title": heading, "words": _unbroken(words)}
            for name, heading, words, text in figures
        ],
        settings=list(_flat(config)),
    )
    return harmless(page)


def _facts(contents: Contents) -> Iterator[str]:
    yield contents.created
    if contents.labels is not None:
        yield f"{len(contents.labels):,} {contents.judged_on} examples, {len(contents.classes)} classes"
    if contents.temperature is not None:
        yield f"temperature {contents.temperature:g}"
    if contents.hard_weight is not None:
        yield f"hard weight {contents.hard_weight:g}"


_TONES: Mapping[object, tuple[str, str]] = {
    True: ("helped", "it helped"),
    False: ("worse", "it did not help"),
    "as good": ("helped", "as good within the margin"),
    "worse": ("worse", "worse"),
}


def verdict_box(
    verdict: Mapping[str, Any] | None, margin: Mapping[str, Any] | None, inherited: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The contents of the verdict's box.

    Args:
        verdict: Its entry in ``metrics.json``, or None.
        margin: The entry of the non-inferiority verdict, or None.
        inherited: The entry of the teacher's mistakes that the student repeats, or None.

    Returns:
        ``tone``, ``heading`` and ``sentences``; None where neither says anything.
    """
    if not sentences({"verdict": verdict, "margin": margin}):
        return None
    told = sentences({"verdict": verdict, "margin": margin, "inherited": inherited})
    said = verdict.get("helped") if verdict and verdict.get("sentence") else (margin or {}).get("outcome")
    tone, heading = _TONES.get(said if isinstance(said, bool | str) else None, ("open", "undecided"))
    return {"tone": tone, "heading": f"Verdict: {heading}", "sentences": [_unbroken(text) for text in told]}


def _tiles(contents: Contents) -> Iterator[tuple[str, str]]:
    # The key numbers.
    if contents.way:
        yield from _way_tiles(contents)
        return
    scores = {model.role: model.scores for model in reversed(contents.models)}
    student, teacher, baseline = (scores.get(role, {}) for role in ("student", "teacher", "baseline"))
    if _known(student, "wer"):
        rival = f", baseline {100 * baseline['wer']:.1f} %" if _known(baseline, "wer") else ""
        yield f"{100 * student['wer']:.1f} %", f"word error rate{rival}"
    if student and _known(student, "test_errors"):
        rival = f", baseline {baseline['test_errors']}" if _known(baseline, "test_errors") else ""
        yield f"{student['test_errors']}", f"student's {contents.judged_on} errors{rival}"
    if _known(student, "parameters") and _known(teacher, "parameters"):
        share = teacher["parameters"] / student["parameters"]
        if share != 1:
            yield f"{_ratio(max(share, 1 / share))}×", f"{'fewer' if share > 1 else 'more'} weights than the teacher"
    if _known(student, "latency_ms") and _known(teacher, "latency_ms"):
        share = teacher["latency_ms"] / student["latency_ms"]
        if max(share, 1 / share) >= _NOISE:
            words = f"{'faster' if share > 1 else 'slower'} than the teacher, batch size 1"
            yield f"{_ratio(max(share, 1 / share))}×", words
    if _known(student, "agreement_with_teacher"):
        yield f"{100 * student['agreement_with_teacher']:.2f} %", "agreement with the teacher"


def _way_tiles(contents: Contents) -> Iterator[tuple[str, str]]:
    scores = {model.role: model.scores for model in contents.models}
    first, last = scores.get(contents.way[0], {}), scores.get(contents.way[-1], {})
    start = clean(contents.way[0], 20)
    for name, words in (
        ("file_bytes", "smaller file than the"),
        ("parameters", "fewer weights than the"),
        ("multiply_adds", "fewer multiply-adds than the"),
    ):
        if _known(first, name) and _known(last, name) and first[name] > last[name]:
            yield f"{_ratio(first[name] / last[name])}×", f"{words} {start}"
    if _known(first, "accuracy") and _known(last, "accuracy"):
        points = f"{100 * (last['accuracy'] - first['accuracy']):+.2f}".replace("-", "\N{MINUS SIGN}")
        yield points, f"points of accuracy, from {100 * first['accuracy']:.2f} %"


def _unbroken(text: str) -> str:
    # Keep a number and its per cent sign on one line.
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _known(scores: Mapping[str, Any], name: str) -> bool:
    value = scores.get(name)
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _ratio(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.2g}"


def _columns(contents: Contents) -> list[dict[str, str]]:
    roles = [model.role for model in contents.models]
    return [{"role": m.role, "title": m.title, "colour": colour(m.role, roles)} for m in contents.models]


def _time(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _debiased(value: float) -> str:
    """Format a debiased calibration error; at 0 the bins differ by no more than chance."""
    return f"{100 * value:.2f} %" if value > 0 else "within chance"


_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("wer", "Word error rate", lambda value: f"{100 * value:.2f} %"),
    ("insertions", "Words inserted", lambda value: f"{value:,.0f}"),
    ("deletions", "Words deleted", lambda value: f"{value:,.0f}"),
    ("substitutions", "Words substituted", lambda value: f"{value:,.0f}"),
    ("acoustic_scale", "Acoustic scale", lambda value: f"{value:g}"),
    ("real_time_factor", "Real-time factor, one core", lambda value: f"{value:.3f}"),
    ("test_errors", "Errors", lambda value: f"{value:,.0f}"),
    ("test_examples", "Examples", lambda value: f"{value:,.0f}"),
    ("accuracy", "Accuracy", lambda value: f"{100 * value:.2f} %"),
    ("nll", "Negative log-likelihood (nats)", lambda value: f"{value:.4f}"),
    ("balanced_accuracy", "Balanced accuracy", lambda value: f"{100 * value:.2f} %"),
    ("ece", "Calibration error", lambda value: f"{100 * value:.2f} %"),
    ("ece_debiased", "Calibration error, root mean square, debiased", _debiased),
    ("calibration_temperature", "Calibration temperature", lambda value: f"{value:.3g}"),
    ("calibrated_nll", "Negative log-likelihood, calibrated (nats)", lambda value: f"{value:.4f}"),
    ("calibrated_ece", "Calibration error, calibrated", lambda value: f"{100 * value:.2f} %"),
    ("calibrated_ece_debiased", "Calibration error, calibrated, debiased", _debiased),
    ("agreement_with_teacher", "Agreement with the teacher", lambda value: f"{100 * value:.2f} %"),
    ("agreement_with_original", "Agreement with the original network", lambda value: f"{100 * value:.2f} %"),
    ("parameters", "Weights", lambda value: f"{value:,.0f}"),
    ("file_bytes", "File", lambda value: re.sub(r"([kMG]?)$", r" \1B", number(value), count=1)),
    ("multiply_adds", "Multiply-adds per example", number),
    ("latency_ms", "Latency, one example (ms)", lambda value: f"{value:.3g}"),
    ("images_per_second", "Examples per second", number),
    ("training_seconds", "Time of training", _time),
    ("training_joules", "Energy of the machine while training", lambda value: f"{value / 3600:.3g} Wh"),
)


_OF_FRAMES = {"Errors": "Frame errors", "Examples": "Frames", "Accuracy": "Frame accuracy"}


def _rows(models: tuple[Model, ...], *, frames: bool, part: str) -> Iterator[tuple[str, list[str]]]:
    for key, plain, form in _ROWS:
        name = _OF_FRAMES.get(plain, plain) if frames else plain
        if key in {"test_errors", "test_examples"}:
            name = f"{part.capitalize()} {name.lower()}"
        values = [model.scores.get(key) for model in models]
        if any(value is not None for value in values):
            yield name, [score_cell(model.scores, key, partial(_shown, form), _DASH) for model in models]


def _shown(form: Callable[[float], str], value: Any) -> str:
    return form(float(value)) if isinstance(value, int | float) and math.isfinite(value) else _DASH


def _seed_row(row: Mapping[str, Any]) -> list[str]:
    student, baseline = row.get("student_errors"), row.get("baseline_errors")
    difference = _DASH
    if student is not None and baseline is not None:
        difference = f"{student - baseline:+d}".replace("-", "\N{MINUS SIGN}")
    return [str(value if value is not None else _DASH) for value in (row.get("seed"), student, baseline)] + [difference]


def embedded(text: str) -> dict[str, Any]:
    """An SVG as an embedded image: its data URL and its size in pixels."""
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text)
    wide, tall = (float(side) for side in size.groups()) if size else (648.0, 360.0)
    data = base64.b64encode(text.encode()).decode()
    return {
        "source": f"data:image/svg+xml;base64,{data}",
        "width": round(wide * 96 / 72),
        "height": round(tall * 96 / 72),
    }


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield clean(f"{prefix}{name}", 200), "none" if value is None else clean(value, 2000)
