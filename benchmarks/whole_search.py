"""The search of ``whole_job.py``: a teacher is given; four temperatures, three weights, three seeds, and a verdict.

Digits of MNIST; the validation set is 5,000 of them. Peers train each of the students after the others and ask the
teacher at each step; some of these trainings are measured, at T = 4 and a tenth of the weight on the labels, and
multiplied. Limbeck keeps the teacher's answers, makes three grids and then the verdict: three students and three
baselines at the best settings, with its evaluation on the test set. The peers' verdict is not counted.
"""

import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whole_common import Task, clocked, warm_up
from whole_peers import (
    CLASSES,
    MEASURED,
    PEAK,
    PIXELS,
    SEEDS,
    TEMPERATURES,
    TRAININGS,
    WEIGHTS,
    digits,
    teachers,
    with_keras,
    with_loop,
    with_torchdistill,
)

WAYS = ("limbeck", "loop", "torchdistill", "keras-jax", "keras-torch", "keras-tensorflow")


@dataclass(frozen=True)
class Case:
    """Networks and batches.

    Attributes:
        name: In the table.
        members: Networks 784-1200-1200-10 of the teacher, whose logits are averaged.
        hidden: Widths of the student.
        batch: Examples per step.
        aim: How many times as fast Limbeck is to be.
    """

    name: str
    members: int
    hidden: tuple[int, ...]
    batch: int
    aim: float = 10.0


CASES = (
    Case("784-300-300-10 of one network", 1, (300, 300), 256),
    Case("784-300-300-10 of five networks", 5, (300, 300), 256),
    Case("784-100-10 of one network", 1, (100,), 100),
)


def operations(widths: Sequence[int]) -> int:
    """Operations for one example: six per weight, and four in the first layer, whose inputs need no gradient."""
    weights = [before * after for before, after in zip(widths, widths[1:], strict=False)]
    return 6 * sum(weights) - 2 * weights[0]


def prepare(folder: Path, *, members: int, wide: int, teacher_epochs: int, examples: int) -> list[int]:
    """Digits and the networks of the teacher, as files; the test errors of each network."""
    import torch

    import limbeck
    from limbeck.evaluation.prediction import predict
    from limbeck.models import MLP, MLPConfig

    data = limbeck.open_data("mnist")
    assert data.train.labels is not None and data.test is not None and data.test.labels is not None
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    held = min(5000, examples)
    parts = {"train": data.train.take(rows[held : held + examples]), "validation": data.train.take(rows[:held])}
    arrays: dict[str, Any] = {}
    for name, part in {**parts, "test": data.test}.items():
        assert part.labels is not None and isinstance(part.inputs, torch.Tensor)
        arrays |= {f"x_{name}": part.inputs.numpy(), f"y_{name}": part.labels.numpy()}
    np.savez(folder / "digits.npz", **arrays)
    wrong = []
    for member in range(members):
        place = folder / f"teacher-{member}"
        if not (place / "model.safetensors").exists():
            torch.manual_seed(member)
            sizes = MLPConfig(input_shape=(1, 28, 28), classes=CLASSES, hidden=(wide, wide), dropout=0.3)
            run = limbeck.train(MLP(sizes), parts["train"], epochs=teacher_epochs, batch_size=256, seed=member)
            limbeck.save_model(place, run.model, classes=data.classes)
        answers = predict(limbeck.load(place), data.test)
        wrong.append(int((answers.argmax(1) != data.test.labels).sum()))
    return wrong


