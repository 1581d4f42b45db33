r"""Exported networks over whole test sets, asked by processes that have nothing of Limbeck.

    python benchmarks/export_networks.py --letters emnist-letters.mat --speech so762 \
        [--ort-web onnxruntime-web-1.30.0.tgz] [--markdown docs/results/export.md] [--json FILE]

Six networks are trained for a few minutes on real data, so that their answers have margins: an MLP, a MobileNet of
timm and a ViT of transformers on MNIST; a CNN on the letters of EMNIST; a BERT of transformers on descriptions of
Debian packages (``apt-cache dumpavail``); and an acoustic model of Kaldi's nnet1 on frames of speech. Each is exported
to each format that makes sense. A process in which Limbeck cannot be imported loads the file and answers every test
example; pages run in Node.js. Its answers are compared here with those of the network in PyTorch.

Of formats that compute in float32 an answer may differ only where it was a tie (a lead of no more than four roundings).
The int8 file is shown to be within 0.5 points of the network's error rate (Tango's interval), or it is refused. Size
and latency of it are given as shares of those of the float32 file: one example, one thread, in turns in one process.
``--quick`` trains on a few hundred examples, and shows only that all of it runs.
"""

import argparse
import csv
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import limbeck
from limbeck.data import DataSet, Examples, cut_validation, open_data
from limbeck.data.text import Text
from limbeck.data.text_files import open_text
from limbeck.errors import ConfigError, LimbeckError, ParityError
from limbeck.evaluation.non_inferiority import judge_margin
from limbeck.evaluation.prediction import shown_to
from limbeck.exporters.browser.node import asked_in_node
from limbeck.exporters.comparing import rounding_of
from limbeck.exporters.tracing import bare_inputs
from limbeck.inputs import Inputs
from limbeck.kaldi.convert.runs import write_run
from limbeck.kaldi.weight_files import nnet_of
from limbeck.models.calling import call_model
from limbeck.models.timm_models import make_timm
from limbeck.options import DataOptions, ImagePresentation, ModelOptions, TextPresentation
from limbeck.recipes.corpus import corpus
from limbeck.recipes.series import Series
from limbeck.system.files import replace_text
from limbeck.system.hugging_face import transformers
from limbeck.system.machine import machine

sys.path.insert(0, str(Path(__file__).parent))
from text_pair import made_up, packages, save_tokenizer  # noqa: E402  (a benchmark beside this one)

BATCH, LENGTH, TIES, MARGIN = 256, 48, 4, 0.5
START, END = "<!-- tables: written by benchmarks/export_networks.py -->", "<!-- end of tables -->"
CHILD = r'''
import json, sys
sys.modules["limbeck"] = None  # whatever asks for it fails
import numpy, time
kind, path, folder, out = sys.argv[1:5]
names = sorted(each for each in __import__("os").listdir(folder) if each.endswith(".npz"))
batches = [dict(numpy.load(folder + "/" + name)) for name in names]
single = list(batches[0]) == ["inputs"]

def of_onnx(path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads, options.inter_op_num_threads = 3, 1, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = [each.name for each in session.get_inputs()]
    return lambda given: session.run(None, {n: given["inputs" if single else n] for n in wanted})[0]

def of_torch(network):
    import torch
    torch.set_num_threads(1)
    def ask(given):
        tensors = {name: torch.from_numpy(value) for name, value in given.items()}
        with torch.no_grad():
            found = network(tensors["inputs"]) if single else network(**tensors)
        return getattr(found, "logits", found).numpy()
    return ask

def without_broken_torchvision():
    """A torchvision that was built for another PyTorch stops at its operators: they are declared, and not used."""
    import importlib, re, torch
    kept = []
    for _ in range(200):
        try:
            return importlib.import_module("torchvision") and kept
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

def opened():
    if kind in ("onnx", "int8"):
        return of_onnx(path)
    import torch
    if kind == "torch":
        return of_torch(torch.export.load(path).module())
    config = json.load(open(path + "/config.json"))
    if config.get("library_name") == "pytorch":
        return of_torch(torch.export.load(path + "/model.pt2").module())
    global kept
    kept = without_broken_torchvision()
    if "architectures" in config:
        import transformers
        return of_torch(getattr(transformers, config["architectures"][0]).from_pretrained(path).eval())
    import timm
    return of_torch(timm.create_model("local-dir:" + path, pretrained=True).eval())

def first(given):
    return {name: value[:1] for name, value in given.items()}

if kind == "times":
    asking = [of_onnx(each) for each in path.split("|")]
    one, rounds = first(batches[0]), []
    for ask in asking * 20:
        ask(one)
    for _ in range(int(out)):
        times = []
        for ask in asking:
            began = time.perf_counter()
            for _ in range(10):
                ask(one)
            times.append((time.perf_counter() - began) / 10)
        rounds.append(times)
    print(json.dumps(rounds))
else:
    ask = opened()
    numpy.save(out, numpy.concatenate([ask(given) for given in batches]))
assert not [n for n in sys.modules if n.split(".")[0] == "limbeck" and sys.modules[n] is not None]
'''


