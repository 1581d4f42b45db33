"""Ten networks in one: recipe ``ensemble``."""

__all__ = ["run"]

from collections.abc import Sequence

import numpy as np
from torch import nn

from limbeck.recipes.findings import Findings, Order, temperature_table
from limbeck.recipes.letters import Letters, letters
from limbeck.recipes.series import Cell, Series
from limbeck.report import Drawing
from limbeck.report.figures_study import draw_curves
from limbeck.teachers import Ensemble

_MEMBERS = 10
_TEMPERATURES = (2.0, 4.0, 8.0)


def run(series: Series, order: Order) -> Findings:
    """Train ten networks, average them, and distil the average into one network like each of them.

    Args:
        series: Where trainings are kept.
        order: Names the data.

    Returns:
        Accuracies on the test set, and the share of the gain that the student keeps.
    """
    here = letters(series, order.data)
    make, settings = here.make(), {"network": here.network}
    members = [
        series.train(
            "member", make, here.data, here.training(40, seed=seed), augmentation=here.turns, settings=settings
        )
        for seed in range(3 if series.quick else _MEMBERS)
    ]
    models: list[nn.Module] = [member.model for member in members]
    ensemble = Ensemble(models, mean="geometric", classes=here.data.classes)
    answers = series.answers(ensemble, here.data.train, here.data.classes, augmentation=here.turns)

    def student(seed: int, temperature: float) -> Cell:
        return series.distil(
            f"student-T{temperature:g}",
            make,
            answers,
            here.data,
            here.patient(seed=100 + seed),  # not the initial weights of any member
            temperature=temperature,
            augmentation=here.turns,
            settings={**settings, "teacher": f"{len(members)} members"},
        )

    trials = {temperature: student(0, temperature) for temperature in _TEMPERATURES}
    errors = {temperature: cell.errors for temperature, cell in trials.items()}
    best = min(errors, key=errors.__getitem__)
    tried = temperature_table("Validation errors by temperature, first student", errors, best)
    students = [student(seed, best) for seed in series.seeds]
    longer = series.train(
        "single-long", make, here.data, here.patient(seed=0), augmentation=here.turns, settings=settings
    )

    # All choices are made: now the test set is read.
    single = [here.accuracy(model) for model in models]
    together = here.accuracy(ensemble)
    distilled = [here.accuracy(cell.model) for cell in students]
    gain = together - float(np.mean(single))
    kept = [100 * (value - float(np.mean(single))) / gain for value in distilled] if gain > 0 else []
    return Findings(
        {"single": single, "ensemble": [together], "distilled": distilled, "kept": kept},
        {
            "single": f"{len(single)} networks, {members[0].epochs} epochs each",
            "ensemble": "geometric mean",
            "distilled": f"T = {best:g}, {students[0].epochs} epochs; a single network on labels for as many: "
            f"{here.accuracy(longer.model):.2f} %",
        },
        f"The ensemble gains {gain:.2f} points over its members; one network distilled from it keeps "
        f"{float(np.mean(kept)) if kept else 0:.0f} % of that (paper, on speech: 86 %).",
        (tried,),
        (_growing(here, models),),
        (
            here.about(),
            f"All networks are the same ({here.network}){_views(here)}. One ensemble taught all students. "
            "Validation chose each network's epoch, and the temperature with the first student. Students learn from "
            "soft targets alone.",
        ),
    )


def _views(here: Letters) -> str:
    """What the networks see of each image; nothing for other data."""
    if here.turns is None:
        return ""
    return (
        f" and see the same {here.turns.views} views of each image, shifted by up to a pixel, turned by up to five "
        "degrees and scaled by up to 5 %"
    )


def _growing(here: Letters, models: Sequence[nn.Module]) -> Drawing:
    """Test accuracy of ensembles of the first networks."""
    accuracies = [
        here.accuracy(Ensemble(models[:count], mean="geometric", classes=here.data.classes))
        for count in range(1, len(models) + 1)
    ]
    return Drawing(
        "growing",
        "How much each further network brings",
        "Test accuracy of the first networks averaged, by their number.",
        draw_curves(
            [float(count) for count in range(1, len(accuracies) + 1)],
            {"ensemble": np.array([accuracies])},
            x_label="networks in the ensemble",
            y_label="test accuracy (%)",
        ),
    )
