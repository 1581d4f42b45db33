"""What ``growth.py`` measures: for each axis, what is made beforehand, and what is timed in a process of its own."""

import csv
import random
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS, CLASSES = 8, 5
PIECE = 1 << 20
"""Rows made at a time."""


@dataclass(frozen=True)
class Axis:
    """One thing that grows.

    Attributes:
        name: Its name.
        what: What is done, in words.
        sizes: From small to large.
        few: Those of a quick run.
        make: Makes the files for a size in a folder, before the clock starts; also by a quick run.
        work: What is timed, as parts by name: they are called one after the other, each with what is known so far.
        most: The largest exponent that needs no reason.
        reason: Why an exponent is larger, where it may be.
    """

    name: str
    what: str
    sizes: tuple[int, ...]
    few: tuple[int, ...]
    make: Callable[[Path, int], None]
    work: dict[str, Callable[[Path, int, dict[str, Any]], Any]] = field(default_factory=dict)
    most: float = 1.1
    reason: str = ""


def network(*widths: int) -> Any:
    """Linear layers with ReLU between them."""
    import torch
    from torch import nn

    torch.manual_seed(widths[1])
    layers: list[Any] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.ReLU()] * bool(layers) + [nn.Linear(before, after)]
    return nn.Sequential(*layers)


def nothing(folder: Path, size: int) -> None:
    """No file is needed."""


def table(folder: Path, size: int) -> None:
    """Rows of numbers with labels, as an archive."""
    draw = np.random.default_rng(0)
    x = np.empty((size, COLUMNS), np.float32)
    for start in range(0, size, PIECE):
        x[start : start + PIECE] = draw.standard_normal((min(PIECE, size - start), COLUMNS), np.float32)
    np.savez(folder / "table.npz", x=x, y=x[:, :CLASSES].argmax(1).astype(np.int64))


def open_table(folder: Path, size: int, known: dict[str, Any]) -> None:
    """Open it as data."""
    import limbeck

    known["data"] = limbeck.open_data(str(folder / "table.npz"))


def settings(size: int, batch: int) -> dict[str, Any]:
    """What all trainings have."""
    return {"epochs": 1, "batch_size": batch, "precision": "float32", "baseline": False, "progress": False}


def distil_table(folder: Path, size: int, known: dict[str, Any]) -> None:
    """One epoch from a live teacher."""
    import limbeck

    teacher, student = network(COLUMNS, 64, CLASSES), network(COLUMNS, 16, CLASSES)
    limbeck.distill(teacher, student, known["data"], **settings(size, 1024))


CLASS_ROWS, CLASS_INPUTS, KEPT = 4000, 16, 8


def inputs_alone(rows: int) -> Any:
    """Unlabelled rows of numbers."""
    import torch

    import limbeck

    return limbeck.Examples.of(torch.randn(rows, CLASS_INPUTS, generator=torch.Generator().manual_seed(0)))


def soften_classes(folder: Path, size: int, known: dict[str, Any]) -> None:
    """Store the eight most probable classes of each row."""
    import limbeck

    known["rows"] = inputs_alone(CLASS_ROWS)
    known["names"] = tuple(f"c{number}" for number in range(size))
    limbeck.SoftTargets.write(
        folder / "store", network(CLASS_INPUTS, 32, size), known["rows"], classes=known["names"],
        encoding="topk", k=min(KEPT, size - 1), batch_size=64, progress=False,
    )  # fmt: skip


def distil_classes(folder: Path, size: int, known: dict[str, Any]) -> None:
    """One epoch from the store, without labels."""
    import limbeck

    targets = limbeck.SoftTargets.open(folder / "store")
    limbeck.distill(
        targets, network(CLASS_INPUTS, 24, size), limbeck.DataSet("rows", known["names"], known["rows"]),
        temperature=2.0, hard_weight=0.0, **settings(size, 64),
    )  # fmt: skip


