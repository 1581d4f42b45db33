"""Execute the notebooks whose sources are in ``notebooks/``, and keep them with their outputs in ``docs/notebooks/``.

``make notebooks`` runs this. Sources are Python files in the percent format, so that they are read, formatted and
tested as Python is; the site shows the executed ones and executes nothing. What differs with each run or machine is
taken out: times, paths, and progress bars.
"""

import argparse
import ast
import base64
import io
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks"
EXECUTED = ROOT / "docs" / "notebooks"
LARGEST = 300_000
"""Bytes of an executed notebook."""
_SMALL = (420, 220)
"""Largest width and height of a gallery image, in pixels."""

_FIGURES = """\
figure.dpi: 80
figure.figsize: 7, 3.2
figure.constrained_layout.use: True
axes.spines.top: False
axes.spines.right: False
axes.grid: True
grid.alpha: 0.3
axes.prop_cycle: cycler('color', ['0072b2', 'd55e00', '009e73', 'cc79a7', 'e69f00', '56b4e9'])
"""
_UNSAID = "ignore:IProgress not found"  # tqdm, of other packages, about widgets that are not installed
_LINE_OF_A_CELL = re.compile(r"\S*/ipykernel_\d+/\d+\.py:\d+: ")


def executed(source: Path, seconds: int) -> Any:
    """The notebook of a source, executed in an empty folder, with all that is only of this run taken out."""
    notebook = jupytext.read(source)
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "matplotlibrc").write_text(_FIGURES)
        client = NotebookClient(
            notebook, timeout=seconds, resources={"metadata": {"path": folder}}, record_timing=False,
            coalesce_streams=True,
        )  # fmt: skip
        client.execute()
    for number, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type == "code":
            cell.outputs = [_plain(each) for each in cell.outputs if not _is_progress(each)]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def retold(source: Path, kept: Path) -> Any:
    """The kept notebook with the text of its source, where the code is the same but for its layout; else None."""
    fresh, notebook = jupytext.read(source), nbformat.read(kept, as_version=4)
    code, before = ([cell for cell in each.cells if cell.cell_type == "code"] for each in (fresh, notebook))
    meant, meant_before = ([ast.dump(ast.parse(cell.source)) for cell in each] for each in (code, before))
    if meant != meant_before:
        return None
    for cell, one in zip(code, before, strict=True):
        cell.outputs, cell.execution_count = one.outputs, one.execution_count
    for number, cell in enumerate(fresh.cells, 1):
        cell.id, cell.metadata = f"cell-{number}", {}
    fresh.metadata, fresh.nbformat_minor = notebook.metadata, notebook.nbformat_minor
    return fresh


def _is_progress(output: Any) -> bool:
    """Whether an output is a progress bar: its times would differ with each run."""
    return "<progress" in str(output.get("data", {}).get("text/html", ""))


def _plain(output: Any) -> Any:
    """The output without the temporary file that a warning names, and without a second form beside HTML or a figure."""
    if output.output_type == "stream":
        output.text = _LINE_OF_A_CELL.sub("", output.text)
    elif "text/html" in output.get("data", {}) or "image/png" in output.get("data", {}):
        output.data.pop("text/plain", None)
    return output


def gallery_image(notebook: Any) -> bytes:
    """The notebook's richest figure, small and in few colours, as a PNG file."""
    figures = [
        base64.b64decode(output.data["image/png"])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    image = Image.open(io.BytesIO(max(figures, key=len))).convert("RGB")
    image.thumbnail(_SMALL, Image.Resampling.LANCZOS)
    kept = io.BytesIO()
    image.quantize(64).save(kept, "PNG", optimize=True)
    return kept.getvalue()


def refused(text: str) -> list[str]:
    """What an executed notebook must not hold: too much, an error, or the name of a place on this machine."""
    found = []
    if len(text.encode()) > LARGEST:
        found.append(f"{len(text.encode()):,} bytes, and at most {LARGEST:,} are allowed")
    if '"output_type": "error"' in text:
        found.append("an error")
    words = re.sub(r'"image/png": "[^"]*"', "", text)
    for place in (tempfile.gettempdir(), str(ROOT), str(Path.home()), sys.prefix, platform.node(), "site-packages"):
        if place and re.search(rf"(?<![\w.]){re.escape(place)}(?![\w-])", words):
            found.append(f"a name of this machine, {place}")
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Execute the named notebooks, or all; 1 where one must not be kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="stems such as first-distillation; none for all")
    parser.add_argument("--text", action="store_true", help="take over changed text alone, and execute nothing")
    parser.add_argument("--seconds", type=int, default=900, help="the longest that a cell may take")
    asked = parser.parse_args(given)
    sources = {path.stem: path for path in sorted(SOURCES.glob("*.py"))}
    unknown = set(asked.names) - set(sources)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(sources)}")
    os.environ["PYTHONWARNINGS"] = _UNSAID
    EXECUTED.mkdir(exist_ok=True)
    bad = 0
    for name in asked.names or sources:
        began = time.monotonic()
        kept = EXECUTED / f"{name}.ipynb"
        notebook = retold(sources[name], kept) if asked.text else executed(sources[name], asked.seconds)
        if notebook is None:
            print(f"{name}: its code has changed, so it has to be executed")
            bad += 1
            continue
        text = nbformat.writes(notebook, indent=1) + "\n"
        wrong = refused(text)
        bad += bool(wrong)
        if not wrong:
            kept.write_text(text)
            (EXECUTED / "images").mkdir(exist_ok=True)
            (EXECUTED / "images" / f"{name}.png").write_bytes(gallery_image(notebook))
        said = f"refused: {'; '.join(wrong)}" if wrong else f"{len(text) / 1000:.0f} KB"
        print(f"{name}: {time.monotonic() - began:.0f} s, {said}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
