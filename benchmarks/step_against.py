"""Whether a training step is as fast as in another checkout of Limbeck: both take turns, epoch by epoch, in one run.

    git worktree add ../before 6771932
    python benchmarks/step_against.py ../before [--pairs 12] [--rounds 4] [--examples 20000] [--json FILE] [--quick]

Each checkout runs in a process of its own, which is told when to train an epoch of 784-300-300-10 at batch 256 in
float32: on labels, and on soft targets kept in memory. While one works the other waits, and in every second round the
other one begins, so that both find the same moments of a machine that does other things too. Processor time is counted
beside time by the clock, since it leaves out what others do.

Where its memory happens to lie makes a process faster or slower for its whole life, by a tenth and more: two of the
same sources differ as much. So there are several pairs of processes, and a ratio is of one pair: the median of the
other checkout's epochs over that of this one's, above 1 where this one is the faster.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parents[1]
TARGET = 0.97
BATCH = 256


def serve(examples: int) -> None:
    """Train an epoch for each line on the standard input, and answer with its seconds; the checkout is on the path."""
    import torch

    import step  # the benchmark of the checkout
    from step import MLP, Case, DistillationObjective, Feed, LabelObjective, MLPConfig, open_data, stored_answers

    torch.manual_seed(0)
    model = MLP(MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=(300, 300)))
    mnist = open_data("mnist").train
    feed = Feed(mnist.take(torch.arange(min(examples, len(mnist)))), batch_size=BATCH, seed=0)
    case = Case(model, feed, step.find_device("cpu", "float32"))
    objectives = {
        "labels": LabelObjective(),
        "distil": DistillationObjective(stored_answers(feed, 10), temperature=4.0, hard_weight=0.1),
    }
    print(json.dumps({"steps": feed.steps, "package": str(Path(step.__file__).parents[1])}), flush=True)
    for line in sys.stdin:
        took = {}
        for name, clock in (("clock", time.perf_counter), ("processor", time.process_time)):
            step.Stopwatch.clock = staticmethod(clock)
            took[name] = case.engine(objectives[line.strip()])
        print(json.dumps(took), flush=True)


class Checkout:
    """A process that trains with the sources of one checkout."""

    def __init__(self, root: Path, examples: int) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(root / "src"), str(root / "benchmarks")))}
        words = [sys.executable, "-P", str(Path(__file__).resolve()), "--serve", str(examples)]
        self.process = subprocess.Popen(
            words, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
        )
        told = self.answer()
        self.steps = int(told["steps"])
        if Path(told["package"]) != root:
            raise RuntimeError(f"{root} was to be measured, and {told['package']} was loaded")

    def answer(self) -> dict[str, Any]:
        """The next line of the process."""
        line = _open(self.process.stdout).readline()
        if not line:
            raise RuntimeError("a checkout's process ended: see its message above")
        found: dict[str, Any] = json.loads(line)
        return found

    def epoch(self, task: str) -> dict[str, float]:
        """Seconds of an epoch, by clock and by processor."""
        stream = _open(self.process.stdin)
        stream.write(f"{task}\n")
        stream.flush()
        return self.answer()

    def close(self) -> None:
        """Let the process end."""
        _open(self.process.stdin).close()
        self.process.wait()
        _open(self.process.stdout).close()


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None, "it was asked for"
    return stream


def compare(ours: Checkout, other: Checkout, task: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Times of both in turns; the first round does not count."""
    times: dict[str, list[dict[str, float]]] = {"this": [], "other": []}
    for number in range(rounds + 1):
        for name in ("this", "other")[:: 1 if number % 2 else -1]:
            took = (ours if name == "this" else other).epoch(task)
            if number:
                times[name].append({kind: seconds / ours.steps for kind, seconds in took.items()})
    return times


def summed_up(task: str, pairs: Sequence[dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """The medians of each pair of processes, and their ratios."""
    found: dict[str, Any] = {"task": task}
    for kind in ("clock", "processor"):
        this, other = (
            [statistics.median(took[kind] for took in pair[name]) for pair in pairs] for name in ("this", "other")
        )
        ratios = sorted(b / a for a, b in zip(this, other, strict=True))
        found[kind] = {
            "milliseconds_per_step": {"this": 1e3 * statistics.median(this), "other": 1e3 * statistics.median(other)},
            "ratio": {"min": ratios[0], "median": statistics.median(ratios), "max": ratios[-1]},
        }
    return found


def measure(other: Path, pairs: int, rounds: int, examples: int) -> list[dict[str, Any]]:
    """Times of several pairs of processes."""
    tasks: dict[str, list[dict[str, list[dict[str, float]]]]] = {"labels": [], "distil": []}
    for number in range(pairs):
        roots = {"this": HERE, "other": other}
        with ExitStack() as ends:
            made = {}
            for name in sorted(roots, reverse=bool(number % 2)):
                made[name] = Checkout(roots[name], examples)
                ends.callback(made[name].close)
            for task, found in tasks.items():
                found.append(compare(made["this"], made["other"], task, rounds))
    return [summed_up(task, found) for task, found in tasks.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="root folder of the other checkout")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of processes (default: 12)")
    parser.add_argument("--rounds", type=int, default=4, help="epochs of each task that count in each (default: 4)")
    parser.add_argument("--examples", type=int, default=20000, help="images of an epoch")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    given = parser.parse_args(arguments)
    if given.quick:
        given.pairs, given.rounds, given.examples = 1, 1, 2 * BATCH
    rows = measure(given.other.resolve(), given.pairs, given.rounds, given.examples)
    print(f"{'task':<8}{'counted':<11}{'this ms':>9}{'other ms':>10}{'ratio':>8}{'(min - max)':>16}{'target':>8}")
    for row in rows:
        for kind in ("clock", "processor"):
            took, ratio = row[kind]["milliseconds_per_step"], row[kind]["ratio"]
            print(
                f"{row['task']:<8}{kind:<11}{took['this']:>9.3f}{took['other']:>10.3f}{ratio['median']:>8.3f}"
                f"   ({ratio['min']:.3f} - {ratio['max']:.3f}){TARGET:>7.2f} "
                f"{'met' if ratio['median'] >= TARGET else 'MISSED'}"
            )
    if given.json is not None:
        given.json.write_text(json.dumps({"pairs": given.pairs, "rounds": given.rounds, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]))
    else:
        sys.exit(main())
