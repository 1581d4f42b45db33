"""Whole jobs with Limbeck and with its peers, beside the least that the student's arithmetic takes.

    python benchmarks/whole_job.py [--jobs search images text] [--rounds 3] [--cache FOLDER] [--json FILE] [--quick]
    python benchmarks/whole_job.py --python torchdistill=ENVIRONMENT/bin/python keras=ENVIRONMENT/bin/python

- search: a teacher is given; four temperatures, three weights and three seeds are tried, and a verdict is asked for,
  with Limbeck, a ``DataLoader`` loop, torchdistill and ``keras.distillation``. Three of the peers' 36 trainings are
  measured and multiplied by 12, and their verdict is not counted; Limbeck's time is that of all 36, of the teacher's
  answers and of the verdict.
- images: a ResNet student, JPEGs from the disk, the teacher at each step; and with its answers stored.
- text: a small BERT of a larger one, the same two ways.

Each way is a process of its own, all in turns, with as many threads as ``OMP_NUM_THREADS`` says. A peer that is not
installed beside Limbeck is left out, unless ``--python`` names an interpreter that has both: torchdistill by
``pip install torchdistill``, Keras by ``pip install 'keras>=3.12' jax``. The limit is the operations of the students'
matrix products, forward and backward, at the rate of large products measured in this run. The limit and whether an aim
is met go by processor time, which other work on the machine changes less than the clock.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import whole_images
import whole_search
import whole_text
from whole_common import Task, product_rate, threads

JOBS: dict[str, ModuleType] = {"search": whole_search, "images": whole_images, "text": whole_text}
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Processes:
    """Runs tasks in processes of their own.

    Args:
        interpreters: By the first part of a way's name.
    """

    def __init__(self, interpreters: Mapping[str, str]) -> None:
        self.interpreters = interpreters

    def of(self, way: str) -> str:
        """The interpreter of a way."""
        return self.interpreters.get(way.split("-")[0], sys.executable)

    def __call__(self, task: Task) -> dict[str, Any]:
        """What a task finds; SystemExit with its words where it failed."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads())}
        if threads() == 1:
            environment |= {"XLA_FLAGS": ONE_THREAD, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        command = [self.of(task.way), __file__, "--child", json.dumps(asdict(task))]
        answer = subprocess.run(command, capture_output=True, text=True, env=environment)
        if answer.returncode:
            raise SystemExit(f"{task.job} with {task.way} failed:\n{answer.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
        print(f"  {task.job} {task.way}: {json.dumps(found)}", file=sys.stderr, flush=True)
        return found

    def missing(self, way: str) -> str | None:
        """Why a way cannot be taken; None where it can."""
        packages = {"torchdistill": ["torchdistill"], "keras": ["keras", way.split("-")[-1]]}.get(way.split("-")[0], [])
        for package in packages:
            probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
            if subprocess.run([self.of(way), "-c", probe], capture_output=True).returncode:
                return f"{package} is not installed: pip install {package}, or give --python {way.split('-')[0]}=FILE"
        return None


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest."""
    return {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)}


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with Limbeck's speed over it by rounds, and its own time over the limit."""
    for row in rows:
        ours = next(
            (each for each in rows if (each["job"], each["case"], each["way"]) == (row["job"], row["case"], "limbeck")),
            None,
        )
        row["clock"], row["processor"] = (
            statistics.median(each[kind] for each in row["seconds"]) for kind in ("clock", "processor")
        )
        row["of_limit"] = row["processor"] / row["limit"]
        if ours is not None:
            pairs = list(zip(row["seconds"], ours["seconds"], strict=True))
            for kind in ("clock", "processor"):
                row[f"ratio_{kind}"] = spread([theirs[kind] / mine[kind] for theirs, mine in pairs])
            if "stepping" in row:
                steps = zip(row["stepping"], ours["stepping"], strict=True)
                row["ratio_step"] = spread([theirs["processor"] / mine["processor"] for theirs, mine in steps])
    return rows


HEAD = (
    "job",
    "way",
    "measured",
    "s",
    "processor s",
    "limit s",
    "times the limit",
    "mean errors",
    "times Limbeck",
    "by processor time",
)


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    times = []
    for kind in ("clock", "processor"):
        ratio = row.get(f"ratio_{kind}")
        times.append("" if ratio is None else told(ratio))
    return (
        f"{row['job']}: {row['case']}", row["way"], f"{row['measured']} of {row['trainings']}", f"{row['clock']:.1f}",
        f"{row['processor']:.1f}", f"{row['limit']:.1f}", f"{row['of_limit']:.2f}", f"{row['mean_errors']:.1f}", *times,
    )  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, in Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|---|---|{'---:|' * (len(HEAD) - 2)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row))} |" for row in rows)])


