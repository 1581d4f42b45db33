"""What exported files answer to whole test sets, beside the networks that they were made of.

Files are asked by ``asked_alone.py``, a process in which Limbeck cannot be imported; pages by Node.js.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import limbeck
from exported_cases import Case
from limbeck.data import DataSet, Examples
from limbeck.errors import ConfigError, LimbeckError, ParityError
from limbeck.evaluation.non_inferiority import judge_margin
from limbeck.evaluation.prediction import shown_to
from limbeck.exporters.browser.node import asked_in_node
from limbeck.exporters.comparing import rounding_of
from limbeck.exporters.tracing import bare_inputs
from limbeck.inputs import Inputs
from limbeck.models.calling import call_model

BATCH, TIES, MARGIN = 256, 4, 0.5


def shown(model: nn.Module, examples: Examples) -> Iterator[tuple[Inputs, Tensor]]:
    """All examples as a model takes them, with its own logits."""
    seen = shown_to(model, examples)
    for rows in torch.arange(len(seen)).split(BATCH):
        inputs = bare_inputs(seen.batch(rows).inputs)[0]
        with torch.no_grad():
            yield inputs, call_model(model, inputs)


def child(*words: object) -> str:
    """Run the process that has nothing of Limbeck."""
    file = Path(__file__).with_name("asked_alone.py")
    command = [sys.executable, "-P", str(file), *map(str, words)]
    surroundings = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(command, capture_output=True, text=True, cwd=elsewhere, env=surroundings)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it failed"])[-1][:300])
    return done.stdout


def answers_of(kind: str, path: Path, inputs: Path) -> NDArray[np.float32]:
    """A file's answers to all examples."""
    if kind == "browser":
        ask = asked_in_node(path)
        found = []
        for each in sorted(inputs.glob("*.npz")):
            arrays = {name: torch.from_numpy(value) for name, value in np.load(each).items()}
            found.append(ask(arrays["inputs"] if list(arrays) == ["inputs"] else arrays).numpy())
        return np.concatenate(found)
    out = inputs / f"{kind}.npy"
    child(kind, path, inputs, out)
    answers: NDArray[np.float32] = np.load(out)
    return answers


def measure(case: Case, data: DataSet, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train one network, export it, and ask every file about the whole test set."""
    folder.mkdir(parents=True)
    training = {"epochs": 1 if options.quick else case.epochs, "learning_rate": case.learning_rate, "batch_size": 128}
    trained = limbeck.train(case.make(data), data, precision="float32", warmup_epochs=0.1, **training).model
    model = case.finish(trained, folder).cpu().eval()
    examples = data.test
    assert examples is not None and examples.labels is not None
    inputs = folder / "inputs"
    inputs.mkdir()
    logits = []
    batches: list[Inputs] = []
    for place, (given, answered) in enumerate(shown(model, examples)):
        named = {"inputs": given} if isinstance(given, Tensor) else given
        np.savez(inputs / f"{place:06d}.npz", **{name: each.numpy() for name, each in named.items()})
        batches += [given] if place < 4 else []
        logits.append(answered.float().numpy())
    reference = np.concatenate(logits)
    labels = examples.labels.numpy()
    rounding = rounding_of(model, batches, float(np.abs(reference).max()))
    files: dict[str, Any] = {}
    paths: dict[str, Path] = {}
    margin = MARGIN if not options.quick else 40.0  # few examples show nothing finer
    for kind in [each for each in case.formats if not options.formats or each in options.formats]:
        try:
            done = limbeck.export(
                model, out=folder / kind, formats=[kind], data=data, ort_web=options.ort_web,
                margin=margin if kind == "int8" else None, parity_examples=None if kind == "int8" else 500,
            )  # fmt: skip
            paths[kind] = done.files[kind]
            found = done.parity["formats"][kind]
            answers = answers_of(kind, done.files[kind], inputs)
        except ParityError as error:
            said = str(error).split("no model is kept: ")[-1].split("; see ")[0]
            files[kind] = {"refused": said.removeprefix(f"{kind}: ")}
            continue
        except (ConfigError, LimbeckError, RuntimeError) as error:
            files[kind] = {"not_run": " ".join(str(error).split())[:200]}
            continue
        files[kind] = compared(reference, answers, labels, rounding, margin)
        files[kind] |= {"bytes": found["bytes"], "peak_memory": found.get("peak_memory")}
    ratios = None
    if {"onnx", "int8"} <= set(paths):
        both = f"{paths['onnx']}|{paths['int8']}"
        rounds = np.array(json.loads(child("times", both, inputs, 5 if options.quick else 60)))
        shares = rounds[:, 1] / rounds[:, 0]
        low, middle, high = np.quantile(shares, (0.25, 0.5, 0.75)).tolist()
        size = files["int8"]["bytes"] / files["onnx"]["bytes"]
        one = {"onnx": float(np.median(rounds[:, 0])), "int8": float(np.median(rounds[:, 1]))}
        ratios = {"size": size, "latency": middle, "latency_quartiles": [low, high], "seconds": one}
    return {
        "network": case.name,
        "test_examples": len(labels),
        "accuracy": float((reference.argmax(1) == labels).mean()),
        "rounding": rounding,
        "files": files,
        "int8_over_float32": ratios,
    }


def compared(
    reference: NDArray[Any], answers: NDArray[Any], labels: NDArray[Any], rounding: float, margin: float
) -> dict[str, Any]:
    """What a file's answers are beside the network's own."""
    ours, theirs = reference.argmax(1), answers.argmax(1)
    rows = np.flatnonzero(ours != theirs)
    leads = reference[rows, ours[rows]] - reference[rows, theirs[rows]]
    verdict = judge_margin(
        [theirs != labels], [ours != labels], margin, model="file", reference="network", judged_on="test"
    )
    return {
        "flips": len(rows),
        "unexplained": int((leads > TIES * rounding).sum()),
        "largest_difference": float(np.abs(reference - answers).max()),
        "accuracy": float((theirs == labels).mean()),
        "margin": verdict.outcome,
        "points": margin,
    }
