r"""What brings a small student nearer to its teacher: patience, habits of training, teachers, views. MNIST and letters.

    python benchmarks/patience.py mnist --out runs/patience [--jobs 4] [--seeds 3] [--results docs/results] [--quick]
    python benchmarks/patience.py letters --data emnist-letters.mat --out runs/patience [...]

A job is a table of arms. Each arm tries its learning rates on validation, with a seed of its own; the best is trained
over the seeds, each with a teacher of its own (an ensemble is the same for all); the test set is read once, after the
last training. All arms but those that say so have the same epochs, batches and schedule, and end with their last
weights. Every training is a file under ``--out``, and so is the outcome, so a stopped job goes
on; ``--jobs`` processes train side by side.
"""

import argparse
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.evaluation.non_inferiority import judge_margin
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.statistics import holm
from limbeck.report.study import write_study
from limbeck.system.jobs import run_jobs
from patience_page import study
from patience_plans import JOBS, SEARCH_SEED, Bench
from patience_training import (
    answer,
    answers_file,
    place_of,
    student,
    taught,
    teacher_file,
    train_student,
    train_teacher,
    wrong,
)


def chosen_rates(bench: Bench, run: Callable[[list[Any]], list[Any]]) -> dict[str, float]:
    """The learning rate of each arm that does best on validation, with a seed that no final training has."""
    arms = bench.plan.arms
    searched = [(name, rate) for name, arm in arms.items() if arm.like is None for rate in arm.rates]
    found = run([partial(train_student, bench, name, rate, SEARCH_SEED) for name, rate in searched])
    best: dict[str, tuple[tuple[int, float], float]] = {}
    for (name, rate), row in zip(searched, found, strict=True):
        score = ((row["errors"], row["nll"]), rate)
        best[name] = min(best.get(name, score), score)
    rates = {name: rate for name, (_, rate) in best.items()}
    return {name: rates[arm.like or name] for name, arm in arms.items()}


def measure(bench: Bench, seeds: Sequence[int], jobs: int) -> dict[str, Any]:
    """Train everything, then read the test set."""
    plan = bench.plan

    def run(tasks: list[Callable[[], Any]]) -> list[Any]:
        return run_jobs(tasks, jobs=jobs, done=lambda done, whole: print(f"  {done} of {whole}", flush=True))

    began = time.perf_counter()
    tasks = {
        teacher_file(bench, each, number): partial(train_teacher, bench, name, number)
        for name, each in plan.teachers.items()
        for number in (range(each.members) if each.members > 1 else seeds)
    }
    run(list(tasks.values()))
    print(f"teachers after {time.perf_counter() - began:.0f} s", flush=True)
    views = {
        answers_file(bench, arm.teacher, seed, arm.views): partial(answer, bench, arm.teacher, seed, arm.views)
        for arm in plan.arms.values()
        for seed in seeds
        if arm.teacher is not None and arm.views.views is not None
    }
    run(list(views.values()))
    print(f"answers after {time.perf_counter() - began:.0f} s", flush=True)
    rates = chosen_rates(bench, run)
    print(f"rates after {time.perf_counter() - began:.0f} s: {rates}", flush=True)
    cells = [(name, seed) for seed in seeds for name in plan.arms]
    rows = run([partial(train_student, bench, name, rates[name], seed) for name, seed in cells])
    validation: dict[str, list[int]] = {name: [] for name in plan.arms}
    for (name, _), row in zip(cells, rows, strict=True):
        validation[name].append(row["errors"])

    # All choices are made: now the test set is read.
    errors: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in plan.arms}
    for name, seed in cells:
        model = student(bench, plan.arms[name], seed)
        model.load_state_dict(torch.load(place_of(bench, name, rates[name], seed) / "weights.pt", weights_only=True))
        errors[name].append(wrong(bench, model))
    told = {name: taught(bench, name, seeds) for name in plan.teachers}
    teachers = {name: [int(each.sum()) for each in some] for name, some in told.items()}
    others = [name for name in plan.arms if name != plan.base]
    found = [crossed_difference(errors[name], errors[plan.base]) for name in others]
    adjusted = holm([each.cautious_p_value for each in found])
    return {
        "test": len(errors[plan.base][0]),
        "rates": rates,
        "validation": validation,
        "errors": {name: [int(each.sum()) for each in some] for name, some in errors.items()},
        "teachers": teachers,
        "differences": {
            name: {"p": float(p), **dataclasses.asdict(each.interval(0.95))}
            for name, each, p in zip(others, found, adjusted, strict=True)
        },
        "within": {
            name: str(
                judge_margin(errors[name], told[arm.teacher] * (len(seeds) // len(told[arm.teacher])), plan.margin)
            )
            for name, arm in plan.arms.items()
            if arm.teacher is not None and plan.margin is not None
        },
        "trainings": len(list((bench.out / bench.job / "students").rglob("*.json"))) + len(tasks),
        "seconds": time.perf_counter() - began,
    }


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=sorted(JOBS))
    parser.add_argument("--data", help="what the job learns from; mnist by default")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="folder for the page as Markdown, with its figure")
    parser.add_argument("--arms", nargs="+", default=[], metavar="NAME", help="some of the rows, by name")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := set(options.arms) - set(JOBS[options.job].arms):
        parser.error(f"--arms knows no {sorted(unknown)[0]}: {', '.join(JOBS[options.job].arms)}")
    bench = Bench(options.job, options.data, options.out, options.quick, tuple(options.arms))
    seeds = range(options.seeds)
    kept = bench.out / bench.job / "found.json"
    if not kept.is_file():
        found = measure(bench, seeds, options.jobs)
        kept.write_text(json.dumps(found, indent=1))
    found, folder = json.loads(kept.read_text()), kept.parent
    command = f"python {shlex.join(sys.argv)}"
    written = write_study(study(bench, found, seeds, command), folder / "report.html", options.results or folder)
    print(written.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
