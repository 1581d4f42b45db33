"""The parity page of an export: agreement of its files with the model, cost, and differing examples."""

__all__ = ["FileSummary", "Flip", "ParityContents", "write_parity_page"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.report.figures_softness import show_picture
from limbeck.report.figures_style import INK, clean, colour, figure, legend, number, styled, svg, tidy
from limbeck.report.page import render_page
from limbeck.system.files import replace_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS, _MOST_FLIPS = 7, 21
_DASH = "–"


@dataclass(frozen=True, eq=False)
class Flip:
    """An example that a file predicts differently.

    Attributes:
        format: Format of the file.
        row: Row of the example.
        original: The original's prediction, as text.
        exported: The file's prediction.
        label: The true class; None where it is not known.
        margin: The lead of the original's predicted class in logits; None where it is not finite.
        tie: Whether that is within rounding.
        image: Pixels, uint8 ``(H, W)`` or ``(H, W, 3)``, or None.
    """

    format: str
    row: int
    original: str
    exported: str
    label: str | None
    margin: float | None
    tie: bool
    image: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class FileSummary:
    """A file and its measurements.

    Attributes:
        name: Name of the format.
        measured: The contents of ``parity.json`` of it; ``not_run`` alone says why where nothing was measured.
        differences: Largest difference per example.
        sentence: The conclusion, in one line.
    """

    name: str
    measured: Mapping[str, Any]
    differences: NDArray[np.float64]
    sentence: str


@dataclass(frozen=True, eq=False)
class ParityContents:
    """What the page shows.

    Attributes:
        title: Of the model.
        created: When, as text.
        part: The part of the data that the files were evaluated on.
        examples: How many.
        files: One per format.
        flips: Examples that a file predicts differently.
        notes: Remarks, a paragraph each.
        settings: Versions, processor, digests, nested.
    """

    title: str
    created: str
    part: str
    examples: int
    files: tuple[FileSummary, ...]
    flips: tuple[Flip, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_parity_page(contents: ParityContents, path: Path) -> Path:
    """Write the page atomically.

    Args:
        contents: What it shows.
        path: The HTML file; its folder must exist.

    Returns:
        The file.
    """
    refused = any(file.measured["refused"] for file in contents.files)
    sentences = [file.sentence for file in contents.files]
    run = [file for file in contents.files if not file.measured.get("not_run")]
    counts = [file.measured["flips"] for file in run]
    apart = sum(each["count"] - each["ties"] for each in counts)
    words = "refused" if refused else "some predictions differ" if apart else "all predictions agree"
    if len(run) < len(contents.files):
        words = words if refused or apart else "some files were not run here"
        contents = replace(contents, files=tuple(run))
    drawn = {"flips": draw_flips(contents), "differences": draw_differences(contents)} if run else {}
    names = [file.name for file in contents.files]
    page = render_page(
        title=f"{contents.title}: parity of what was exported",
        facts=[contents.created, f"{contents.examples:,} {contents.part} examples"],
        verdict={
            "tone": "worse" if refused else "open" if apart or len(run) < len(sentences) else "helped",
            "heading": f"Parity: {words}",
            "sentences": sentences,
        },
        tiles=list(_tiles(contents)) if run else [],
        notes=contents.notes,
        columns=[
            {"role": "original", "title": "PyTorch", "colour": colour("teacher")},
            *[{"role": f.name, "title": f.measured["file"], "colour": colour(f.name, names)} for f in contents.files],
        ],
        rows=list(_rows(contents)) if run else [],
        figures=[(name, *_WORDS[name], svg(drawing)) for name, drawing in drawn.items() if drawing is not None],
        table=_table(contents),
        config=contents.settings,
    )
    replace_text(path, page)
    return path


_WORDS = {
    "flips": (
        "Predictions that differ",
        "Above each image is its true class, below it the original's prediction and the file's, and the lead of the "
        "original's top logit. A lead within rounding is a tie: either prediction is right. The largest leads come "
        "first.",
    ),
    "differences": (
        "Differences of the outputs",
        "The largest difference of any output of an example, over all examples, on a logarithmic axis. Files that "
        "compute the same network in float32 differ by rounding: some ten-millionths of the logits' size. The "
        "dashed line is the rounding of the original itself, in float32 against float64.",
    ),
}


def _tiles(contents: ParityContents) -> Iterator[tuple[str, str]]:
    for file in contents.files:
        flips = file.measured["flips"]
        yield f"{flips['count']:,}", f"of {contents.examples:,} predictions of {file.name} differ"
    first = contents.files[0].measured
    speed = first.get("speed")
    if speed:
        faster = speed["original"]["p50_ms"] / speed["exported"]["p50_ms"]
        yield f"{faster:.2g}×", f"as fast as PyTorch, {contents.files[0].name}, one example, one thread"
    yield f"{number(first['bytes'])}B", f"in {first['file']}"


def _rows(contents: ParityContents) -> Iterator[tuple[str, Sequence[str]]]:
    measured = [file.measured for file in contents.files]

    def both(name: str, pick: str, form: str, factor: float = 1.0) -> tuple[str, list[str]]:
        values = [measured[0]["original"][pick], *(each["exported"][pick] for each in measured)]
        return name, [_DASH if value is None else form.format(factor * value) for value in values]

    def each(name: str, values: Sequence[Any], form: str, first: Any = None) -> tuple[str, list[str]]:
        return name, [_DASH if value is None else form.format(value) for value in (first, *values)]

    yield each("Predictions that differ", [m["flips"]["count"] for m in measured], "{:,}")
    yield each("of which ties", [m["flips"]["ties"] for m in measured], "{:,}")
    yield each("Share that differs, exact 95 % upper limit", [100 * m["flips"]["high"] for m in measured], "{:.3g} %")
    for place, name in (("p50", "median"), ("p99", "99 %"), ("max", "largest")):
        yield each(f"Difference of an output, {name}", [_difference(m, place) for m in measured], "{:.2g}")
    yield each("Divergence, mean (nats)", [m["divergence"]["mean"] for m in measured], "{:.2g}")
    yield both("Accuracy", "accuracy", "{:.2f} %", 100)
    yield both("Negative log-likelihood (nats)", "nll", "{:.4f}")
    yield both("Calibration error", "ece", "{:.2f} %", 100)
    yield "Error rate minus the original's, 95 % (points)", [_DASH, *[_points(m) for m in measured]]
    for name, key, form in (
        ("Latency, one example, median (ms)", "p50_ms", "{:.3g}"),
        ("Latency, one example, 95 % (ms)", "p95_ms", "{:.3g}"),
        ("Examples per second, one thread", "examples_per_second", "{:,.0f}"),
    ):
        speeds = [m.get("speed") for m in measured]
        first = next((s["original"][key] for s in speeds if s), None)
        yield each(name, [None if s is None else s["exported"][key] for s in speeds], form, first)
    yield each("Bytes", [m["bytes"] for m in measured], "{:,}")
    for name, key in (
        ("Peak memory of a process of its own (MB)", "bytes"),
        ("of which before the file is loaded", "runtime_bytes"),
    ):
        peaks = [(m.get("peak_memory") or {}).get(key) for m in measured]
        if any(peaks):
            yield each(name, [None if peak is None else peak / 1e6 for peak in peaks], "{:,.0f}")


def _difference(measured: Mapping[str, Any], place: str) -> Any:
    found = measured.get("logit_differences") or measured.get("probability_differences") or {}
    return found.get(place)


def _points(measured: Mapping[str, Any]) -> str:
    found = measured["error_rate_difference"]
    if found is None:
        return _DASH
    return f"{100 * found['low']:.2f} to {100 * found['high']:.2f}".replace("-", "\N{MINUS SIGN}")


def _table(contents: ParityContents) -> dict[str, Any] | None:
    if not contents.flips:
        return None
    rows = [
        (
            flip.format,
            f"{flip.row:,}",
            clean(flip.label if flip.label is not None else _DASH, 30),
            clean(flip.original, 30),
            clean(flip.exported, 30),
            _DASH if flip.margin is None else f"{flip.margin:.2g}",
            "tie" if flip.tie else "",
        )
        for flip in contents.flips
    ]
    heading = ("format", "example", "true class", "original", "exported", "lead", "")
    return {"title": "Predictions that differ, by example", "heading": heading, "rows": rows}


def draw_flips(contents: ParityContents) -> "Figure | None":
    """The images that a file predicts differently; None where there are none.

    Args:
        contents: What the page shows.

    Returns:
        The figure.
    """
    shown = [flip for flip in contents.flips if flip.image is not None][:_MOST_FLIPS]
    if not shown:
        return None
    lines = -(-len(shown) // _COLUMNS)
    with styled():
        drawing = figure(9.0, 1.95 * lines)
        grid = drawing.subplots(lines, _COLUMNS, squeeze=False)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        for axes, flip in zip(grid.flat, shown, strict=False):
            assert flip.image is not None
            show_picture(axes, flip.image)
            if flip.label is not None:
                axes.set_title(f"true: {clean(flip.label, 12)}", fontsize=8.5, pad=3, loc="center")
            lead = "" if flip.margin is None else f"lead {flip.margin:.2g}{', a tie' if flip.tie else ''}"
            words = f"{clean(flip.original, 14)} → {clean(flip.exported, 14)}\n{lead}\n{clean(flip.format, 16)}"
            axes.set_xlabel(words, fontsize=7.5, color=INK)
    return drawing


def draw_differences(contents: ParityContents) -> "Figure | None":
    """The distribution of output differences per file; None where nothing finite was measured.

    Args:
        contents: What the page shows.

    Returns:
        The figure.
    """
    names = [file.name for file in contents.files]
    known = {file.name: file.differences[np.isfinite(file.differences)] for file in contents.files}
    least = min((float(v[v > 0].min()) for v in known.values() if (v > 0).any()), default=0.0)
    most = max((float(v.max()) for v in known.values() if len(v)), default=0.0)
    if least <= 0 or most <= 0:
        return None
    edges = np.geomspace(least / 1.5, most * 1.5, 41)
    with styled():
        drawing = figure(9.0, 3.0)
        axes = drawing.add_subplot()
        handles = []
        for name, values in known.items():
            counts, _ = np.histogram(np.maximum(values, edges[0]), edges)
            handles.append(axes.stairs(counts, edges, color=colour(name, names), linewidth=1.6, baseline=None))
        rounding = contents.files[0].measured["rounding"]
        axes.axvline(rounding, color="#b4bcc5", linewidth=1, linestyle=(0, (3, 2)))
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set(xlabel="largest difference of an output", ylabel="examples")
        tidy(axes)
        legend(drawing, handles, names)
    return drawing