def told(ratio: Mapping[str, float]) -> str:
    """Median, least and greatest."""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


def parts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where Limbeck's time goes, steps beside their arithmetic, and what was missed."""
    lines = []
    for row in rows:
        if row["way"].startswith("limbeck"):
            named = {name for each in row["runs"] for name in each} & {"answers", "trainings", "stepping", "verdict"}
            spent = {name: statistics.median(each[name]["clock"] for each in row["runs"]) for name in sorted(named)}
            seconds = ", ".join(f"{name} {spent[name]:.1f} s" for name in spent)
            lines.append(f"{row['case']}, {row['way']}: {seconds} of {row['clock']:.1f} s")
        if "ratio_step" in row:
            step, least = (
                1000 * seconds / row["steps"]
                for seconds in (statistics.median(each["processor"] for each in row["stepping"]), row["limit"])
            )
            lines.append(
                f"{row['case']}, {row['way']}: {step:.1f} ms of the processor per step, {step / least:.2f} times its "
                f"arithmetic; {told(row['ratio_step'])} times limbeck's"
            )
        if "ratio_clock" in row and not row["way"].startswith("limbeck"):
            ratio = row.get("ratio_step", row["ratio_processor"])
            met = "met" if ratio["median"] >= row["aim"] else "MISSED"
            lines.append(f"{row['case']}: {row['aim']:g} times {row['way']} {met} ({told(ratio)})")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the jobs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS), help="which jobs")
    parser.add_argument("--case", default="", help="search: only networks whose line in the table holds this")
    parser.add_argument("--ways", nargs="+", help="which ways; default: all that can be taken")
    parser.add_argument("--rounds", type=int, default=3, help="how often, in turns (default: 3)")
    parser.add_argument("--python", nargs="+", default=[], metavar="PEER=FILE", help="interpreters of peers")
    parser.add_argument("--cache", type=Path, help="folder where data and teachers are kept; default: a temporary one")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write the table to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        task = Task(**json.loads(options.child))
        print(json.dumps(JOBS[task.job].child(task)))
        return 0
    run = Processes(dict(pair.split("=", 1) for pair in options.python))
    rounds, rows = 1 if options.quick else options.rounds, []
    rates = [product_rate(256 if options.quick else 1536)]
    with tempfile.TemporaryDirectory() as temporary:
        for job in options.jobs:
            folder = (options.cache or Path(temporary)) / job
            folder.mkdir(parents=True, exist_ok=True)
            ways = []
            for way in JOBS[job].WAYS:
                reason = None if options.ways and way not in options.ways else run.missing(way)
                if reason is not None:
                    print(f"{way} is left out: {reason}")
                elif not options.ways or way in options.ways:
                    ways.append(way)
            only = {"only": options.case} if job == "search" else {}
            rows += JOBS[job].measure(ways, run, folder, quick=options.quick, rounds=rounds, rate=max(rates), **only)
            rates.append(product_rate(256 if options.quick else 1536))
    rows = compared(rows)
    import torch

    where = (
        f"{datetime.date.today()}, torch {torch.__version__}, {threads()} threads; large products at "
        f"{min(rates) / 1e9:.1f} to {max(rates) / 1e9:.1f} GFLOP per second of the processor"
    )
    text = f"{where}\n\n{table(rows)}\n\n" + "\n".join(f"- {line}" for line in parts(rows)) + "\n"
    print(text)
    if options.json is not None:
        options.json.write_text(json.dumps({"rates": rates, "rows": rows}, indent=1) + "\n")
    if options.markdown is not None:
        options.markdown.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
