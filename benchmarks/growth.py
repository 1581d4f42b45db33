"""How time and memory grow with examples, classes, members, seeds, shards, length of texts, and sizes of files.

    python benchmarks/growth.py [--axes NAME ...] [--markdown docs/results/growth.md] [--json FILE] [--quick]

Each size of each axis is measured in a process of its own, part by part: seconds by the clock and of the processor, and
the growth of the process to its peak within the part. The exponent is that of the power of the size by which the upper
half of the sizes grows, on logarithmic axes: 1 is linear, 2 quadratic. What grows faster than linearly is marked.
"""

import argparse
import datetime
import json
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from growth_cases import AXES, Axis, files_for
from memory_use import forget_peak, held_bytes, peak_bytes
from whole_common import processor, threads

_LEAST = 1_000_000
"""Growth of memory below which it is not told from none, bytes."""
START, END = "<!-- tables: written by benchmarks/growth.py -->", "<!-- end of tables -->"


def child(axis: Axis, size: int, folder: Path) -> dict[str, Any]:
    """All parts of a size, in this process."""
    import torch

    import limbeck

    # Imports and first uses are not what grows.
    _ = limbeck.distill, limbeck.train, limbeck.SoftTargets, limbeck.Ensemble
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    known: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for name, work in axis.work.items():
        forget_peak()
        held, began, used = held_bytes(), time.perf_counter(), processor()
        work(folder, size, known)
        found[name] = {"clock": time.perf_counter() - began, "processor": processor() - used}
        found[name]["memory"] = max(_LEAST, peak_bytes() - held)
    return found


def measured(axis: Axis, size: int) -> dict[str, Any]:
    """All parts of a size, in a fresh process."""
    with files_for(axis, size) as folder:
        command = [sys.executable, __file__, "--child", axis.name, str(size), folder]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{axis.name} {size} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of a line through the upper half of the points, at least two, on logarithmic axes."""
    few = max(2, (len(sizes) + 1) // 2)
    x, y = ([math.log(value) for value in some[-few:]] for some in (sizes, values))
    mean_x, mean_y = sum(x) / few, sum(y) / few
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)


def rows_of(axis: Axis, sizes: Sequence[int], found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each part: what was measured, and the exponents."""
    rows = []
    for part in axis.work:
        columns = {kind: [each[part][kind] for each in found] for kind in ("clock", "processor", "memory")}
        exponents = {kind: exponent(sizes, columns[kind]) for kind in ("processor", "memory")}
        rows.append({"axis": axis.name, "part": part, "sizes": list(sizes), **columns, "exponents": exponents})
    return rows


