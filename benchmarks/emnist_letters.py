r"""Letters: a convolutional teacher, and a small fully connected student alone and distilled.

The two architectures are those of an older experiment: conv 64, conv 128, dense 1024 (3,378,970 parameters), and one
hidden layer of 512 (415,258). Temperature and hard weight are chosen on validation; the test set is read once, by the
chosen settings. Run for example

    python benchmarks/emnist_letters.py --data emnist-letters.mat --teacher runs/cnn --out runs/letters

where the teacher was trained with

    limbeck train --data emnist-letters.mat --model cnn --dropout 0.5 --shift 2 --rotate 10 --scale 0.1 \
        --epochs 15 --out runs/cnn
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from limbeck.data import open_data
from limbeck.evaluation.prediction import answer_views
from limbeck.options import Augmentation, DataOptions, ModelOptions
from limbeck.runs import distill
from limbeck.runs.measure import answers_of, labels_of, scores_of
from limbeck.runs.models_for_data import load_teacher, model_maker
from limbeck.runs.pages import report_run
from limbeck.system.devices import find_device

TEMPERATURES, WEIGHTS = (2.0, 4.0, 8.0), (0.0, 0.1, 0.5)


def main() -> None:
    """Choose on validation, then train and test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True, nargs="+", type=Path)
    parser.add_argument("--mean", default="geometric", choices=("arithmetic", "geometric"))
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--search-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--shift", type=float, default=1)
    parser.add_argument("--rotate", type=float, default=0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()

    data = open_data(DataOptions(data=options.data))
    teacher = load_teacher(options.teacher, data=data, mean=options.mean)
    augmentation = Augmentation(shift=options.shift, rotate=options.rotate, views=options.views)
    student = model_maker(ModelOptions(model="mlp", hidden=(512,)), data)

    began = time.perf_counter()
    device = find_device()
    stored = answer_views(teacher, data.train, augmentation, classes=data.classes, views=options.views, device=device)
    print(f"{options.views} views answered in {time.perf_counter() - began:.0f} s", flush=True)

    blind = replace(data, test=None)  # the search cannot see the test set
    grid: dict[tuple[float, float], float] = {}
    for temperature in TEMPERATURES:
        for weight in WEIGHTS:
            run = distill(
                stored, student, blind, temperature=temperature, hard_weight=weight, augmentation=augmentation,
                baseline=False, epochs=options.search_epochs, batch_size=options.batch_size,
            )  # fmt: skip
            grid[temperature, weight] = run.metrics["student"]["accuracy"]
            print(f"T {temperature:g}  weight {weight:g}  validation {grid[temperature, weight]:.2%}", flush=True)
    temperature, weight = max(grid, key=grid.__getitem__)
    print(f"chosen: T {temperature:g}, weight {weight:g}; {time.perf_counter() - began:.0f} s so far", flush=True)

    run = distill(
        stored, student, data, temperature=temperature, hard_weight=weight, augmentation=augmentation,
        seeds=options.seeds, epochs=options.epochs, batch_size=options.batch_size, out=options.out,
        settings={
            "data": options.data, "teacher": [str(path) for path in options.teacher], "student": "mlp", "hidden": [512]
        },
    )  # fmt: skip
    report_run(options.out, data=data)

    assert data.test is not None
    alone = scores_of(answers_of(teacher, data.test), labels_of(data.test))
    result = {
        "teacher": alone,
        "chosen": {"temperature": temperature, "hard_weight": weight},
        "validation": {f"T={t:g} w={w:g}": accuracy for (t, w), accuracy in grid.items()},
        "student": run.metrics,
        "seconds": time.perf_counter() - began,
    }
    (options.out / "letters.json").write_text(json.dumps(result, indent=2))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
