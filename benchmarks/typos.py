"""Whether a student bears typing errors, and knows how sure it is, as well as the same network on labels alone.

    python benchmarks/typos.py --runs runs/texts [--seeds 5] [--markdown FILE] [--figure FILE] [--quick]

Teacher, students and baselines are those of ``text_pair.py``; they are trained first where the folder does not hold
them. The test descriptions are then typed badly: of their letters some are left out, doubled, swapped with the next
one, or replaced by a neighbour on the keyboard, each at two strengths, and whole words are left out; the same damage
for every network. ``under_damage.py`` says how they are compared; packages of one source package are one cluster.
Upper case throughout is asked about too, which the tokenizers fold away: how many answers it changes is told.
``--quick`` makes texts up.
"""

import argparse
import datetime
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from torch import nn

import limbeck
import text_pair
from limbeck.data import DataSet, Examples
from limbeck.data.text import Text
from limbeck.evaluation.prediction import predict
from limbeck.evaluation.statistics import Interval
from limbeck.protocols import Teacher
from limbeck.report.figures_study import draw_differences
from limbeck.report.figures_style import svg
from limbeck.system.files import replace_text
from limbeck.system.machine import machine
from under_damage import measure, summary, table

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Of an English keyboard, each half a key to the right of the one above."""


def neighbours(letter: str) -> str:
    """The keys that touch a letter's key, of a-z in lower case.

    Example:
        >>> neighbours("g")
        'fhtyvb'
    """
    (number,) = (number for number, row in enumerate(ROWS) if letter in row)
    place = ROWS[number].index(letter)
    beside = [(number, place - 1), (number, place + 1)]
    above, below = [(number - 1, place), (number - 1, place + 1)], [(number + 1, place - 1), (number + 1, place)]
    keys = [*beside, *above, *below]
    return "".join(ROWS[row][key] for row, key in keys if 0 <= row < len(ROWS) and 0 <= key < len(ROWS[row]))


def struck(text: str, share: float, random: Generator) -> list[int]:
    """Places of the letters a-z, in either case, that are hit, each with this chance."""
    drawn = random.random(len(text)) < share
    return [place for place in np.flatnonzero(drawn).tolist() if text[place].isascii() and text[place].isalpha()]


def dropped(text: str, share: float, random: Generator) -> str:
    """Letters are left out."""
    letters = list(text)
    for place in struck(text, share, random):
        letters[place] = ""
    return "".join(letters)


def doubled(text: str, share: float, random: Generator) -> str:
    """Letters are typed twice."""
    letters = list(text)
    for place in struck(text, share, random):
        letters[place] *= 2
    return "".join(letters)


def swapped(text: str, share: float, random: Generator) -> str:
    """Letters change places with the character after them; none is moved twice."""
    letters, free = list(text), 0
    for place in struck(text, share, random):
        if free <= place < len(letters) - 1:
            letters[place : place + 2] = letters[place + 1], letters[place]
            free = place + 2
    return "".join(letters)


def mistyped(text: str, share: float, random: Generator) -> str:
    """Letters are replaced by one whose key touches theirs; upper case stays."""
    letters = list(text)
    for place in struck(text, share, random):
        keys = neighbours(text[place].lower())
        key = keys[random.integers(len(keys))]
        letters[place] = key.upper() if text[place].isupper() else key
    return "".join(letters)


def shortened(text: str, share: float, random: Generator) -> str:
    """Words are left out; one is always kept."""
    words = text.split(" ")
    kept = random.random(len(words)) >= share
    kept[random.integers(len(words))] = True
    return " ".join(word for word, keep in zip(words, kept, strict=True) if keep)


def upper(text: str, share: float, random: Generator) -> str:
    """All in upper case."""
    return text.upper()


DAMAGES: dict[str, tuple[Callable[[str, float, Generator], str], float]] = {
    "as they are": (dropped, 0.0),
    "2 % of letters left out": (dropped, 0.02),
    "5 % of letters left out": (dropped, 0.05),
    "2 % doubled": (doubled, 0.02),
    "5 % doubled": (doubled, 0.05),
    "2 % swapped": (swapped, 0.02),
    "5 % swapped": (swapped, 0.05),
    "2 % on a neighbouring key": (mistyped, 0.02),
    "5 % on a neighbouring key": (mistyped, 0.05),
    "10 % of words left out": (shortened, 0.1),
    "25 % of words left out": (shortened, 0.25),
}


def damaged(test: Examples, change: Callable[[str, float, Generator], str], share: float) -> Examples:
    """The test texts with a damage, which is a function of the text's row."""
    inputs = test.inputs
    assert isinstance(inputs, Text) and test.labels is not None
    texts = [change(text, share, np.random.default_rng([0, row])) for row, text in enumerate(inputs.texts)]
    return Examples.of(Text(texts, groups=inputs.group_names()), test.labels)


