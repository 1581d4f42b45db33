"""What a command takes before it does anything, beside the interpreter alone and beside the import of PyTorch.

    python benchmarks/startup.py [--rounds 5] [--against FOLDER] [--json FILE] [--quick]

Each row is a process of its own, and the rows take turns. Times are of the processor, with those of processes that a
command starts; the clock's are beside them. A ratio is of one round: of the help to the interpreter that imports
nothing, of the trainings to `import torch`. With --against the same rows run on the sources of another checkout too,
in the same rounds, and the last column is the share of its time. The training is of 200 rows of 8 numbers for one
epoch, and ends with its report.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).parents[1]
_TRAINED = ("--epochs", "1", "--hidden", "16", "--precision", "float32", "--quiet")
ROWS: dict[str, tuple[tuple[str, ...], str]] = {
    "python": (("-c", "pass"), "python"),
    "import torch": (("-c", "import torch"), "import torch"),
    "limbeck --help": (("-m", "limbeck", "--help"), "python"),
    "limbeck distill --help": (("-m", "limbeck", "distill", "--help"), "python"),
    "limbeck train": (("-m", "limbeck", "train", "--data", "small.npz", *_TRAINED, "--out", "OUT"), "import torch"),
    "limbeck distill": (
        ("-m", "limbeck", "distill", "--data", "small.npz", "--teacher", "teacher", *_TRAINED, "--out", "OUT"),
        "import torch",
    ),
}
"""Words after ``python`` by the name of the row, and the row that it is compared with."""


def timed(words: Sequence[str], folder: Path, sources: Path, number: int) -> tuple[float, float]:
    """Seconds of the processor and of the clock for a process of its own."""
    place = {"PYTHONPATH": str(sources / "src"), "OMP_NUM_THREADS": "1"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *(f"out-{number}" if word == "OUT" else word for word in words)],
        cwd=folder, env={**os.environ, **place}, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock


def measure(rounds: int, sources: Mapping[str, Path], rows: Sequence[str]) -> list[dict[str, object]]:
    """Times of each row on each of the sources, in turns; the first round writes byte code and does not count."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as held:
        folder, number = Path(held), 0
        draw = np.random.default_rng(0)
        inputs = draw.normal(size=(200, 8)).astype(np.float32)
        np.savez(folder / "small.npz", x=inputs, y=(inputs @ draw.normal(size=(8, 3))).argmax(1))
        trained = [*ROWS["limbeck train"][0][:-1], "teacher"]
        if "limbeck distill" in rows:
            timed(trained, folder, HERE, 0)
        for turn in range(rounds + 1):
            for name in rows:
                for place, path in sources.items():
                    number += 1
                    spent = timed(ROWS[name][0], folder, path, number)
                    if turn:
                        found.setdefault((name, place), []).append(spent)
    table: list[dict[str, object]] = []
    for name in rows:
        own = [cpu for cpu, _ in found[name, "here"]]
        rival = [cpu for cpu, _ in found[ROWS[name][1], "here"]]
        row: dict[str, object] = {
            "what": name, "cpu_s": statistics.median(own),
            "clock_s": statistics.median(clock for _, clock in found[name, "here"]),
            "beside": ROWS[name][1], "ratio": _spread([a / b for a, b in zip(own, rival, strict=True)]),
        }  # fmt: skip
        if "there" in sources:
            other = [cpu for cpu, _ in found[name, "there"]]
            row["share"] = _spread([a / b for a, b in zip(own, other, strict=True)])
        table.append(row)
    return table


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout, whose folder holds src/limbeck")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="the help alone, once")
    given = parser.parse_args(words)
    sources = {"here": HERE} | ({} if given.against is None else {"there": given.against.resolve()})
    rows = ["python", "limbeck --help", "limbeck distill --help"] if given.quick else list(ROWS)
    load = os.getloadavg()[0]
    table = measure(1 if given.quick else given.rounds, sources, rows)
    print(f"load before the start {load:.2f}, {os.cpu_count()} cores")
    print(f"{'what':<24} {'CPU s':>7} {'clock s':>8}   ratio (least to greatest)        share of the other checkout")
    for row in table:
        ratio, share = row["ratio"], row.get("share")
        assert isinstance(ratio, dict)
        said = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) x {row['beside']}"
        beside = f"{share['median']:.2f} ({share['min']:.2f} to {share['max']:.2f})" if isinstance(share, dict) else ""
        print(f"{row['what']:<24} {row['cpu_s']:>7.2f} {row['clock_s']:>8.2f}   {said:<38} {beside}".rstrip())
    if given.json is not None:
        given.json.write_text(json.dumps({"load": load, "rows": table}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
