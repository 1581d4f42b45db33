r"""Exported networks over whole test sets, asked by processes that have nothing of Limbeck.

    python benchmarks/export_networks.py --letters emnist-letters.mat --speech so762 \
        [--ort-web onnxruntime-web-1.30.0.tgz] [--markdown docs/results/export.md] [--json FILE]

Six networks are trained for a few minutes on real data, so that their answers have margins: an MLP, a MobileNet of
timm and a ViT of transformers on MNIST; a CNN on the letters of EMNIST; a BERT of transformers on descriptions of
Debian packages (``apt-cache dumpavail``); and an acoustic model of Kaldi's nnet1 on frames of speech
(``exported_cases.py``). Each is exported to each format that makes sense. A process in which Limbeck cannot be imported
(``asked_alone.py``) loads the file and answers every test example; pages run in Node.js. Its answers are compared with
those of the network in PyTorch (``exported_answers.py``).

Of formats that compute in float32 an answer may differ only where it was a tie (a lead of no more than four roundings).
The int8 file is shown to be within 0.5 points of the network's error rate (Tango's interval), or it is refused. Size
and latency of it are given as shares of those of the float32 file: one example, one thread, in turns in one process.
``--quick`` trains on a few hundred examples, and shows only that all of it runs.
"""

import argparse
import datetime
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from exported_answers import measure
from exported_cases import cases, few, pages_need_runtime, without_page
from limbeck.system.files import replace_text
from limbeck.system.machine import machine

START, END = "<!-- tables: written by benchmarks/export_networks.py -->", "<!-- end of tables -->"


def page(rows: list[dict[str, Any]]) -> str:
    """The tables, in Markdown."""
    lines = [
        "| network | format | bytes | answers that differ | no ties | largest difference of a logit | accuracy | "
        "peak memory, MB | verdict |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        name = f"{row['network']} ({row['test_examples']:,} examples, {100 * row['accuracy']:.2f} % right)"
        for kind, found in row["files"].items():
            if "flips" not in found:
                why = next(f"{what.replace('_', ' ')}: {text}" for what, text in found.items())
                lines.append(f"| {name} | {kind} | | | | | | | {why.replace('|', '/')} |")
                continue
            apart = f"within {found['points']:g} points" if found["margin"] == "as good" else found["margin"]
            memory = "" if found["peak_memory"] is None else f"{found['peak_memory']['bytes'] / 1e6:,.0f}"
            verdict = apart if kind == "int8" else "ties alone" if not found["unexplained"] else "**wrong**"
            lines.append(
                f"| {name} | {kind} | {found['bytes']:,} | {found['flips']:,} | {found['unexplained']:,} | "
                f"{found['largest_difference']:.2g} | {100 * found['accuracy']:.2f} % | {memory} | {verdict} |"
            )
    lines += [
        "",
        "| network | bytes of int8 / float32 | latency of int8 / float32 (quartiles) | float32, ms | int8, ms |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        if (ratio := row["int8_over_float32"]) is not None:
            low, high = ratio["latency_quartiles"]
            ms = [f"{1000 * ratio['seconds'][kind]:.3f}" for kind in ("onnx", "int8")]
            lines.append(
                f"| {row['network']} | {ratio['size']:.2f} | {ratio['latency']:.2f} ({low:.2f} to {high:.2f}) | "
                f"{ms[0]} | {ms[1]} |"
            )
    about = machine(("limbeck", "torch", "onnx", "onnxruntime", "timm", "transformers"))
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    place = f"{about.get('processor') or about.get('cpu') or ''}".strip()
    lines += ["", f"{datetime.date.today()}; {place}; {versions}."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 where an answer of a float32 file differs that was not a tie."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--letters", metavar="FILE", help="letters of EMNIST; without them that network is left out")
    parser.add_argument("--speech", metavar="FOLDER", help="Kaldi's directories by their usual names; likewise")
    parser.add_argument(
        "--ort-web", metavar="FILE", help="the npm package onnxruntime-web, for pages of other networks"
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="networks whose name holds one of these")
    parser.add_argument("--formats", nargs="*", default=[], metavar="NAME", help="these formats alone")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="put the tables between the marks of this page")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="keep the results in a file; networks that it holds are not run again"
    )
    parser.add_argument("--quick", action="store_true", help="a short run that shows only that all of it works")
    options = parser.parse_args(arguments)
    rows = json.loads(options.json.read_text()) if options.json is not None and options.json.is_file() else []
    done = {row["network"] for row in rows}
    with tempfile.TemporaryDirectory() as place:
        for number, case in enumerate(cases(options, Path(place))):
            if case.name in done:
                continue
            data = case.data()
            if data is None:
                print(f"{case.name}: its data are not named, so it is left out", file=sys.stderr)
                continue
            if options.quick:
                data = few(data, 200)
            case_ = case if options.ort_web or not pages_need_runtime(case) else without_page(case)
            rows.append(measure(case_, data, Path(place) / str(number), options))
            print(json.dumps(rows[-1]), file=sys.stderr)
            if options.json is not None:
                replace_text(options.json, json.dumps(rows, indent=2) + "\n")
            shutil.rmtree(Path(place) / str(number))
    names = [case.name for case in cases(options, Path())]
    rows.sort(key=lambda row: names.index(row["network"]) if row["network"] in names else len(names))
    written = page(rows)
    print(written)
    if options.markdown is not None:
        text = options.markdown.read_text()
        before, after = text.split(START)[0], text.split(END)[1]
        replace_text(options.markdown, f"{before}{START}\n\n{written}\n\n{END}{after}")
    float32 = [found for row in rows for kind, found in row["files"].items() if kind != "int8"]
    return int(any(found.get("unexplained") for found in float32))


if __name__ == "__main__":
    sys.exit(main())
