"""The report of a comparison, as a page and as Markdown: the table, and figures of errors and differences."""

__all__ = ["comparison_table", "write_page"]

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from limbeck import __version__
from limbeck.comparing.rows import Row
from limbeck.data.data_set import DataSet
from limbeck.evaluation.statistics import Interval
from limbeck.evaluation.verdicts import mean_errors
from limbeck.options import Training
from limbeck.report import Drawing, Study, Table, write_study
from limbeck.report.figures_study import draw_differences, draw_results


def comparison_table(rows: Sequence[Row], examples: int) -> Table:
    """The fair table.

    Args:
        rows: An arm each.
        examples: Number of test examples.

    Returns:
        Arms with test errors, differences, p-values and cost.

    Example:
        >>> table = comparison_table([Row("labels", "rate 0.01", 7, (60, 64), 2.0)], 1000)
        >>> table.rows[0][:4]
        ('labels', '62 (6.20 %)', '', '')
    """
    usual = next((row.seconds for row in rows if row.name == "kd"), rows[0].seconds)
    cells = []
    for row in rows:
        mean = sum(row.errors) / len(row.errors)
        cells.append(
            (
                row.name,
                f"{mean_errors(row.errors)} ({100 * mean / examples:.2f} %)",
                _points(row.against_labels),
                _p(row.p_value),
                row.verdict,
                _points(row.against_kd),
                _p(row.p_value_kd),
                f"{row.seconds / usual:.2f}",
                row.settings,
            )
        )
    heading = (
        "arm",
        "test errors",
        "against labels, points (95 %)",
        "p, Holm",
        "verdict",
        "against kd, points (95 %)",
        "p, Holm",
        "time of an epoch",
        "chosen on validation",
    )
    return Table("Methods", heading, tuple(cells))


def write_page(
    folder: Path, rows: Sequence[Row], found: Mapping[str, Any], data: DataSet, training: Training, command: str
) -> Path:
    """Write ``report.html``, and ``results/methods.md`` with its figures.

    Args:
        folder: Of the comparison.
        rows: An arm each.
        found: The contents of ``metrics.json``.
        data: What was learnt and evaluated on.
        training: What all arms had in common.
        command: The command that made it, or an empty text.

    Returns:
        The page.
    """
    examples, page = found["test_examples"], folder / "report.html"
    rates = [[100 * count / examples for count in row.errors] for row in rows]
    compared = [row for row in rows if row.against_labels is not None]
    parts = {name: len(part) for name, part in data.parts().items()}
    taught = found["teacher_errors"]
    teacher = "" if taught is None else f" The teacher makes {taught} test errors ({100 * taught / examples:.2f} %)."
    study = Study(
        "methods",
        "Methods of distillation, compared",
        f"{parts['train']:,} examples of {len(data.classes)} classes of {data.name} to learn from, "
        f"{parts['validation']:,} to choose settings and epochs by, {examples:,} to judge on.{teacher}",
        _answer(rows, found),
        command or "limbeck compare-methods ...",
        (
            datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
            f"Limbeck {__version__}",
        ),
        (comparison_table(rows, examples), _seeds_table(rows)),
        (
            Drawing(
                "differences",
                "Difference from labels alone",
                "Points of the test error rate, with 95 % intervals over seeds and examples; left of 0 is better. "
                "Filled: shown, after Holm's correction.",
                draw_differences(
                    [row.name for row in compared],
                    [row.against_labels for row in compared if row.against_labels],
                    [row.verdict in {"helps", "hurts"} for row in compared],
                ),
            ),
            Drawing(
                "errors",
                "Test errors",
                "A dot is a seed, a bar the mean.",
                draw_results(
                    [row.name for row in rows], rates, [None] * len(rows), "test errors, %", legend=("a seed", "")
                ),
            ),
        ),
        (
            f"Every arm tried {found['trials']} settings on validation, with a seed of its own: its defaults first, "
            "then drawn ones, with the same learning rates in all arms. The best of each was trained over "
            f"{found['seeds']} other seeds, from the same initial weights in the same order for {training.epochs} "
            "epochs; longer means twice as many. The test set was read once, after the last choice.",
            *_added(found),
            "Time of an epoch is the median over the final trainings as a multiple of that of kd.",
        ),
    )
    write_study(study, page, folder / "results")
    return page


def _added(found: Mapping[str, Any]) -> list[str]:
    """What is to be said of methods that were added to a comparison after its results were known."""
    names = found.get("added", ())
    if not names:
        return []
    return [
        f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} added after results were known. P-values are "
        "corrected for all arms of this table; whoever adds methods until one is shown to help finds one by chance "
        "more often than they say."
    ]


def _seeds_table(rows: Sequence[Row]) -> Table:
    heading = ("arm", *(f"seed {number}" for number in range(len(rows[0].errors))))
    return Table("Test errors by seed", heading, tuple((row.name, *map(str, row.errors)) for row in rows))


def _answer(rows: Sequence[Row], found: Mapping[str, Any]) -> str:
    def named(verdict: str) -> str:
        return ", ".join(row.name for row in rows if row.verdict == verdict)

    helps, hurts, open_ = named("helps"), named("hurts"), named("not shown")
    parts = [f"Shown to help against labels alone: {helps or 'nothing'}."]
    if hurts:
        parts.append(f"Hurts: {hurts}.")
    if open_:
        parts.append(f"Not shown either way: {open_}.")
    apart = [row for row in rows if row.p_value_kd is not None and row.p_value_kd < 0.05 and row.against_kd]
    better = ", ".join(row.name for row in apart if row.against_kd and row.against_kd.high < 0)
    worse = ", ".join(row.name for row in apart if row.against_kd and row.against_kd.low > 0)
    if any(row.against_kd for row in rows):
        parts.append(f"Better than kd: {better or 'nothing that can be shown'}; worse: {worse or 'nothing'}.")
    parts += [
        f"{count} of {len(rows)} arms chose the {which} learning rate that was drawn: the search ended at an edge, and "
        f"{'a larger' if which == 'largest' else 'a smaller'} learning_rate (--learning-rate) may change the order."
        for which, count in found["edge"].items()
        if 2 * count > len(rows)
    ]
    parts.append(
        f"With {found['seeds']} seeds and {found['test_examples']:,} examples a typical interval reaches "
        f"{100 * found['resolution']:.2f} points to each side: smaller differences cannot be resolved here."
    )
    return " ".join(parts)


def _points(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{100 * interval.estimate:+.2f} ({100 * interval.low:+.2f} to {100 * interval.high:+.2f})"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