@dataclass(frozen=True)
class Case:
    """A network, and what it is trained on.

    Attributes:
        name: What it is called.
        data: Opens its data; None where there are none.
        make: Makes the network for these data, from a seed.
        epochs: How long it is trained.
        learning_rate: How fast.
        formats: Those that make sense.
        finish: What becomes of the trained network.
    """

    name: str
    data: Callable[[], DataSet | None]
    make: Callable[[DataSet], Callable[[int], nn.Module]]
    epochs: int
    learning_rate: float
    formats: tuple[str, ...] = ("onnx", "int8", "torch", "hub", "browser")
    finish: Callable[[nn.Module, Path], nn.Module] = lambda network, folder: network


def own(**options: Any) -> Callable[[DataSet], Callable[[int], nn.Module]]:
    """Makes one of Limbeck's own networks."""

    def make(data: DataSet) -> Callable[[int], nn.Module]:
        from limbeck.models import from_options

        shape = data.train.shape
        return lambda seed: from_options(
            ModelOptions(**options), input_shape=shape, classes=len(data.classes), seed=seed
        )

    return make


def mobilenet(data: DataSet) -> Callable[[int], nn.Module]:
    """A small MobileNet of timm for grey images of 28 pixels."""
    return lambda seed: make_timm(
        "timm:mobilenetv3_small_050", classes=len(data.classes), input_shape=tuple(data.train.shape)
    )


def vit(data: DataSet) -> Callable[[int], nn.Module]:
    """A small ViT of transformers for grey images of 28 pixels."""
    hf = transformers()
    config = hf.ViTConfig(
        image_size=28, patch_size=7, num_channels=1, hidden_size=96, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=192, num_labels=len(data.classes),
    )  # fmt: skip

    def make(seed: int) -> nn.Module:
        made: nn.Module = hf.ViTForImageClassification(config)
        made.presentation = ImagePresentation.plain(28, channels=1)  # type: ignore[assignment]
        return made

    return make


def bert(folder: Path, data: DataSet) -> Callable[[int], nn.Module]:
    """A small BERT of transformers, with a tokenizer that is trained on its texts."""
    hf = transformers()
    assert isinstance(data.train.inputs, Text)
    tokenizer = save_tokenizer(data.train.inputs.texts, folder / "tokenizer", 8000)
    config = hf.BertConfig(
        vocab_size=8000, hidden_size=96, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192,
        num_labels=len(data.classes), max_position_embeddings=LENGTH, hidden_dropout_prob=0.1,
    )  # fmt: skip

    def make(seed: int) -> nn.Module:
        made: nn.Module = hf.BertForSequenceClassification(config)
        names = ("input_ids", "attention_mask")
        made.presentation = TextPresentation(tokenizer, LENGTH, names)  # type: ignore[assignment]
        return made

    return make


