"""The page of ``patience.py``."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from limbeck.evaluation.statistics import Interval
from limbeck.evaluation.verdicts import in_points
from limbeck.report.figures_study import draw_results
from limbeck.report.study import Drawing, Study, Table
from patience_plans import Bench


def study(bench: Bench, found: Mapping[str, Any], seeds: Sequence[int], command: str) -> Study:
    """The page."""
    plan, count = bench.plan, found["test"]

    def row(title: str, numbers: Sequence[int], more: tuple[str, ...]) -> tuple[str, ...]:
        mean = sum(numbers) / len(numbers)
        return (title, f"{mean:.1f}", f"{100 - 100 * mean / count:.2f} %", ", ".join(map(str, numbers)), *more)

    rows = [row(f"{name}: {'mean of ' + str(p.members) if p.members > 1 else 'on labels'}", found["teachers"][name],
                ("", "", "", "")) for name, p in plan.teachers.items()]  # fmt: skip
    for name, arm in plan.arms.items():
        validation = found["validation"][name]
        told = "–" if arm.everything else f"{sum(validation) / len(validation):.1f}"
        other = found["differences"].get(name)
        against = ("", "")
        if other is not None:
            interval = Interval(other["estimate"], other["low"], other["high"], 0.95)
            against = (in_points(interval), f"{other['p']:.2g}")
        rows.append(row(arm.title, found["errors"][name], (told, f"{found['rates'][name]:g}", *against)))
    heading = ("", "test errors", "accuracy", "seed by seed", "validation errors", "rate",
               f"against “{plan.arms[plan.base].title}”", "p, adjusted")  # fmt: skip
    shown = [name for name, other in found["differences"].items() if other["p"] < 0.05]
    answer = "Of the comparisons below none show a difference once they are adjusted for their number."
    if shown:
        said = [
            f"{plan.arms[name].title} ({100 * found['differences'][name]['estimate']:+.2f} points)" for name in shown
        ]
        answer = f"Shown, after adjustment, against “{plan.arms[plan.base].title}”: {'; '.join(said)}."
    tables = [Table("Test errors", heading, tuple(rows))]
    if found["within"]:
        judged = tuple((plan.arms[name].title, said) for name, said in found["within"].items())
        tables.append(Table(f"Beside the teacher, within {plan.margin} points", ("student", "verdict"), judged))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    titles, values = zip(*((arm.title, found["errors"][name]) for name, arm in plan.arms.items()), strict=True)
    epochs, batch = plan.training["epochs"], plan.training["batch_size"]
    return Study(
        f"patience-{bench.job}",
        plan.title,
        plan.about,
        answer,
        command,
        (f"{datetime.now(UTC):%Y-%m-%d}", device, f"torch {torch.__version__}",
         f"{found['trainings']} trainings, {found['seconds'] / 60:.0f} min"),
        tuple(tables),
        (Drawing("results", "At a glance", "Each dot is a seed, the bar their mean.",
                 draw_results(titles, values, [None] * len(titles), "test errors")),),
        (f"Students train for {epochs} epochs in batches of {batch} with AdamW and a cosine schedule where the row "
         f"does not say otherwise, in {plan.precision}, and end with their last weights. Each row's learning rate was "
         "chosen among two or three on validation, with a seed of its own. Intervals are crossed over seeds and test "
         "examples; p-values are adjusted by Holm. The test set was read once, after the last training.",),
    )  # fmt: skip
