"""The same distillation written with Limbeck, with keras.distillation and as a plain PyTorch script.

    python benchmarks/against_others.py [--epochs 10] [--repeats 3] [--cache FOLDER] [--json FILE] [--quick]
    python benchmarks/against_others.py --ways pytorch-0 limbeck

A teacher 784-1200-1200-10 is trained once, on MNIST's 60,000 digits with jitter, and kept in the cache folder. Then
each way distils a student 784-300-300-10 from it on the same digits, unaugmented: T = 4, a tenth of the weight on the
true labels, batch 256, Adam with a learning rate of 0.001, equal epochs, and no validation set.

- limbeck: ``limbeck.distill`` with its defaults: the teacher's answers are computed once and kept, the precision is
  measured and chosen, the rate falls as a cosine from 0.002, so that its mean is the others'. limbeck-constant keeps
  the rate as the others do; limbeck-float32 does so too, and computes in float32 as they do.
- pytorch-0 and pytorch-2: a ``DataLoader`` of float tensors with 0 and 2 workers, the teacher answering at each step.
- keras-torch, keras-jax, keras-tensorflow: ``keras.distillation.Distiller`` on these backends, those that are
  installed. ``LogitsDistillation`` is given ``KLDivergence()``: its default, the text "kl_divergence", becomes a
  function that is applied to scores divided by T without any softmax; the script measures that, and prints it.

Each run is a process of its own, and the ways take turns. "training" is the time of the call that trains, without
imports and reading of data; for Limbeck it holds the teacher's answers and all checks. "all" is the whole process as
a user waits for it: imports, data, training, test.
"""

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_distilling import dense_network, distiller, network_of, open_keras
from whole_common import plain_loss

TEMPERATURE, HARD_WEIGHT, BATCH, RATE = 4.0, 0.1, 256, 1e-3
HIDDEN, CLASSES, PIXELS = 300, 10, 784
TARGET = 5.0
WAYS = (
    "limbeck", "limbeck-constant", "limbeck-float32", "pytorch-0", "pytorch-2",
    "keras-torch", "keras-jax", "keras-tensorflow",
)  # fmt: skip
KERAS_COMMAND = "pip install 'keras>=3.12'"


@dataclass(frozen=True)
class Task:
    """What one process does.

    Attributes:
        way: One of ``WAYS``.
        teacher: Folder of the teacher.
        epochs: Passes over the training set.
        examples: How many training images.
        seed: Seed of weights and order.
    """

    way: str
    teacher: str
    epochs: int
    examples: int
    seed: int