def as_nnet1(network: nn.Module, folder: Path) -> nn.Module:
    """A trained network in the form of Kaldi's nnet1."""
    write_run(folder / "nnet1", nnet_of(network))
    found = limbeck.load(folder / "nnet1")
    assert isinstance(found, nn.Module)
    return found


def texts(folder: Path, *, quick: bool) -> DataSet:
    """Descriptions of Debian packages, by section."""
    command = ["apt-cache", "dumpavail"]
    text = made_up(900) if quick else subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with open(folder / "descriptions.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label", "source"])
        writer.writeheader()
        writer.writerows(packages(text))
    return cut_validation(open_text(folder / "descriptions.csv", group_column="source"), 0.1)


def frames(source: str, folder: Path, *, quick: bool) -> DataSet:
    """Frames of speech with their neighbours."""
    return corpus(Series(folder / "speech", "speech", quick=quick), source).whole


def cases(options: argparse.Namespace, folder: Path) -> list[Case]:
    """The networks that were asked for, of data that are there."""
    mnist = partial(open_data, DataOptions(data="mnist", validation=5000))
    letters, speech = options.letters, options.speech
    found = [
        Case("quickstart's student, MNIST", mnist, own(model="mlp", hidden=(300,)), 6, 1e-3),
        Case(
            "CNN, letters",
            lambda: None if letters is None else open_data(DataOptions(data=letters, validation=0.1)),
            own(model="cnn", channels=(32, 64), hidden=(256,)), 4, 1e-3,
        ),
        Case("MobileNet of timm, MNIST", mnist, mobilenet, 4, 2e-3),
        Case("ViT of transformers, MNIST", mnist, vit, 6, 1e-3),
        Case(
            "BERT of transformers, texts", partial(texts, folder, quick=options.quick), partial(bert, folder), 3, 1e-3
        ),
        Case(
            "nnet1, frames of speech",
            lambda: None if speech is None else frames(speech, folder, quick=options.quick),
            own(model="mlp", hidden=(256, 256), activation="sigmoid", standardise=False), 2, 1e-3, finish=as_nnet1,
        ),
    ]  # fmt: skip
    return [case for case in found if not options.only or any(word in case.name for word in options.only)]


def few(data: DataSet, count: int) -> DataSet:
    """A small part of the data."""

    def part(examples: Examples | None, most: int) -> Examples | None:
        return examples if examples is None or len(examples) <= most else examples.take(torch.arange(most))

    train = part(data.train, 4 * count)
    assert train is not None
    return replace(data, train=train, validation=part(data.validation, count), test=part(data.test, count))


def shown(model: nn.Module, examples: Examples) -> Iterator[tuple[Inputs, Tensor]]:
    """All examples as a model takes them, with its own logits."""
    seen = shown_to(model, examples)
    for rows in torch.arange(len(seen)).split(BATCH):
        inputs = bare_inputs(seen.batch(rows).inputs)[0]
        with torch.no_grad():
            yield inputs, call_model(model, inputs)


def child(*words: object) -> str:
    """Run the process that has nothing of Limbeck."""
    command = [sys.executable, "-c", CHILD, *map(str, words)]
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