def short(size: float) -> str:
    """A size as people write it."""
    for unit, letter in ((1 << 30, " GB"), (1 << 20, " MB")):
        if size >= 1 << 24 and size % (1 << 20) == 0 and size >= unit:
            return f"{size / unit:g}{letter}"
    return f"{size:,}"


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """The tables, in Markdown: exponents first, then each axis."""
    lines = [
        "| what grows | part | time grows by the power | memory | worse than linear because |",
        "|---|---|---:|---:|---|",
    ]
    known = {axis.name: axis for axis in AXES}
    for row in rows:
        axis, powers = known[row["axis"]], row["exponents"]
        worse = max(powers.values()) > axis.most
        reason = (axis.reason or "**not explained**") if worse else ""
        lines.append(
            f"| {row['axis']} | {row['part']} | {powers['processor']:.2f} | {powers['memory']:.2f} | {reason} |"
        )
    for axis in AXES:
        mine = [row for row in rows if row["axis"] == axis.name]
        if not mine:
            continue
        heads = [f"{row['part']}, {what}" for row in mine for what in ("s", "processor s", "MB")]
        lines += ["", f"**{axis.name}**: {axis.what}.", ""]
        lines += [f"| {axis.name} | {' | '.join(heads)} |", f"|---:|{'---:|' * len(heads)}"]
        for place, size in enumerate(mine[0]["sizes"]):
            cells = []
            for row in mine:
                cells += [f"{row['clock'][place]:.2f}", f"{row['processor'][place]:.2f}"]
                cells.append(f"{row['memory'][place] / 1e6:,.0f}")
            lines.append(f"| {short(size)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: Sequence[Mapping[str, Any]]) -> str:
    """Small multiples: an axis each, time and memory over the size, and a linear one to compare with, as SVG."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    from limbeck.report.figures_style import MUTED, colour, figure, legend, number, styled, svg, tidy

    axes_named = list(dict.fromkeys(row["axis"] for row in rows))
    wide = min(3, len(axes_named))
    tall = -(-len(axes_named) // wide)
    with styled():
        drawing = figure(3.4 * wide, 0.5 + 2.7 * tall)
        grid = drawing.subplots(tall, wide, squeeze=False)
        for place, name in enumerate(axes_named):
            axes = grid[place // wide][place % wide]
            mine = [row for row in rows if row["axis"] == name]
            for row, role in zip(mine, ("teacher", "student"), strict=False):
                last = row["processor"][-1], row["memory"][-1] / 1e8
                axes.plot(row["sizes"], row["processor"], "o-", color=colour(role), markersize=4)
                axes.plot(row["sizes"], [size / 1e8 for size in row["memory"]], "s--", color=colour(role), markersize=4)
                axes.annotate(row["part"], (row["sizes"][-1], last[0]), fontsize=8, color=colour(role), ha="right",
                              xytext=(0, 6), textcoords="offset points")  # fmt: skip
            ends = mine[0]["sizes"][0], mine[0]["sizes"][-1]
            top = max(row["processor"][-1] for row in mine)
            axes.plot(ends, [top * ends[0] / ends[1], top], ":", color=MUTED, linewidth=1.2)
            axes.set(xscale="log", yscale="log", title=name)
            least = min(min(row["processor"]) for row in mine)
            axes.set_ylim(bottom=min(least, min(min(row["memory"]) for row in mine) / 1e8) / 2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            tidy(axes)
        for place in range(len(axes_named), wide * tall):
            grid[place // wide][place % wide].set_axis_off()
        shown = grid[0][0].get_lines()
        legend(drawing, [shown[0], shown[1], shown[-1]], ["processor time, s", "memory, 100 MB", "linear in the size"])
        return svg(drawing)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [axis.name for axis in AXES]
    parser.add_argument("--axes", nargs="*", choices=names, default=names, metavar="NAME",
                        help=f"{', '.join(names)}; none to draw what --json holds")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file; axes that are not "
                        "measured are kept")  # fmt: skip
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write tables and figure into a page")
    parser.add_argument("--quick", action="store_true", help="two small sizes of each, which only show that it works")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        warnings.simplefilter("ignore")
        axis = next(axis for axis in AXES if axis.name == options.child[0])
        print(json.dumps(child(axis, int(options.child[1]), Path(options.child[2]))))
        return 0
    rows: list[dict[str, Any]] = []
    if options.json is not None and options.json.exists() and not options.quick:
        rows = [row for row in json.loads(options.json.read_text())["rows"] if row["axis"] not in options.axes]
    for axis in AXES:
        if axis.name not in options.axes:
            continue
        sizes, found = axis.few if options.quick else axis.sizes, []
        for size in sizes:
            found.append(measured(axis, size))
            told = ", ".join(
                f"{part} {each['clock']:.2f} s, {each['processor']:.2f} of the processor, {each['memory'] / 1e6:.0f} MB"
                for part, each in found[-1].items()
            )
            print(f"{axis.name} {size:,}: {told}", flush=True)
        rows += rows_of(axis, sizes, found)
        if options.json is not None:
            options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    rows.sort(key=lambda row: names.index(row["axis"]))
    text = tables(rows)
    print(f"\n{text}")
    if options.markdown is not None:
        write_page(options.markdown, rows, text)
    return 0


def write_page(path: Path, rows: Sequence[Mapping[str, Any]], text: str) -> None:
    """Put tables and figure into a page, between its marks; the rest of the page is kept."""
    import torch

    from limbeck.system.machine import machine

    here = machine()
    whole = path.read_text() if path.exists() else f"# Growth\n\n{START}\n{END}\n"
    before, after = whole.split(START)[0], whole.split(END)[1]
    figure = path.with_suffix(".svg")
    figure.write_text(draw(rows))
    where = (
        f"{datetime.date.today()}, {here['processor']}, {here['cores']} cores, {threads()} thread"
        f"{'' if threads() == 1 else 's'}, torch {torch.__version__}"
    )
    path.write_text(
        f"{before}{START}\n\n{where}.\n\n![Time and memory over size]({figure.name})\n\n{text}\n\n{END}{after}"
    )


if __name__ == "__main__":
    sys.exit(main())
