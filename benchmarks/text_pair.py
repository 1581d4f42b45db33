"""A text teacher and a student of less than a tenth of its bytes: sections of Debian packages by their descriptions.

    python benchmarks/text_pair.py [--seeds 3] [--out docs/results/text.md] [--json FILE] [--quick]

The texts are the descriptions that ``apt-cache dumpavail`` prints on a Debian machine; the classes are the sections
with 200 or more of them. Packages of one source package stay together in the splits and are the clusters of the
verdict. The teacher is an ensemble of networks that look tokens up in a table of vectors, weigh them and take a hidden
layer; the student is a small one of the kind with a tokenizer of half the entries. The baseline is the
student's network trained on labels alone. The long form takes about ten minutes on one core; ``--quick`` makes texts
up and shows only that all of it runs.
"""

import argparse
import csv
import datetime
import json
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import limbeck
from limbeck.data import DataSet, cut_validation
from limbeck.data.text import Text
from limbeck.data.text_files import open_text
from limbeck.options.text import TextPresentation
from limbeck.runs import DistillRun
from limbeck.system.hugging_face import transformers
from limbeck.teachers import Ensemble

FEWEST = 200
"""Texts of a section that is a class."""
LENGTH = 64


@dataclass(frozen=True)
class Size:
    """How large a network is.

    Attributes:
        tokens: Entries of its tokenizer.
        width: Numbers of a token's vector.
        hidden: Units of the hidden layer.
        dropout: Share of units left out in training.
    """

    tokens: int
    width: int
    hidden: int
    dropout: float


COMMON: dict[str, Any] = {"warmup_epochs": 0.25, "clip_norm": 1.0, "batch_size": 128, "resume": True}
TEACHER, STUDENT = Size(16000, 96, 256, 0.4), Size(8000, 64, 128, 0.3)