def digits(examples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MNIST as bytes: training images and labels, test images and labels."""
    from limbeck import open_data

    data = open_data("mnist")
    assert data.train.labels is not None and data.test is not None and data.test.labels is not None
    return (
        data.train.inputs[:examples].numpy(),
        data.train.labels[:examples].numpy(),
        data.test.inputs.numpy(),
        data.test.labels.numpy(),
    )


def flat_floats(images: np.ndarray) -> np.ndarray:
    """Images as rows of numbers in [0, 1]."""
    return images.reshape(len(images), PIXELS).astype(np.float32) / 255


def with_limbeck(task: Task) -> dict[str, Any]:
    """As Limbeck's user writes it."""
    import torch

    import limbeck
    from limbeck.evaluation.prediction import predict
    from limbeck.models import MLP, MLPConfig

    x, y, x_test, y_test = digits(task.examples)
    teacher = limbeck.load(task.teacher)
    torch.manual_seed(task.seed)
    student = MLP(MLPConfig(input_shape=(1, 28, 28), classes=CLASSES, hidden=(HIDDEN, HIDDEN)))
    # Imports are not counted, and PyTorch's first optimiser imports its compiler: seconds, which the others have
    # behind them when their clock starts. Limbeck imports what it needs at the first use of a name.
    distill = limbeck.distill
    torch.optim.AdamW(student.parameters())
    importlib.import_module("accelerate")
    began = time.perf_counter()
    run = distill(
        teacher,
        student,
        (x, y),
        temperature=TEMPERATURE,
        hard_weight=HARD_WEIGHT,
        baseline=False,
        epochs=task.epochs,
        batch_size=BATCH,
        # A cosine's mean is half its peak: with this peak the mean rate is the others' rate.
        learning_rate=2 * RATE if task.way == "limbeck" else RATE,
        schedule="cosine" if task.way == "limbeck" else "constant",
        precision="float32" if task.way == "limbeck-float32" else "auto",
        seed=task.seed,
    )
    seconds = time.perf_counter() - began
    answers = predict(run.student, limbeck.Examples.of(x_test)).numpy()
    return {"training": seconds, "errors": int((answers.argmax(1) != y_test).sum())}


def with_pytorch(task: Task) -> dict[str, Any]:
    """As a plain script has it."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    import limbeck

    x, y, x_test, y_test = digits(task.examples)
    teacher = limbeck.load(task.teacher)
    assert isinstance(teacher, nn.Module)
    torch.manual_seed(task.seed)
    data = TensorDataset(torch.from_numpy(flat_floats(x)), torch.from_numpy(y))
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=int(task.way.split("-")[1]))
    student = nn.Sequential(
        nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
    )  # fmt: skip
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE)
    teacher.eval()
    began = time.perf_counter()
    for _ in range(task.epochs):
        for inputs, labels in loader:
            with torch.no_grad():
                answers = teacher(inputs)
            loss = plain_loss(student(inputs), answers, labels, temperature=TEMPERATURE, weight=HARD_WEIGHT)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - began
    with torch.no_grad():
        answers = student(torch.from_numpy(flat_floats(x_test))).argmax(1).numpy()
    return {"training": seconds, "errors": int((answers != y_test).sum())}


def with_keras(task: Task) -> dict[str, Any]:
    """As the Keras guide has it, with the loss given explicitly."""
    keras = open_keras(task.way.split("-")[1])
    x, y, x_test, y_test = digits(task.examples)
    keras.utils.set_random_seed(task.seed)
    teacher = network_of(keras, PIXELS, Path(task.teacher))
    student = dense_network(keras, PIXELS, [HIDDEN, HIDDEN, CLASSES])
    learner = distiller(keras, teacher, student, temperature=TEMPERATURE, weight=HARD_WEIGHT, rate=RATE)
    inputs = flat_floats(x)
    began = time.perf_counter()
    learner.fit(inputs, y, batch_size=BATCH, epochs=task.epochs, verbose=0)
    seconds = time.perf_counter() - began
    answers = np.asarray(student.predict(flat_floats(x_test), batch_size=1000, verbose=0)).argmax(1)
    taught = np.asarray(teacher.predict(flat_floats(x_test), batch_size=1000, verbose=0)).argmax(1)
    return {
        "training": seconds,
        "errors": int((answers != y_test).sum()),
        "teacher_errors": int((taught != y_test).sum()),
        "keras": keras.__version__,
        "default_loss": default_loss(keras),
    }


def default_loss(keras: Any) -> dict[str, float]:
    """The default soft term and the explicit one on two examples, beside T² times the KL divergence in float64."""
    teacher = np.array([[5.0, 1.0, -2.0], [0.0, 3.0, 1.0]], np.float32)
    student = np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]], np.float32)
    kind = keras.distillation.LogitsDistillation
    found = {
        "default": kind(temperature=TEMPERATURE).compute_loss(teacher, student),
        "explicit": kind(temperature=TEMPERATURE, loss=keras.losses.KLDivergence()).compute_loss(teacher, student),
    }
    p, q = (np.exp(z.astype(np.float64) / TEMPERATURE) for z in (teacher, student))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    divergence = TEMPERATURE**2 * float((p * np.log(p / q)).sum(1).mean())
    return {**{name: float(value) for name, value in found.items()}, "formula": divergence}


def missing(way: str) -> str | None:
    """Why a way cannot be taken here, with the command that helps; None where it can."""
    if not way.startswith("keras"):
        return None
    backend = way.split("-")[1]
    for package in ("keras", backend):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: {KERAS_COMMAND if package == 'keras' else f'pip install {package}'}"
    probe = "import keras; keras.distillation.LogitsDistillation"
    answer = subprocess.run(
        [sys.executable, "-c", probe], env={**os.environ, "KERAS_BACKEND": backend}, capture_output=True, text=True
    )  # fmt: skip
    if answer.returncode == 0:
        return None
    reason = (answer.stderr.strip().splitlines() or ["no message"])[-1]
    return f"keras.distillation cannot be used ({reason}): {KERAS_COMMAND}"


def run_child(task: Task) -> dict[str, Any]:
    """One way in a process of its own, and how long all of it took.

    Raises:
        SystemExit: If the process failed; what it said is passed on.
    """
    began = time.perf_counter()
    command = [sys.executable, __file__, "--child", json.dumps(vars(task))]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"{task.way} failed:\n{answer.stderr}")
    return {**json.loads(answer.stdout.splitlines()[-1]), "all": time.perf_counter() - began}


def make_teacher(folder: Path, *, quick: bool) -> tuple[Path, int]:
    """The teacher's folder and its test errors, trained where the cache has none."""
    import limbeck
    from limbeck.evaluation.prediction import predict
    from limbeck.models import MLP, MLPConfig

    path = folder / ("teacher-quick" if quick else "teacher")
    data = limbeck.open_data("mnist")
    if not (path / "model.safetensors").exists():
        import torch

        torch.manual_seed(0)
        config = MLPConfig(input_shape=(1, 28, 28), classes=CLASSES, hidden=(1200, 1200), dropout=0.3, max_norm=3.0)
        examples = data.train.take(torch.arange(1000 if quick else len(data.train)))
        run = limbeck.train(
            MLP(config),
            examples,
            augmentation=limbeck.Augmentation(shift=2),
            epochs=1 if quick else 10,
            batch_size=BATCH,
        )
        limbeck.save_model(path, run.model, classes=data.classes)
    assert data.test is not None and data.test.labels is not None
    answers = predict(limbeck.load(path), data.test)
    return path, int((answers.argmax(1) != data.test.labels).sum())


def summary(runs: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row a way: medians, errors, and Limbeck's times as fast."""
    rows = []
    for way, results in runs.items():
        row: dict[str, Any] = {
            "way": way,
            "training": statistics.median(result["training"] for result in results),
            "all": statistics.median(result["all"] for result in results),
            "errors": [result["errors"] for result in results],
            "mean_errors": statistics.mean(result["errors"] for result in results),
        }
        if "limbeck" in runs and not way.startswith("limbeck"):
            for column in ("training", "all"):
                pairs = zip(results, runs["limbeck"], strict=True)
                ratios = [theirs[column] / ours[column] for theirs, ours in pairs]
                row[f"limbeck_times_as_fast_{column}"] = statistics.median(ratios)
        rows.append(row)
    return rows


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table, and whether the target is met."""
    print(f"{'way':<18}{'training s':>11}{'all s':>8}{'test errors':>14}  {'each':<18}{'limbeck is faster':>18}"
          f"{'with all':>10}")  # fmt: skip
    ours = next((row for row in rows if row["way"] == "limbeck"), None)
    for row in rows:
        speed = row.get("limbeck_times_as_fast_training")
        factors = "" if speed is None else f"{speed:>17.1f}x{row['limbeck_times_as_fast_all']:>9.1f}x"
        errors = f"{row['mean_errors']:>14.1f}  {' '.join(map(str, row['errors'])):<18}"
        print(f"{row['way']:<18}{row['training']:>11.2f}{row['all']:>8.2f}{errors}{factors}")
    for row in rows:
        if ours is not None and (speed := row.get("limbeck_times_as_fast_training")) is not None:
            fast, right = speed >= TARGET, ours["mean_errors"] <= row["mean_errors"]
            print(f"against {row['way']}: {TARGET:.0f} times as fast {'met' if fast else 'MISSED'} ({speed:.1f}), "
                  f"no more errors {'met' if right else 'MISSED'} ({ours['mean_errors']:.1f} and "
                  f"{row['mean_errors']:.1f})")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="which to compare")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training set")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way, with seeds from 0")
    parser.add_argument("--examples", type=int, default=60000, help="training images")
    parser.add_argument("--cache", type=Path, help="folder where the teacher is kept; default: a temporary one")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        task = Task(**json.loads(options.child))
        kinds: dict[str, Callable[[Task], dict[str, Any]]] = {
            "limbeck": with_limbeck, "pytorch": with_pytorch, "keras": with_keras,
        }  # fmt: skip
        print(json.dumps(kinds[task.way.split("-")[0]](task)))
        return 0
    if options.quick:
        options.epochs, options.repeats, options.examples = 1, 1, 1000
    ways = []
    for way in options.ways:
        if (reason := missing(way)) is None:
            ways.append(way)
        else:
            print(f"{way} is left out: {reason}")
    with tempfile.TemporaryDirectory() as temporary:
        teacher, errors = make_teacher(options.cache or Path(temporary), quick=options.quick)
        print(f"teacher 784-1200-1200-10: {errors} test errors; {options.epochs} epochs of {options.examples} images")
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for seed in range(options.repeats):
            for way in ways:
                runs[way].append(run_child(Task(way, str(teacher), options.epochs, options.examples, seed)))
    rows = summary(runs)
    print_table(rows)
    for results in runs.values():
        if "default_loss" in results[0]:
            values = results[0]["default_loss"]
            print(f"keras {results[0]['keras']}: the soft term of two examples is {values['default']:.4f} by default, "
                  f"{values['explicit']:.4f} with KLDivergence(), {values['formula']:.4f} by the formula; "
                  f"the teacher there makes {results[0]['teacher_errors']} errors")  # fmt: skip
            break
    if options.json is not None:
        options.json.write_text(json.dumps({"teacher_errors": errors, "rows": rows, "runs": runs}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
