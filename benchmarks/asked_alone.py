"""Load an exported file where Limbeck cannot be imported, and answer examples; ``exported_answers.py`` runs it.

    python -P benchmarks/asked_alone.py onnx|int8|torch|hub FILE INPUTS OUT.npy
    python -P benchmarks/asked_alone.py times FILE|FILE INPUTS ROUNDS

INPUTS is a folder of ``.npz`` files, a batch each. ``times`` prints seconds of one example, file by file in turns.
"""

import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.modules["limbeck"] = None  # whatever asks for it fails

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

Batch = Mapping[str, NDArray[Any]]
Ask = Callable[[Batch], NDArray[Any]]


def of_onnx(path: str) -> Ask:
    """Answers of an ONNX file, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads, options.inter_op_num_threads = 3, 1, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = [each.name for each in session.get_inputs()]

    def ask(given: Batch) -> NDArray[Any]:
        single = list(given) == ["inputs"]
        found: NDArray[Any] = session.run(None, {name: given["inputs" if single else name] for name in wanted})[0]
        return found

    return ask


def of_torch(network: Any) -> Ask:
    """Answers of a module or an exported program."""
    import torch

    torch.set_num_threads(1)

    def ask(given: Batch) -> NDArray[Any]:
        tensors = {name: torch.from_numpy(value) for name, value in given.items()}
        with torch.no_grad():
            found = network(tensors["inputs"]) if list(given) == ["inputs"] else network(**tensors)
        answers: NDArray[Any] = getattr(found, "logits", found).numpy()
        return answers

    return ask


def without_broken_torchvision() -> list[Any]:
    """A torchvision that was built for another PyTorch stops at its operators: they are declared, and not used."""
    import torch

    kept: list[Any] = []
    for _ in range(200):
        try:
            importlib.import_module("torchvision")
        except ImportError:
            return kept
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+)", str(error))
            if missing is None:
                raise
            kept.append(torch.library.Library("torchvision", "FRAGMENT" if kept else "DEF"))
            kept[-1].define(missing[1] + "() -> ()")
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
        else:
            return kept
    return kept


DECLARED: list[Any] = []
"""Operators live as long as what declared them."""


def opened(kind: str, path: str) -> Ask:
    """Answers of a file of some format."""
    if kind in ("onnx", "int8"):
        return of_onnx(path)
    import torch

    if kind == "torch":
        return of_torch(torch.export.load(path).module())
    config = json.loads((Path(path) / "config.json").read_text())
    if config.get("library_name") == "pytorch":
        return of_torch(torch.export.load(Path(path) / "model.pt2").module())
    DECLARED.extend(without_broken_torchvision())
    if "architectures" in config:
        import transformers

        return of_torch(getattr(transformers, config["architectures"][0]).from_pretrained(path).eval())
    import timm

    return of_torch(timm.create_model(f"local-dir:{path}", pretrained=True).eval())


def timed(paths: Sequence[str], batch: Batch, rounds: int) -> list[list[float]]:
    """Seconds of one example, mean of ten: a list per round, an entry per ONNX file."""
    asking = [of_onnx(each) for each in paths]
    one = {name: value[:1] for name, value in batch.items()}
    for ask in asking * 20:
        ask(one)
    found = []
    for _ in range(rounds):
        times = []
        for ask in asking:
            began = time.perf_counter()
            for _ in range(10):
                ask(one)
            times.append((time.perf_counter() - began) / 10)
        found.append(times)
    return found


def main(kind: str, path: str, folder: str, out: str) -> None:
    """Write the answers, or print the times."""
    batches = [dict(np.load(file)) for file in sorted(Path(folder).glob("*.npz"))]
    if kind == "times":
        print(json.dumps(timed(path.split("|"), batches[0], int(out))))
    else:
        ask = opened(kind, path)
        np.save(out, np.concatenate([ask(given) for given in batches]))
    assert not [name for name in sys.modules if name.split(".")[0] == "limbeck" and sys.modules[name] is not None]


if __name__ == "__main__":
    main(*sys.argv[1:5])
