"""What each temperature costs, from the runs that are kept in docs/results: a figure for docs/howto/choosing.md.

    python benchmarks/temperatures.py [--figure docs/howto/temperatures.svg]

Nothing is trained: the errors stand on the pages that are named, and a test compares them. Of each pair the errors are
divided by those at its best temperature.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from limbeck.report.figures_style import INK, MUTED, figure, styled, svg, tidy
from limbeck.system.files import replace_text

COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#b8860b", "#d55e00", "#cc79a7", "#6a3d9a")


@dataclass(frozen=True)
class Kept:
    """Errors of one pair by temperature.

    Attributes:
        pair: The student, and its share of the teacher's weights.
        page: Where the runs stand, in docs/results.
        errors: By temperature, mean over seeds: counts, or percentages of one set.
    """

    pair: str
    page: str
    errors: dict[float, float]

    def excess(self) -> dict[float, float]:
        """Percent more errors than at the best temperature.

        Example:
            >>> Kept("p", "q", {1: 110.0, 2: 100.0}).excess()
            {1: 10.0, 2: 0.0}
        """
        least = min(self.errors.values())
        return {temperature: round(100 * (found / least - 1), 6) for temperature, found in self.errors.items()}


KEPT = (
    Kept(
        "digits, 2x30, 1/97",
        "width-temperature.md",
        {1: 346.333, 2: 353.333, 2.5: 362.667, 4: 376.0, 8: 417.333, 12: 444.333, 20: 461.333},
    ),
    Kept(
        "digits, 2x100, 1/27",
        "width-temperature.md",
        {1: 207.667, 2: 197.0, 2.5: 177.667, 4: 184.0, 8: 190.333, 12: 193.333, 20: 200.0},
    ),
    Kept(
        "digits, 2x300, 1/7",
        "width-temperature.md",
        {1: 172.667, 2: 158.667, 2.5: 146.667, 4: 140.667, 8: 144.333, 12: 149.0, 20: 151.333},
    ),
    Kept(
        "digits, 2x800, 1/2",
        "width-temperature.md",
        {1: 139.667, 2: 124.667, 2.5: 119.667, 4: 113.333, 8: 110.333, 12: 112.0, 20: 109.333},
    ),
    Kept("letters, 512, 1/8: 10 epochs", "emnist-letters.md", {2: 8.55, 4: 9.13, 8: 9.98}),
    Kept(
        "letters, 512, 1/8: 5 epochs",
        "emnist-letters-temperature.md",
        {1: 896.0, 2: 924.0, 4: 959.0, 8: 980.0, 16: 1032.0},
    ),
    Kept("letters, 512, 1/8: 5 epochs, no labels", "soft-targets.md", {1: 1072.0, 2: 1127.0, 4: 1175.0}),
)


def draw() -> Figure:
    """Excess errors by temperature, a line per pair; T = 2 and 4 are marked."""
    with styled():
        drawing = figure(9.0, 4.2)
        axes = drawing.add_subplot()
        axes.axvspan(2 / 1.12, 4 * 1.12, color="#f0f2f5", zorder=0)
        for kept, colour in zip(KEPT, COLOURS, strict=True):
            dashes = "-" if kept.pair.startswith("digits") else "--"
            found = kept.excess()
            axes.plot(
                list(found), list(found.values()), dashes, marker="o", markersize=5, color=colour, label=kept.pair
            )
        for temperature, place in ((2, (1.75, 24.5)), (4, (2.75, 18.5))):
            worst = max(kept.excess()[temperature] for kept in KEPT)
            axes.annotate(
                f"T = {temperature}: at most {worst:.0f} % more",
                (temperature, worst), place, color=INK, arrowprops={"arrowstyle": "-", "color": MUTED},
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        ticks = (1, 2, 4, 8, 16, 20)
        axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(-1, None)
        axes.set_xlabel("temperature")
        axes.set_ylabel("% more errors than at the pair's best")
        tidy(axes, grid="y")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title="student, share of its teacher's weights")
    return drawing


def main(arguments: list[str] | None = None) -> int:
    """Print what each temperature costs at worst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", metavar="FILE", type=Path, help="write the figure there, as SVG")
    options = parser.parse_args(arguments)
    for temperature in sorted({each for kept in KEPT for each in kept.errors}):
        found = [kept.excess()[temperature] for kept in KEPT if temperature in kept.errors]
        print(f"T = {temperature:<4g} at most {max(found):4.1f} % more errors, mean {sum(found) / len(found):4.1f} %,"
              f" of {len(found)} pairs")  # fmt: skip
    if options.figure is not None:
        replace_text(options.figure, svg(draw()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
