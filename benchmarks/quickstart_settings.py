"""How the quickstart's settings were chosen: on digits set aside from the training set, over seeds.

The teacher is trained as in the quickstart, on 50,000 digits, and its answers are kept in memory. Each candidate trains
baseline and student for each seed; what counts is the errors on the other 10,000 digits. The test set is not read. Run
it with::

    python benchmarks/quickstart_settings.py [--seeds 3] [--json FILE] [--quick]

It takes about a minute for each student or baseline and seed on one core, and some three for the teacher. A row is
printed as soon as it is known.
"""

import argparse
import dataclasses
import json
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import limbeck
from limbeck.options import DataOptions, Training
from limbeck.recipes.quickstart import Quickstart
from limbeck.runs.models_for_data import model_maker

SET_ASIDE = 10_000

BUDGETS = ("64x12@0.002", "128x20@0.004", "128x20@0.006")


def budget(text: str) -> tuple[str, Training]:
    """``BATCHxEPOCHS@RATE``, and the training that it stands for."""
    found = re.fullmatch(r"(\d+)x(\d+)@([0-9.e-]+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: give BATCHxEPOCHS@RATE, such as 128x20@0.005")
    return text, Training(batch_size=int(found[1]), epochs=int(found[2]), learning_rate=float(found[3]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the teacher, try each candidate, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="pairs of student and baseline")
    parser.add_argument(
        "--budgets", nargs="+", metavar="BATCHxEPOCHS@RATE", type=budget, default=list(map(budget, BUDGETS)),
        help="batch sizes, epochs and learning rates of student and baseline",
    )  # fmt: skip
    parser.add_argument("--aims", nargs="+", metavar="T,WEIGHT", default=["4,0.1", "4,0.3", "4,0.5", "8,0.1"],
                        help="temperatures and weights of the labels")  # fmt: skip
    parser.add_argument(
        "--teacher", metavar="FOLDER", type=Path, help="keep the teacher here, and use it if it is there"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    options = parser.parse_args(arguments)
    settings = Quickstart()
    data = limbeck.open_data(DataOptions(data="mnist", validation=SET_ASIDE))
    data = dataclasses.replace(data, test=None)
    budgets = dict(options.budgets)
    aims, teaching = options.aims, settings.teacher_training
    if options.quick:
        data = dataclasses.replace(
            data, train=data.train.take(torch.arange(512)), validation=data.train.take(torch.arange(512, 768))
        )
        budgets = {name: dataclasses.replace(each, epochs=1) for name, each in list(budgets.items())[:1]}
        aims, teaching = aims[:1], dataclasses.replace(teaching, epochs=1)
    taught = limbeck.train(
        model_maker(settings.teacher, data),
        data,
        augmentation=settings.jitter,
        out=options.teacher,
        resume=options.teacher is not None,
        **dataclasses.asdict(teaching),
    )
    rows: list[dict[str, Any]] = []
    print(
        f"{'batch x epochs':<16}{'T':>4}{'weight':>8}{'student':>9}  {'each':<18}{'baseline':>9}  {'each':<18}{'s':>6}"
    )
    for name, training in budgets.items():
        baseline: list[int] = []
        for aim in aims:
            temperature, hard_weight = map(float, aim.split(","))
            began = time.perf_counter()
            run = limbeck.distill(
                taught.model,
                model_maker(settings.student, data),
                data,
                temperature=temperature,
                hard_weight=hard_weight,
                baseline=not baseline,
                seeds=options.seeds,
                **dataclasses.asdict(training),
            )
            seeds = run.metrics["seeds"]
            baseline = baseline or [row["baseline_errors"] for row in seeds]
            student = [row["student_errors"] for row in seeds]
            seconds = time.perf_counter() - began
            rows.append({"budget": name, "temperature": temperature, "hard_weight": hard_weight, "student": student,
                         "baseline": baseline, "seconds": seconds})  # fmt: skip
            print(f"{name:<16}{temperature:>4g}{hard_weight:>8g}{statistics.mean(student):>9.1f}  "
                  f"{' '.join(map(str, student)):<18}{statistics.mean(baseline):>9.1f}  "
                  f"{' '.join(map(str, baseline)):<18}{seconds:>6.0f}", flush=True)  # fmt: skip
    if options.json is not None:
        options.json.write_text(json.dumps({"teacher": taught.metrics, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