def page(rows: list[dict[str, Any]]) -> str:
    """The tables, in Markdown."""
    lines = [
        "| network | format | bytes | answers that differ | no ties | largest difference of a logit | accuracy | "
        "peak memory, MB | verdict |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        name = f"{row['network']} ({row['test_examples']:,} examples, {100 * row['accuracy']:.2f} % right)"
        for kind, found in row["files"].items():
            if "flips" not in found:
                why = next(f"{what.replace('_', ' ')}: {text}" for what, text in found.items())
                lines.append(f"| {name} | {kind} | | | | | | | {why.replace('|', '/')} |")
                continue
            apart = f"within {found['points']:g} points" if found["margin"] == "as good" else found["margin"]
            memory = "" if found["peak_memory"] is None else f"{found['peak_memory']['bytes'] / 1e6:,.0f}"
            verdict = apart if kind == "int8" else "ties alone" if not found["unexplained"] else "**wrong**"
            lines.append(
                f"| {name} | {kind} | {found['bytes']:,} | {found['flips']:,} | {found['unexplained']:,} | "
                f"{found['largest_difference']:.2g} | {100 * found['accuracy']:.2f} % | {memory} | {verdict} |"
            )
    lines += [
        "",
        "| network | bytes of int8 / float32 | latency of int8 / float32 (quartiles) | float32, ms | int8, ms |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        if (ratio := row["int8_over_float32"]) is not None:
            low, high = ratio["latency_quartiles"]
            ms = [f"{1000 * ratio['seconds'][kind]:.3f}" for kind in ("onnx", "int8")]
            lines.append(
                f"| {row['network']} | {ratio['size']:.2f} | {ratio['latency']:.2f} ({low:.2f} to {high:.2f}) | "
                f"{ms[0]} | {ms[1]} |"
            )
    about = machine(("limbeck", "torch", "onnx", "onnxruntime", "timm", "transformers"))
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    place = f"{about.get('processor') or about.get('cpu') or ''}".strip()
    lines += ["", f"{datetime.date.today()}; {place}; {versions}."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 where an answer of a float32 file differs that was not a tie."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--letters", metavar="FILE", help="letters of EMNIST; without them that network is left out")
    parser.add_argument("--speech", metavar="FOLDER", help="Kaldi's directories by their usual names; likewise")
    parser.add_argument(
        "--ort-web", metavar="FILE", help="the npm package onnxruntime-web, for pages of other networks"
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="networks whose name holds one of these")
    parser.add_argument("--formats", nargs="*", default=[], metavar="NAME", help="these formats alone")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="put the tables between the marks of this page")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="keep the results in a file; networks that it holds are not run again"
    )
    parser.add_argument("--quick", action="store_true", help="a short run that shows only that all of it works")
    options = parser.parse_args(arguments)
    rows = json.loads(options.json.read_text()) if options.json is not None and options.json.is_file() else []
    done = {row["network"] for row in rows}
    with tempfile.TemporaryDirectory() as place:
        for number, case in enumerate(cases(options, Path(place))):
            if case.name in done:
                continue
            data = case.data()
            if data is None:
                print(f"{case.name}: its data are not named, so it is left out", file=sys.stderr)
                continue
            if options.quick:
                data = few(data, 200)
            case_ = case if options.ort_web or not pages_need_runtime(case) else without_page(case)
            rows.append(measure(case_, data, Path(place) / str(number), options))
            print(json.dumps(rows[-1]), file=sys.stderr)
            if options.json is not None:
                replace_text(options.json, json.dumps(rows, indent=2) + "\n")
            shutil.rmtree(Path(place) / str(number))
    names = [case.name for case in cases(options, Path())]
    rows.sort(key=lambda row: names.index(row["network"]) if row["network"] in names else len(names))
    written = page(rows)
    print(written)
    if options.markdown is not None:
        text = options.markdown.read_text()
        before, after = text.split(START)[0], text.split(END)[1]
        replace_text(options.markdown, f"{before}{START}\n\n{written}\n\n{END}{after}")
    float32 = [found for row in rows for kind, found in row["files"].items() if kind != "int8"]
    return int(any(found.get("unexplained") for found in float32))


def pages_need_runtime(case: Case) -> bool:
    """Whether the page of a network holds ONNX Runtime Web."""
    return "timm" in case.name or "transformers" in case.name


def without_page(case: Case) -> Case:
    """The same, without the page."""
    return replace(case, formats=tuple(kind for kind in case.formats if kind != "browser"))


if __name__ == "__main__":
    sys.exit(main())