def models_of(data: DataSet, folder: Path, options: argparse.Namespace) -> dict[str, list[nn.Module | Teacher]]:
    """Teacher, baselines and students by role; what the folder does not hold is trained."""
    teacher = text_pair.train_teacher(data, folder, options)
    text_pair.train_students(teacher, data, folder, options)
    made = partial(
        text_pair.WeightedBag, text_pair.tokenizers(data, folder)["student"], text_pair.STUDENT, len(data.classes)
    )
    first = folder / "runs" / "student"
    runs = [first if seed == 0 else first / "seeds" / str(seed + 1) for seed in range(options.seeds)]

    def loaded(place: Path, seed: int) -> nn.Module:
        model = limbeck.load(place, model=made(seed))
        assert isinstance(model, nn.Module)
        return model

    return {
        "teacher": [teacher],
        "baseline": [loaded(run / "baseline", seed) for seed, run in enumerate(runs)],
        "student": [loaded(run, seed) for seed, run in enumerate(runs)],
    }


def changed_by_case(test: Examples, models: dict[str, list[nn.Module | Teacher]]) -> int:
    """Answers of all networks that upper case changes."""
    loud = damaged(test, upper, 1.0)
    each = [(predict(model, test), predict(model, loud)) for some in models.values() for model in some]
    return sum(int((plain.argmax(1) != shouted.argmax(1)).sum()) for plain, shouted in each)


def page(found: dict[str, Any], seeds: int, command: str) -> str:
    """The results as Markdown."""
    lines = [
        "# Texts with typing errors, and how sure the networks are",
        "",
        f"Teacher, students and baselines of [the pair on Debian packages](text.md), {seeds} seeds, on "
        f"{found['texts']:,} test descriptions of {found['sources']:,} source packages, typed badly in the same way "
        "for all. None saw such errors in training beyond those that the descriptions have.",
        "",
        summary(found["rows"]),
        "",
        *table(found["rows"], "texts"),
        "",
        f"Upper case throughout changes {found['changed_by_case']:,} of {found['answers']:,} answers: the tokenizers "
        "put all in lower case.",
        "",
        "```",
        command,
        "```",
        "",
        f"{datetime.date.today()}, {machine()['processor']}, one thread.",
    ]
    return "\n".join(lines) + "\n"


def figure(rows: Sequence[dict[str, Any]]) -> str:
    """The differences between students and baselines with their intervals, as SVG."""
    intervals = [Interval(row["estimate"], row["low"], row["high"], 0.95) for row in rows]
    return svg(draw_differences([row["damage"] for row in rows], intervals, [row["p_adjusted"] < 0.05 for row in rows]))


def main(arguments: list[str] | None = None) -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", metavar="FOLDER", type=Path, help="texts and runs; what is not there is trained")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write the page to a file")
    parser.add_argument("--figure", metavar="FILE", type=Path, help="also draw the differences, as SVG")
    text_pair.add_settings(parser, seeds=5)
    options = parser.parse_args(arguments)
    rows = text_pair.read_packages(options)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        data = text_pair.open_packages(rows, folder)
        models = models_of(data, folder, options)
        test = data.test
        assert test is not None
        groups = test.groups()
        assert groups is not None
        found: dict[str, Any] = {
            "rows": measure(((name, damaged(test, *how)) for name, how in DAMAGES.items()), models),
            "texts": len(test),
            "sources": len(groups.unique()),
            "changed_by_case": changed_by_case(test, models),
            "answers": len(test) * sum(map(len, models.values())),
        }
    text = page(found, options.seeds, f"python benchmarks/typos.py --runs runs/texts --seeds {options.seeds}")
    print(text)
    if options.markdown is not None:
        replace_text(options.markdown, text)
    if options.figure is not None:
        replace_text(options.figure, figure(found["rows"]))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