def with_limbeck(task: Task) -> dict[str, Any]:
    """As Limbeck's user writes it."""
    import torch

    import limbeck
    from limbeck.models import MLP, MLPConfig

    held, settings, found = digits(task), task.settings, {}
    parts = {name: (held[f"x_{name}"], held[f"y_{name}"]) for name in ("train", "validation", "test")}
    members = teachers(task)
    teacher = members[0] if len(members) == 1 else limbeck.Ensemble(members, mean="geometric")
    common: dict[str, Any] = {
        "epochs": settings["epochs"], "batch_size": settings["batch"], "learning_rate": PEAK, "keep": "last",
        "progress": False,
    }  # fmt: skip
    grid = limbeck.Search(grid=True, temperatures=TEMPERATURES, hard_weights=WEIGHTS)

    def student(seed: int) -> MLP:
        torch.manual_seed(seed)
        return MLP(MLPConfig(input_shape=(1, 28, 28), classes=CLASSES, hidden=tuple(settings["hidden"])))

    _, _, _ = limbeck.tune, limbeck.distill, warm_up()
    importlib.import_module("optuna")
    with tempfile.TemporaryDirectory() as store, clocked(found, "all"):
        with clocked(found, "answers"):
            examples = limbeck.Examples.of(*map(torch.from_numpy, parts["train"]))
            limbeck.SoftTargets.write(store, teacher, examples, classes="0123456789", progress=False)
            targets = limbeck.SoftTargets.open(store)
        with clocked(found, "trainings"):
            searches = [
                limbeck.tune(targets, student, parts["train"], parts["validation"], search=grid, seed=seed, **common)
                for seed in SEEDS[: settings["seeds"]]
            ]
        with clocked(found, "verdict"):
            sums: dict[tuple[float, float], int] = {}
            for row in (row for search in searches for row in search.trials):
                point = row["temperature"], row["hard_weight"]
                sums[point] = sums.get(point, 0) + row["validation_errors"]
            best = min(sums, key=sums.__getitem__)
            run = limbeck.distill(
                targets, student, parts["train"], parts["validation"], test=parts["test"],
                temperature=best[0], hard_weight=best[1], seeds=settings["seeds"], **common,
            )  # fmt: skip
    at = [
        row["validation_errors"]
        for search in searches
        for row in search.trials
        if (row["temperature"], row["hard_weight"]) == MEASURED
    ]
    assert run.verdict is not None
    return {
        **found, "measured": sum(len(search.trials) for search in searches), "validation_errors": at,
        "best": best, "verdict_sentence": run.verdict.sentence,
    }  # fmt: skip


RUNS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "limbeck": with_limbeck, "loop": with_loop, "torchdistill": with_torchdistill, "keras": with_keras,
}  # fmt: skip


def child(task: Task) -> dict[str, Any]:
    """One way of the search."""
    return RUNS[task.way.split("-")[0]](task)


def measure(
    ways: Sequence[str],
    run: Callable[[Task], dict[str, Any]],
    folder: Path,
    *,
    quick: bool,
    rounds: int,
    rate: float,
    only: str = "",
) -> list[dict[str, Any]]:
    """All cases, all ways in turns.

    Args:
        ways: Which are compared.
        run: Runs a task in a process of its own.
        folder: Where data and teacher are kept.
        quick: Whether it is only to be shown that all of it works.
        rounds: How often.
        rate: Operations per second of this machine.
        only: What the name of a case has to hold.

    Returns:
        A row for each case and way.
    """
    cases = (
        [Case("784-16-10 of two networks", 2, (16,), 100)] if quick else [case for case in CASES if only in case.name]
    )
    examples, epochs, seeds = (500, 1, 2) if quick else (10_000, 5, len(SEEDS))
    teacher_errors = prepare(
        folder, members=max(case.members for case in cases), wide=32 if quick else 1200,
        teacher_epochs=1 if quick else 8, examples=examples,
    )  # fmt: skip
    rows = []
    for case in cases:
        settings = {**asdict(case), "epochs": epochs, "seeds": seeds}
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                found[way].append(run(Task("search", way, str(folder), settings)))
        least = examples * epochs * operations((PIXELS, *case.hidden, CLASSES)) / rate
        rows += rows_of(case, found, least, seeds, teacher_errors)
    return rows


def rows_of(
    case: Case, found: dict[str, list[dict[str, Any]]], least: float, seeds: int, teacher_errors: Sequence[int]
) -> list[dict[str, Any]]:
    """A row for each way: seconds of the whole job, and how many times as long as Limbeck's."""
    rows: list[dict[str, Any]] = []
    trainings = TRAININGS // len(SEEDS) * seeds
    for way, results in found.items():
        jobs = [{kind: seconds_of(each, kind, trainings) for kind in ("clock", "processor")} for each in results]
        errors = [wrong for each in results for wrong in each["validation_errors"]]
        rows.append({
            "job": "search", "case": case.name, "way": way, "trainings": trainings, "aim": case.aim,
            "measured": results[0]["measured"], "seconds": jobs, "mean_errors": sum(errors) / len(errors),
            "errors": errors, "limit": least * (trainings + (2 * seeds if way == "limbeck" else 0)),
            "teacher_errors": list(teacher_errors[: case.members]), "runs": results,
        })  # fmt: skip
    return rows


def seconds_of(result: dict[str, Any], kind: str, trainings: int) -> float:
    """Seconds of all trainings: the first of a peer, which may compile, once, and the mean of its others so often."""
    if "all" in result:
        return float(result["all"][kind])
    first, *others = [result[name][kind] for name in sorted(result) if name.startswith("training ")]
    return float(first + (trainings - 1) * (sum(others) / len(others)))
