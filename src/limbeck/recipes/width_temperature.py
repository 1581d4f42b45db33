"""Which temperature for which width: recipe ``width-temperature``."""

__all__ = ["run"]

import numpy as np
from numpy.typing import NDArray

from limbeck.recipes.digits import digits
from limbeck.recipes.findings import Findings, Order
from limbeck.recipes.series import Series
from limbeck.report import Drawing, Table
from limbeck.report.figures_study import draw_curves, draw_heat_map
from limbeck.runs.models_for_data import model_maker

_WIDTHS = (30, 100, 300, 800)
_TEMPERATURES = (1.0, 2.0, 2.5, 4.0, 8.0, 12.0, 20.0)
_HIGH, _LOW = (8.0, 12.0, 20.0), (2.5, 4.0)


def run(series: Series, order: Order) -> Findings:
    """Distil students of every width at every temperature, and say whether the paper's claims hold.

    Args:
        series: Where trainings are kept.
        order: Not used.

    Returns:
        Test errors of the grid, and the answer.
    """
    here = digits(series)
    widths = (8, 30) if series.quick else _WIDTHS
    temperatures = (1.0, 4.0, 8.0) if series.quick else _TEMPERATURES
    teacher = here.teacher(0)
    answers = series.answers(teacher.model, here.data.train, here.data.classes)
    cells = {
        (seed, width, temperature): series.distil(
            f"student-{width}-T{temperature:g}",
            model_maker(here.network(width, width), here.data),
            answers,
            here.data,
            here.training(20, seed=seed, learning_rate=2e-3 if width <= 100 else 1e-3),
            temperature=temperature,
            settings={"network": f"mlp {width} {width}", "teacher": teacher.name},
        )
        for seed in series.seeds
        for width in widths
        for temperature in temperatures
    }

    # Nothing is chosen here: the grid is the result, and the test set is read once.
    grid = np.array(
        [[[here.errors(cells[s, w, t].model) for t in temperatures] for w in widths] for s in series.seeds], float
    )
    high = [k for k, t in enumerate(temperatures) if t in _HIGH]
    low = [k for k, t in enumerate(temperatures) if t in _LOW]
    values: dict[str, list[float]] = {}
    for width, key in ((300, "wide_spread"), (800, "widest_spread")):
        if width in widths:
            part = grid[:, widths.index(width)][:, high]
            values[key] = list(part.max(1) - part.min(1))
    narrow = grid[:, widths.index(30)]
    values["narrow_low"], values["narrow_high"] = list(narrow[:, low].min(1)), list(narrow[:, high].min(1))
    return Findings(
        values,
        {},
        _answer(grid, widths, temperatures, high, low),
        (_grid_table(grid, widths, temperatures),),
        _drawings(grid, widths, temperatures),
        (
            f"All students were taught by one teacher (seed 0), on 55,000 digits without jitter and on soft targets "
            f"alone, for {next(iter(cells.values())).epochs} epochs: AdamW with a peak rate of 0.002 for 30 and 100 "
            "units and 0.001 for more, the same for every temperature. Validation chose each student's epoch. With "
            "ten thousand test digits a difference of about 15 errors in 100 is within chance.",
        ),
    )


def _drawings(
    grid: NDArray[np.float64], widths: tuple[int, ...], temperatures: tuple[float, ...]
) -> tuple[Drawing, ...]:
    return (
        Drawing(
            "heat-map",
            "The grid",
            "Test errors, mean over seeds. Each row is coloured by itself: white is its best temperature, dark one "
            "with twice the errors.",
            draw_heat_map(
                grid.mean(0),
                [f"2x{width}" for width in widths],
                [f"{t:g}" for t in temperatures],
                x_label="temperature",
                y_label="student",
                title="test errors",
            ),
        ),
        Drawing(
            "curves",
            "Errors by temperature",
            "Each curve is a width, the band the range of the seeds.",
            draw_curves(
                temperatures,
                {f"2x{width}": grid[:, k] for k, width in enumerate(widths)},
                x_label="temperature",
                y_label="test errors",
                log_x=True,
                log_y=True,
            ),
        ),
    )


def _answer(
    grid: NDArray[np.float64], widths: tuple[int, ...], temperatures: tuple[float, ...], high: list[int], low: list[int]
) -> str:
    parts = []
    for width in widths:
        mean = grid[:, widths.index(width)].mean(0)
        best = temperatures[int(mean.argmin())]
        parts.append(
            f"2x{width}: best at T = {best:g} with {mean.min():.1f}, {mean[high[0]]:.1f} at T = 8 and "
            f"{mean[high[-1]]:.1f} at T = {temperatures[high[-1]]:g}"
        )
    narrow = grid[:, widths.index(30)].mean(0)
    gain = 1 - narrow[low].min() / narrow[high].min()
    verdict = "holds" if gain > 0.1 else "is not seen"
    below = [k for k, t in enumerate(temperatures) if t < min(_LOW)]
    cold = 1 - narrow[low].min() / narrow[below].min()
    colder = "fewer" if cold > 0 else "more"
    beneath = "holds too" if cold > 0.1 else "does not hold"
    wide = [grid[:, widths.index(width)].mean(0)[high] for width in widths if width >= 300]
    flat = [float(part.max() / part.min() - 1) for part in wide]
    level = (
        f"From T = 8 up, students of 300 and more units differ by at most {100 * max(flat):.0f} % in their errors. "
        if flat
        else ""
    )
    return (
        f"{level}With 30 units the better of T = 2.5 and 4 makes {100 * gain:.0f} % fewer errors than the best of the "
        f"high temperatures: that 2.5 to 4 are much better there {verdict} in this grid. They make "
        f"{100 * abs(cold):.0f} % {colder} than the best of the lower temperatures: that these are much worse "
        f"{beneath}. " + "; ".join(parts) + "."
    )


def _grid_table(grid: NDArray[np.float64], widths: tuple[int, ...], temperatures: tuple[float, ...]) -> Table:
    rows = tuple(
        (
            f"2x{width}",
            *(", ".join(f"{value:.0f}" for value in grid[:, line, column]) for column in range(grid.shape[2])),
        )
        for line, width in enumerate(widths)
    )
    return Table("Test errors, seed by seed", ("student", *(f"T = {t:g}" for t in temperatures)), rows)
