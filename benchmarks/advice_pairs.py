"""Pairs of teacher and student that took no part in the advice of docs/howto/choosing.md: two tables and texts.

The tables are those of the R package mlbench, as Debian has it: letters of twenty fonts by sixteen measurements of
their images, and soil by satellite images of nine pixels in four bands; training and test rows are divided as their
makers did. The texts are descriptions of Debian packages again, but other sizes of networks answer another question:
the programming language, by the tag ``implemented-in`` that a seventh of the packages have.
"""

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

import limbeck
from limbeck.data import DataSet, Examples
from limbeck.data.text import Text
from text_pair import Size, WeightedBag, packages, save_tokenizer

Network = limbeck.ModelOptions | Callable[[int], nn.Module]
TAG = re.compile(r"implemented-in::([\w+-]+)(?:,|$)")


@dataclass(frozen=True)
class Pair:
    """Data, networks and how both are trained.

    Attributes:
        title: Of the pair.
        data: The data.
        teacher: The teacher's network.
        student: The student's.
        taught: Settings of the teacher's training.
        trained: Settings of students and baselines, without the learning rate.
        rates: Learning rates to choose from.
        seeds: Final trainings of each arm.
    """

    title: str
    data: DataSet
    teacher: Network
    student: Network
    taught: dict[str, Any]
    trained: dict[str, Any]
    rates: tuple[float, ...]
    seeds: int


def read_table(folder: Path, name: str, label: str) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]:
    """Features, classes and their names of a table of mlbench, unpacked from Debian's r-cran-mlbench."""
    try:
        import pyreadr
    except ImportError as error:
        raise SystemExit("tables of R are read by pyreadr: pip install pyreadr") from error
    file = folder / "usr/lib/R/site-library/mlbench/data" / f"{name}.rda"
    frame = pyreadr.read_r(str(file))[name]
    names = sorted(frame[label].unique())
    features = frame.drop(columns=label).to_numpy(np.float32)
    return features, np.array([names.index(each) for each in frame[label]]), tuple(names)


def table_data(
    name: str, features: NDArray[np.float32], labels: NDArray[np.int64], classes: tuple[str, ...], tests: int
) -> DataSet:
    """The last rows are for the test; of the others an eighth, drawn, is for validation; features are standardised."""
    order = np.random.default_rng(0).permutation(len(features) - tests)
    few = len(order) // 8
    rows = {"validation": order[:few], "train": order[few:], "test": np.arange(len(order), len(features))}
    mean, spread = features[rows["train"]].mean(0), features[rows["train"]].std(0)
    parts, begin = {}, 0
    for part, chosen in rows.items():
        parts[part] = Examples.of((features[chosen] - mean) / spread, labels[chosen]).numbered_from(begin)
        begin += len(chosen)
    return DataSet(name, classes, parts["train"], parts["test"], parts["validation"])


def table_pair(title: str, data: DataSet, teacher: int, student: int, *, epochs: int, seeds: int) -> Pair:
    """Two hidden layers for both, with so many units."""
    common: dict[str, Any] = {"epochs": epochs, "batch_size": 128, "precision": "float32", "device": "cpu"}
    return Pair(
        title,
        data,
        limbeck.ModelOptions(hidden=(teacher, teacher), dropout=0.2),
        limbeck.ModelOptions(hidden=(student, student)),
        {**common, "learning_rate": 0.002},
        common,
        (0.0007, 0.002, 0.006, 0.018),
        seeds,
    )


def language(fields: dict[str, str]) -> str | None:
    """The language that a package is tagged with; None where there is none, or several."""
    found = TAG.findall(fields.get("Tag", "").replace(" ", ""))
    return found[0] if len(found) == 1 and "implemented-in::{" not in fields["Tag"] else None


def text_data(rows: list[dict[str, str]]) -> DataSet:
    """Texts, each once, divided by source package: 70 % to learn from, 10 % to choose by, 20 % to judge on."""
    rows = list({row["text"]: row for row in rows}.values())
    classes = tuple(sorted({row["label"] for row in rows}))
    sources = list(dict.fromkeys(row["source"] for row in rows))
    drawn = dict(zip(sources, np.random.default_rng(0).random(len(sources)), strict=True))
    bounds = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}
    parts, begin = {}, 0
    for part, (low, high) in bounds.items():
        some = [row for row in rows if low <= drawn[row["source"]] < high]
        texts = Text([row["text"] for row in some], groups=[row["source"] for row in some])
        parts[part] = Examples.of(texts, [classes.index(row["label"]) for row in some]).numbered_from(begin)
        begin += len(some)
    return DataSet("languages", classes, parts["train"], parts["test"], parts["validation"])


def text_pair_of(rows: list[dict[str, str]], folder: Path, *, seeds: int) -> Pair:
    """The networks of ``text_pair.py`` in smaller sizes; tokenizers go into a folder."""
    data = text_data(rows)
    assert isinstance(data.train.inputs, Text)
    networks = []
    for name, size in (("teacher", Size(8000, 96, 256, 0.4)), ("student", Size(4000, 16, 64, 0.3))):
        place = folder / name
        made = str(place) if place.exists() else save_tokenizer(data.train.inputs.texts, place, size.tokens)
        networks.append(partial(WeightedBag, made, size, len(data.classes)))
    common: dict[str, Any] = {
        "warmup_epochs": 0.25, "clip_norm": 1.0, "batch_size": 128, "precision": "float32", "device": "cpu"
    }  # fmt: skip
    return Pair(
        "languages of Debian packages",
        data,
        networks[0],
        networks[1],
        {**common, "epochs": 8, "learning_rate": 2e-3, "weight_decay": 0.05},
        {**common, "epochs": 12, "weight_decay": 0.02},
        (0.001, 0.003, 0.009, 0.027),
        seeds,
    )


def fonts(folder: Path, teacher: int = 600, student: int = 160) -> Pair:
    """Letters of fonts: 16 measurements, 26 classes; the last 4,000 of 20,000 rows are for the test."""
    data = table_data("fonts", *read_table(folder, "LetterRecognition", "lettr"), 4000)
    title = f"letters of fonts, 2x{student} of 2x{teacher}"
    return table_pair(title, data, teacher, student, epochs=60, seeds=10)


def satellite(folder: Path) -> Pair:
    """Kinds of soil: 36 intensities, six classes; the last 2,000 of 6,435 rows are for the test."""
    data = table_data("satellite", *read_table(folder, "Satellite", "classes"), 2000)
    return table_pair("soil from satellites", data, 256, 64, epochs=60, seeds=10)


def languages(folder: Path) -> Pair:
    """Languages of programs, by their descriptions."""
    printed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    return text_pair_of(packages(printed, label=language), folder / "tokenizers", seeds=5)


PAIRS: dict[str, Callable[[Path], Pair]] = {
    "fonts": fonts,
    "small-fonts": partial(fonts, teacher=200, student=60),
    "satellite": satellite,
    "languages": languages,
}


def made_up() -> Pair:
    """A table of noise around four means, for a moment's run."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 900)
    features = (draw.normal(size=(4, 6))[labels] + draw.normal(size=(900, 6))).astype(np.float32)
    data = table_data("made up", features, labels, ("a", "b", "c", "d"), 300)
    return replace(table_pair("made up", data, 16, 4, epochs=2, seeds=2), rates=(0.006, 0.018))