class WeightedBag(nn.Module):
    """Vectors of tokens, their weighted mean and their maximum, and a hidden layer: a classifier without attention.

    Args:
        tokenizer: Folder of the tokenizer.
        size: How large it is.
        classes: Number of classes.
        seed: Of the initial weights.
    """

    def __init__(self, tokenizer: str, size: Size, classes: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.presentation = TextPresentation(tokenizer, LENGTH, ("input_ids", "attention_mask"))
        self.vectors = nn.Embedding(size.tokens, size.width)
        self.weights = nn.Embedding(size.tokens, 1)
        nn.init.normal_(self.vectors.weight, std=0.1)
        nn.init.zeros_(self.weights.weight)
        self.norm, self.dropout = nn.LayerNorm(2 * size.width), nn.Dropout(size.dropout)
        self.hidden, self.output = nn.Linear(2 * size.width, size.hidden), nn.Linear(size.hidden, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits ``(N, K)`` of tokens ``(N, L)``."""
        real = attention_mask.bool()
        vectors = self.vectors(input_ids)
        shares = self.weights(input_ids).squeeze(-1).masked_fill(~real, -1e9).softmax(-1)
        mean = (shares.unsqueeze(-1) * vectors).sum(1)
        largest = vectors.masked_fill(~real.unsqueeze(-1), -1e4).amax(1)
        summary = self.norm(torch.cat([mean, largest], -1))
        return self.output(self.dropout(nn.functional.gelu(self.hidden(self.dropout(summary)))))


def section(fields: dict[str, str]) -> str | None:
    """The section of a package, without its area; None where it has none."""
    return fields["Section"].split("/")[-1] if "Section" in fields else None


def packages(
    printed: str, label: Callable[[dict[str, str]], str | None] = section, *, fewest: int | None = None
) -> list[dict[str, str]]:
    """Description, label and source package of each package whose label has ``fewest`` texts, by default FEWEST."""
    found = []
    for block in printed.split("\n\n"):
        fields = {name: " ".join(text.split()) for name, text in re.findall(r"^([\w-]+): (.*(?:\n .*)*)", block, re.M)}
        text, named = fields.get("Description-en") or fields.get("Description"), label(fields)
        if text and named is not None and "Package" in fields:
            source = fields.get("Source", fields["Package"]).split(" ")[0]
            found.append({"text": text, "label": named, "source": source})
    counts = Counter(row["label"] for row in found)
    return [row for row in found if counts[row["label"]] >= (FEWEST if fewest is None else fewest)]


def made_up(count: int) -> str:
    """Text as apt-cache prints it, of four sections with words of their own."""
    draw, blocks = random.Random(0), []
    for number in range(count):
        section = number % 4
        words = [f"word{draw.choice((section, draw.randrange(4))) * 10 + draw.randrange(10)}" for _ in range(8)]
        blocks.append(
            f"Package: p{number}\nSource: s{number // 3} (1.0)\nSection: part{section}\nDescription: {' '.join(words)}"
        )
    return "\n\n".join(blocks)


def save_tokenizer(texts: Iterable[str], folder: Path, size: int) -> str:
    """A WordPiece tokenizer that is trained on some texts."""
    from tokenizers import BertWordPieceTokenizer

    made = BertWordPieceTokenizer(lowercase=True)
    made.train_from_iterator(texts, vocab_size=size, min_frequency=2, show_progress=False)
    folder.mkdir(parents=True)
    made.save(str(folder / "made.json"))
    transformers().BertTokenizerFast(tokenizer_file=str(folder / "made.json")).save_pretrained(folder)
    (folder / "made.json").unlink()
    return str(folder)


def open_packages(rows: list[dict[str, str]], folder: Path) -> DataSet:
    """The descriptions as a data set, written into a folder; those of one source package are in one part."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "descriptions.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label", "source"])
        writer.writeheader()
        writer.writerows(rows)
    return cut_validation(open_text(folder / "descriptions.csv", group_column="source"), 0.1)


def tokenizers(data: DataSet, folder: Path) -> dict[str, str]:
    """Tokenizers of teacher and student, trained on the training texts; kept where they are there already."""
    assert isinstance(data.train.inputs, Text)
    texts = data.train.inputs.texts
    return {
        name: str(folder / name) if (folder / name).exists() else save_tokenizer(texts, folder / name, size.tokens)
        for name, size in (("teacher", TEACHER), ("student", STUDENT))
    }


def train_teacher(data: DataSet, folder: Path, options: argparse.Namespace) -> nn.Module | Ensemble:
    """The ensemble; one that is in the folder already is read."""
    made = partial(WeightedBag, tokenizers(data, folder)["teacher"], TEACHER, len(data.classes))
    return limbeck.train(
        made,
        data,
        members=options.members,
        epochs=options.teacher_epochs,
        learning_rate=2e-3,
        weight_decay=0.05,
        out=folder / "runs" / "teacher",
        **COMMON,
    ).model


def train_students(
    teacher: nn.Module | Ensemble, data: DataSet, folder: Path, options: argparse.Namespace
) -> DistillRun:
    """Students and baselines, judged on the test set; those that are in the folder already are read."""
    return limbeck.distill(
        teacher,
        partial(WeightedBag, tokenizers(data, folder)["student"], STUDENT, len(data.classes)),
        data,
        epochs=options.student_epochs,
        seeds=options.seeds,
        temperature=1.0,
        hard_weight=0.3,
        learning_rate=3e-3,
        weight_decay=0.02,
        out=folder / "runs" / "student",
        **COMMON,
    )


def measure(rows: list[dict[str, str]], folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train teacher, students and baselines, and judge them on the test set."""
    data = open_packages(rows, folder)
    tokenizers(data, folder)
    began = time.perf_counter()
    teacher = train_teacher(data, folder, options)
    taught = time.perf_counter()
    run = train_students(teacher, data, folder, options)
    ended = time.perf_counter()
    return {
        "examples": {name: len(part) for name, part in data.parts().items()},
        "sources": len({row["source"] for row in rows}),
        "classes": len(data.classes),
        "seconds": {"teacher": taught - began, "students": ended - taught},
        "metrics": run.metrics,
        "verdict": None if run.verdict is None else run.verdict.sentence,
    }


def page(found: dict[str, Any], options: argparse.Namespace) -> str:
    """The results, in Markdown."""
    metrics, counts, seconds = found["metrics"], found["examples"], found["seconds"]
    teacher = metrics["teacher"]
    lines = [
        "| | parameters | bytes | test accuracy | of the teacher's | agrees with the teacher |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("teacher", "baseline", "student"):
        row = metrics[name]
        accuracies = [seed[f"{name}_accuracy"] for seed in metrics["seeds"] if f"{name}_accuracy" in seed]
        accuracy = sum(accuracies) / len(accuracies) if accuracies else row["accuracy"]
        agrees = row.get("agreement_with_teacher")
        lines.append(
            f"| {name} | {row['parameters']:,} | {row['file_bytes']:,} | {100 * accuracy:.2f} % | "
            f"{100 * accuracy / teacher['accuracy']:.1f} % | {'' if agrees is None else f'{100 * agrees:.1f} %'} |"
        )
    table = "\n".join(lines)
    command = (
        f"python benchmarks/text_pair.py --members {options.members} --seeds {options.seeds} "
        f"--teacher-epochs {options.teacher_epochs} --student-epochs {options.student_epochs}"
    )
    place = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    return f"""# Texts: Debian packages by their descriptions

{counts["train"]:,} texts to train on, {counts["validation"]:,} to choose by and {counts["test"]:,} to judge on, of
{found["classes"]} sections and {found["sources"]:,} source packages; those of one source package are in one part, and
are the clusters of the verdict. The teacher is an ensemble of {options.members} networks that take the vectors of a
text's tokens, their weighted mean and their maximum, and one hidden layer; the student is a small one of the kind, with
a tokenizer of {STUDENT.tokens:,} entries for {TEACHER.tokens:,}; the baseline is its network trained on labels alone.
Accuracies of baseline and student are means over {options.seeds} seeds; agreement is that of the first.

{table}

{found["verdict"] or ""}

```
{command}
```

{datetime.date.today()}, {place}: {seconds["teacher"]:.0f} s for the teacher, {seconds["students"]:.0f} s for students
and baselines.
"""


def add_settings(parser: argparse.ArgumentParser, *, seeds: int) -> None:
    """The flags of how the pair is trained."""
    parser.add_argument("--seeds", type=int, default=seeds, help="pairs of student and baseline")
    parser.add_argument("--members", type=int, default=5, help="networks of the teacher")
    parser.add_argument("--teacher-epochs", type=int, default=5, help="passes of the teacher")
    parser.add_argument("--student-epochs", type=int, default=8, help="passes of student and baseline")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument(
        "--quick", action="store_true", help="a short run on made-up texts that shows only that it works"
    )


def read_packages(options: argparse.Namespace) -> list[dict[str, str]]:
    """Rows of this machine's package lists; with ``--quick`` made-up ones, and the least settings."""
    if options.quick:
        options.members, options.seeds, options.teacher_epochs, options.student_epochs = 2, 1, 1, 1
        return packages(made_up(900))
    return packages(subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout)


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", metavar="FOLDER", type=Path, help="keep texts and runs there; continues what is there"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="also write the page to a file")
    add_settings(parser, seeds=3)
    options = parser.parse_args(arguments)
    rows = read_packages(options)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(rows, options.runs or Path(scratch), options)
    written = page(found, options)
    print(written)
    if options.out is not None:
        options.out.write_text(written)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