def drawn(rows: int) -> tuple[Any, Any]:
    """Rows of numbers with labels, in memory."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((rows, COLUMNS), np.float32)
    return x, x[:, :CLASSES].argmax(1)


def distil_members(folder: Path, size: int, known: dict[str, Any]) -> None:
    """One epoch from an ensemble that answers once."""
    import limbeck

    members = [network(COLUMNS, 256, 256, CLASSES) for _ in range(size)]
    teacher = limbeck.Ensemble(members, mean="geometric")
    limbeck.distill(teacher, network(COLUMNS, 16, CLASSES), drawn(50_000), **settings(size, 1024) | {"epochs": 2})


def train_members(folder: Path, size: int, known: dict[str, Any]) -> None:
    """Train an ensemble."""
    import limbeck

    def member(seed: int) -> Any:
        return network(COLUMNS, 16 + 0 * seed, CLASSES)

    kept = {name: value for name, value in settings(size, 128).items() if name != "baseline"}
    limbeck.train(member, drawn(20_000), members=size, **kept)


def distil_seeds(folder: Path, size: int, known: dict[str, Any]) -> None:
    """Students and baselines of several seeds, with their verdict."""
    import limbeck

    def student(seed: int) -> Any:
        return network(COLUMNS, 16 + 0 * seed, CLASSES)

    x, y = drawn(24_000)
    limbeck.distill(
        network(COLUMNS, 64, CLASSES), student, (x[:20_000], y[:20_000]), test=(x[20_000:], y[20_000:]), seeds=size,
        **settings(size, 128) | {"baseline": True},
    )  # fmt: skip


SHARD_ROWS = 100_000


def write_shards(folder: Path, size: int, known: dict[str, Any]) -> None:
    """A store of so many shards."""
    import limbeck

    known["examples"] = limbeck.Examples.of(*drawn(SHARD_ROWS))
    bytes_of_all = SHARD_ROWS * CLASSES * 2
    limbeck.SoftTargets.write(
        folder / "store", network(COLUMNS, 16, CLASSES), known["examples"], classes="abcde",
        shard_bytes=-(-bytes_of_all // size), progress=False,
    )  # fmt: skip
    known["shards"] = len(list((folder / "store").glob("*.shard*")))


def read_shards(folder: Path, size: int, known: dict[str, Any]) -> None:
    """Open it, check every byte, and distil one epoch from it."""
    import limbeck

    targets = limbeck.SoftTargets.open(folder / "store")
    targets.verify()
    limbeck.distill(
        targets, network(COLUMNS, 16, CLASSES), limbeck.DataSet("rows", tuple("abcde"), known["examples"]),
        **settings(size, 1024),
    )  # fmt: skip


TEXTS = 96


def texts(folder: Path, size: int) -> None:
    """Texts of so many words, and a BERT made from a configuration."""
    import transformers

    from text_pair import save_tokenizer

    draw = random.Random(0)
    rows = [" ".join(f"w{draw.randrange(300)}" for _ in range(size)) for _ in range(TEXTS)]
    with open(folder / "texts.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *((row, f"c{n % 2}") for n, row in enumerate(rows))])
    save_tokenizer((f"w{number} w{number}" for number in range(300)), folder / "bert", 800)
    transformers.BertConfig(
        vocab_size=800, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256,
        max_position_embeddings=size + 2, num_labels=2, architectures=["BertForSequenceClassification"],
    ).save_pretrained(folder / "bert")  # fmt: skip


def train_texts(folder: Path, size: int, known: dict[str, Any]) -> None:
    """One epoch of texts of equal length."""
    import limbeck
    from limbeck.models.hf_models import hf_model

    data = limbeck.open_data(str(folder / "texts.csv"), text_column="text")
    model = hf_model(str(folder / "bert"), data.classes, max_length=size + 2)
    kept = {name: value for name, value in settings(size, 16).items() if name != "baseline"}
    limbeck.train(model, data, **kept)


PIXELS = 784


def archive(folder: Path, size: int) -> None:
    """Images of 28x28 as an archive of so many bytes."""
    rows = size // PIXELS
    images = np.empty((rows, 28, 28), np.uint8)
    draw = np.random.default_rng(0)
    for start in range(0, rows, 1 << 16):
        images[start : start + (1 << 16)] = draw.integers(0, 256, (min(1 << 16, rows - start), 28, 28), np.uint8)
    np.savez(folder / "images.npz", x=images, y=(np.arange(rows) % 10).astype(np.uint8))


def open_at(name: str) -> Callable[[Path, int, dict[str, Any]], Any]:
    """A part that opens a path as data."""

    def opening(folder: Path, size: int, known: dict[str, Any]) -> None:
        import limbeck

        known["data"] = limbeck.open_data(str(folder / name))

    return opening


def digest(folder: Path, size: int, known: dict[str, Any]) -> None:
    """The digests of the data, as each run takes them."""
    known["data"].identity()


def idx(folder: Path, size: int) -> None:
    """The same as IDX files."""
    rows, draw = size // PIXELS, np.random.default_rng(0)
    (folder / "idx").mkdir()
    for part, count in (("train", rows - rows // 10), ("t10k", rows // 10)):
        with open(folder / "idx" / f"{part}-images-idx3-ubyte", "wb") as stream:
            stream.write(struct.pack(">4i", 0x803, count, 28, 28))
            for start in range(0, count, 1 << 16):
                piece = min(1 << 16, count - start)
                stream.write(draw.integers(0, 256, (piece, 28, 28), np.uint8).tobytes())
        with open(folder / "idx" / f"{part}-labels-idx1-ubyte", "wb") as stream:
            stream.write(struct.pack(">2i", 0x801, count) + (np.arange(count) % 10).astype(np.uint8).tobytes())


def jpegs(folder: Path, size: int) -> None:
    """Small JPEGs in folders of classes, each file of its own."""
    import io

    from PIL import Image

    draw = np.random.default_rng(0)
    contents = []
    for _ in range(256):
        held = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(held, "jpeg", quality=80)
        contents.append(held.getvalue())
    for number in range(size):
        place = folder / "images" / ("train" if number % 10 else "test") / f"class{number // 10 % 10}"
        if number < 200:
            place.mkdir(parents=True, exist_ok=True)
        # A comment after the image makes every file another one.
        (place / f"{number:07}.jpg").write_bytes(contents[number % 256] + number.to_bytes(4, "big"))


GB = 1 << 30
AXES = (
    Axis(
        "examples", "a table: opening it, and distilling one epoch from a live teacher",
        (10_000, 100_000, 1_000_000, 10_000_000), (1000, 4000), table,
        {"open": open_table, "distil": distil_table},
    ),
    Axis(
        "classes", f"{CLASS_ROWS:,} rows, {KEPT} classes of each kept in a store: writing it, and one epoch from it",
        (10, 100, 1000, 10_000, 50_000, 100_000), (20, 200), nothing,
        {"soften": soften_classes, "distil": distil_classes},
    ),
    Axis(
        "members", "networks of a teacher: training so many, and distilling from so many that answer once",
        (1, 2, 4, 8, 16, 32), (1, 2), nothing, {"train": train_members, "distil": distil_members},
    ),
    Axis("seeds", "students and baselines, with the verdict", (1, 2, 4, 8, 16, 32), (1, 2), nothing,
         {"distil": distil_seeds}),
    Axis(
        "shards", f"a store of {SHARD_ROWS:,} rows in so many shards: writing, and checking and learning from it",
        (1, 4, 16, 64, 256, 1024), (1, 4), nothing, {"write": write_shards, "read": read_shards},
    ),
    Axis(
        "words", f"{TEXTS} texts of so many words: one epoch of a BERT of two layers",
        (16, 32, 64, 128, 256, 512, 1024), (8, 16), texts, {"train": train_texts},
        most=1.1, reason="attention compares each word with each other one",
    ),
    Axis("npz bytes", "opening images of 28x28 in an archive, and their digests", (GB // 32, GB // 8, GB // 2, 2 * GB),
         (PIXELS * 200, PIXELS * 400), archive, {"open": open_at("images.npz"), "digest": digest}),
    Axis("IDX bytes", "opening them as IDX files, and their digests", (GB // 32, GB // 8, GB // 2, 2 * GB),
         (PIXELS * 200, PIXELS * 400), idx, {"open": open_at("idx"), "digest": digest}),
    Axis("image files", "opening folders of small JPEGs, and their digests", (1000, 10_000, 100_000), (200, 400),
         jpegs, {"open": open_at("images"), "digest": digest},
         reason="few small images are held in memory; of more, a digest looks at each file"),
)  # fmt: skip


def files_for(axis: Axis, size: int) -> "tempfile.TemporaryDirectory[str]":
    """A folder with what a size needs."""
    held = tempfile.TemporaryDirectory(prefix="limbeck-growth-")
    axis.make(Path(held.name), size)
    return held
