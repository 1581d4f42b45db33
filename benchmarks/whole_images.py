"""The images of ``whole_job.py``: a ResNet-18 student of a ResNet-34, JPEGs from the disk, random crops and flips.

"limbeck" asks the teacher at each step, as the loop does; "limbeck-stored" computes its answers once, one view of each
image for every epoch, and trains from them. The loop is a ``DataLoader`` that decodes, crops and flips with Pillow.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from images import photographs
from whole_common import Task, clocked, plain_loss, step_operations, stopwatch, warm_up

TEMPERATURE, WEIGHT, RATE, PIXELS = 4.0, 0.1, 1e-3, 64
CLASSES = ("down", "flat", "steep", "up")
WAYS = ("limbeck", "limbeck-stored", "loop")


def prepare(folder: Path, *, images: int, epochs: int, networks: tuple[str, str]) -> None:
    """JPEGs of stripes in four directions under noise, and a teacher of them."""
    import limbeck

    draw = np.random.default_rng(0)
    for part, count in (("train", images), ("test", max(16, images // 4))):
        for number in range(count):
            name = CLASSES[number % len(CLASSES)]
            angle = np.pi / 4 * CLASSES.index(name) + draw.normal(0, 0.25)
            y, x = np.mgrid[:256, :256] * draw.uniform(0.1, 0.3)
            wave = 60 * np.sin(x * np.cos(angle) + y * np.sin(angle) + draw.uniform(0, 6))
            pixels = 128 + wave[..., None] * draw.uniform(0.3, 1, 3) + draw.normal(0, 60, (256, 256, 3))
            place = folder / "images" / part / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number:06}.jpg", quality=85)
    data = limbeck.open_data(str(folder / "images"), image_size=PIXELS, validation=0)
    run = limbeck.train(f"timm:{networks[0]}", data, epochs=epochs, batch_size=32, progress=False)
    limbeck.save_model(folder / "teacher", run.model, classes=data.classes, overwrite=True)


def errors(student: Any, data: Any) -> int:
    """Test errors of a student, asked in one way for all."""
    from limbeck.evaluation.prediction import predict

    return int((predict(student.eval(), data.test).argmax(1) != data.test.labels).sum())


def with_limbeck(task: Task) -> dict[str, Any]:
    """From live or stored answers."""
    import limbeck

    settings, found = task.settings, {}
    data = limbeck.open_data(str(Path(task.folder) / "images"), image_size=PIXELS, validation=0)
    teacher: Any = limbeck.load(Path(task.folder) / "teacher")
    stored = task.way.endswith("stored")
    views = limbeck.Augmentation(augment="standard", views=settings["epochs"] if stored else None)
    warm_up()
    _ = limbeck.distill, data.train.source
    watch = stopwatch()
    with tempfile.TemporaryDirectory() as store, clocked(found, "all"):
        with clocked(found, "answers"):
            if stored:
                limbeck.SoftTargets.write(
                    store, teacher, data.train, classes=data.classes, augmentation=views, progress=False
                )
                teacher = limbeck.SoftTargets.open(store)
        with clocked(found, "training"):
            run = limbeck.distill(
                teacher, f"timm:{settings['student']}", data, temperature=TEMPERATURE, hard_weight=WEIGHT,
                baseline=False, augmentation=views, epochs=settings["epochs"], batch_size=settings["batch"],
                learning_rate=RATE, workers=settings["workers"], keep="last", progress=False, seed=task.seed,
                callbacks=watch,
            )  # fmt: skip
    return {**found, "stepping": watch.seconds, "errors": errors(run.student, data), "steps": settings["steps"]}


def with_loop(task: Task) -> dict[str, Any]:
    """As a script has it."""
    import torch
    from torch.utils.data import DataLoader

    import limbeck
    from limbeck.models.timm_models import make_timm

    settings, found, root = task.settings, {}, Path(task.folder) / "images"
    files = sorted((root / "train").glob("*/*.jpg"))
    data = limbeck.open_data(str(root), image_size=PIXELS, validation=0)
    teacher: Any = limbeck.load(Path(task.folder) / "teacher")
    teacher.eval()
    torch.manual_seed(task.seed)
    student = make_timm(f"timm:{settings['student']}", classes=len(CLASSES)).train()
    warm_up()
    with clocked(found, "all"), clocked(found, "training"), clocked(found, "stepping"):
        shown = photographs(files, CLASSES, PIXELS)
        loader = DataLoader(shown, batch_size=settings["batch"], shuffle=True, num_workers=settings["workers"])
        optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings["epochs"] * len(loader))
        for _ in range(settings["epochs"]):
            for inputs, labels in loader:
                with torch.no_grad():
                    answers = teacher(inputs)
                loss = plain_loss(student(inputs), answers, labels, temperature=TEMPERATURE, weight=WEIGHT)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return {**found, "errors": errors(student, data), "steps": settings["steps"]}


def child(task: Task) -> dict[str, Any]:
    """One way of the images."""
    return with_loop(task) if task.way == "loop" else with_limbeck(task)


def measure(
    ways: Sequence[str], run: Callable[[Task], dict[str, Any]], folder: Path, *, quick: bool, rounds: int, rate: float
) -> list[dict[str, Any]]:
    """All ways in turns; the arguments are those of the search."""
    import torch

    from limbeck.models.timm_models import make_timm

    networks = ("resnet10t", "resnet10t") if quick else ("resnet34", "resnet18")
    images, epochs, batch, workers = (32, 1, 16, 0) if quick else (384, 3, 32, 1)
    if not (folder / "teacher").exists():
        prepare(folder, images=images, epochs=1 if quick else 3, networks=networks)
    steps = epochs * -(-images // batch)
    settings = {"epochs": epochs, "batch": batch, "workers": workers, "student": networks[1], "steps": steps}
    made = make_timm(f"timm:{networks[1]}", classes=len(CLASSES))
    work = step_operations(made, torch.rand(batch, 3, PIXELS, PIXELS))
    return stepwise(
        "images", f"{networks[1]} of {networks[0]}, {PIXELS} pixels", ways, run, folder, settings, rounds, work / rate
    )


def stepwise(
    job: str,
    case: str,
    ways: Sequence[str],
    run: Callable[[Task], dict[str, Any]],
    folder: Path,
    settings: dict[str, Any],
    rounds: int,
    least: float,
) -> list[dict[str, Any]]:
    """A row for each way of one distillation: the whole of it, and its steps.

    Args:
        job: Its name.
        case: The networks.
        ways: Which are compared.
        run: Runs a task in a process of its own.
        folder: Where data and teacher are.
        settings: Of the tasks; ``steps`` says how many a training has.
        rounds: How often.
        least: Seconds of the student's arithmetic in a step.

    Returns:
        The rows.
    """
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for seed in range(rounds):
        for way in ways:
            found[way].append(run(Task(job, way, str(folder), settings, seed)))
    return [
        {
            "job": job, "case": case, "way": way, "trainings": 1, "measured": 1, "aim": 1.0,
            "seconds": [each["all"] for each in results], "steps": settings["steps"],
            "stepping": [each["stepping"] for each in results],
            "mean_errors": sum(each["errors"] for each in results) / len(results),
            "errors": [each["errors"] for each in results], "limit": least * settings["steps"], "runs": results,
        }
        for way, results in found.items()
    ]  # fmt: skip
