r"""Do the verdicts' intervals cover, and how often do they claim what is not so?

Errors of S pairs of trainings on E examples are drawn from models in which the true difference is known, and judged
with the package's own code. Printed for each model are, for S = 1, 2, 3, 5 and 8 seeds: how many of the 95 % intervals
hold the true difference, and how often a difference is claimed where there is none (or, in rows with one, how often it
is found). For one seed the truth is that of the two networks drawn, for its claim is about them. Further tables: the
claim "as good within a margin" where the difference is exactly the margin, examples in groups, and harm by class.

    python benchmarks/verdict_coverage.py --trials 5000
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.evaluation.class_harm import harm_by_class
from limbeck.evaluation.paired_intervals import CrossedDifference, crossed_difference
from limbeck.evaluation.statistics import mcnemar

SEEDS = (1, 2, 3, 5, 8)
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ErrorModel:
    """How errors come about: some examples are hard, for each procedure others, and each training is a little off.

    Attributes:
        name: What dominates the variance.
        hard: Share of examples that are hard for the student's procedure, and for the baseline's.
        chances: Chance of an error on a hard example, and on another.
        seeds: Variance that trainings add, as a multiple of that of the examples (at this E).
    """

    name: str
    hard: tuple[float, float]
    chances: tuple[float, float]
    seeds: float

    @property
    def means(self) -> tuple[float, float]:
        """Both procedures' error rates, over all trainings and examples."""
        often, rarely = self.chances
        first, second = (share * often + (1 - share) * rarely for share in self.hard)
        return first, second

    @property
    def shared(self) -> float:
        """Variance of an example's difference over examples, the same for every seed: v_E."""
        return sum(share * (1 - share) * (self.chances[0] - self.chances[1]) ** 2 for share in self.hard)

    @property
    def interaction(self) -> float:
        """Variance that each training has for itself on each example: v_SE."""
        often, rarely = self.chances
        return sum(share * often * (1 - often) + (1 - share) * rarely * (1 - rarely) for share in self.hard)

    def spread(self, examples: int) -> float:
        """Standard deviation of a training's error rate, as a share of it."""
        wanted = self.seeds * (self.shared + self.interaction) / examples
        return math.sqrt(wanted / sum(mean**2 for mean in self.means))

    def draw(self, random: np.random.Generator, examples: int, seeds: int) -> tuple[Bools, Bools, float]:
        """Errors ``(S, E)`` of students and of baselines, and the true difference of the first pair."""
        found, own, spread = [], [], self.spread(examples)
        for share, mean in zip(self.hard, self.means, strict=True):
            off = 1 + np.clip(random.normal(0, spread, seeds), -2.5 * spread, 2.5 * spread)
            chance = np.where(random.random(examples, np.float32) < share, *np.float32(self.chances))
            found.append(random.random((seeds, examples), np.float32) < chance * off[:, None].astype(np.float32))
            own.append(mean * off[0])
        return found[0], found[1], own[0] - own[1]


MODELS = (
    ErrorModel("examples", (0.05, 0.05), (0.97, 0.002), 0.001),
    ErrorModel("examples", (0.05, 0.08), (0.97, 0.002), 0.001),
    ErrorModel("interaction", (0.5, 0.5), (0.06, 0.04), 0.0),
    ErrorModel("interaction", (0.2, 0.8), (0.08, 0.04), 0.0),
    ErrorModel("seeds", (0.5, 0.5), (0.32, 0.28), 8.0),
    ErrorModel("seeds", (0.2, 0.8), (0.33, 0.28), 8.0),
    ErrorModel("seeds > examples", (0.4, 0.4), (0.5, 0.005), 6.0),
    ErrorModel("mixed", (0.25, 0.25), (0.55, 0.01), 0.7),
    ErrorModel("mixed", (0.25, 0.3), (0.55, 0.01), 0.7),
    ErrorModel("hard examples differ", (0.05, 0.05), (0.9, 0.01), 0.02),
    ErrorModel("hard examples differ", (0.05, 0.07), (0.9, 0.01), 0.02),
    ErrorModel("few errors", (0.02, 0.02), (0.5, 0.001), 0.05),
)


def draw_groups(
    random: np.random.Generator, groups: int, examples: int, seeds: int, *, error_rate: float, off: float
) -> tuple[Bools, Bools, NDArray[np.int64], float]:
    """Examples in groups of unequal size, each easier for one of the procedures; the mean difference is 0."""
    sizes = np.maximum(1, random.lognormal(math.log(examples / groups) - 0.125, 0.5, groups)).astype(np.int64)
    place = np.repeat(np.arange(groups), sizes)
    base = random.uniform(0.6, 1.4, groups) * error_rate
    lean = np.clip(random.normal(0, 0.25 * error_rate, groups), -0.6 * error_rate, 0.6 * error_rate)
    spread = np.clip(random.normal(0, off, (2, seeds)), -2.5 * off, 2.5 * off)
    found = []
    for sign, own in zip((1, -1), spread, strict=True):
        chance = np.maximum(0, base + sign * lean / 2)[place] + own[:, None]
        found.append(random.random((seeds, len(place)), np.float32) < chance)
    return found[0], found[1], place, float(spread[0, 0] - spread[1, 0])


def claimed(found: CrossedDifference, student: Bools, baseline: Bools) -> bool:
    """Whether a verdict says that there is a difference."""
    if found.contains(0.0):
        return False
    one = found.seeds == 1 and not found.grouped
    return (mcnemar(student[0], baseline[0]).p_value if one else found.p_value) < 0.05


def simulate(model: ErrorModel, examples: int, trials: int) -> dict[str, Any]:
    """Coverage, claims, and claims of being as good within a margin that is exactly the difference."""
    random = np.random.default_rng([examples, *model.name.encode(), round(1000 * model.hard[1])])
    truth = model.means[0] - model.means[1]
    covered, claims, within = (dict.fromkeys(SEEDS, 0) for _ in range(3))
    for _ in range(trials):
        students, baselines, own = model.draw(random, examples, max(SEEDS))
        for seeds in SEEDS:
            student, baseline, true = students[:seeds], baselines[:seeds], own if seeds == 1 else truth
            found = crossed_difference(student, baseline)
            covered[seeds] += found.contains(true)
            claims[seeds] += claimed(found, student, baseline)
            within[seeds] += found.estimate < true and not found.contains(true, 0.9)
    shares = [model.spread(examples) ** 2 * sum(m**2 for m in model.means), model.shared, model.interaction]
    parts = [shares[0], shares[1] / examples, shares[2] / examples]
    counts = {"covered": covered, "claims": claims, "within": within}
    rates: dict[str, Any] = {name: {str(s): n / trials for s, n in got.items()} for name, got in counts.items()}
    if model.seeds > 0.01:  # two trainings do differ, and to claim so of them is no mistake
        rates["claims"]["1"] = None
    return {
        "model": model.name,
        "examples": examples,
        "difference": truth,
        "shares_of_one_pair": [part / sum(parts) for part in parts],
        **rates,
    }


def simulate_groups(groups: int, examples: int, error_rate: float, off: float, trials: int) -> dict[str, Any]:
    """The same for examples in groups, without a difference."""
    random = np.random.default_rng([groups, examples, round(1e6 * off), round(1e6 * error_rate)])
    covered, claims = (dict.fromkeys(SEEDS, 0) for _ in range(2))
    for _ in range(trials):
        students, baselines, place, own = draw_groups(
            random, groups, examples, max(SEEDS), error_rate=error_rate, off=off
        )
        for seeds in SEEDS:
            found = crossed_difference(students[:seeds], baselines[:seeds], groups=place)
            covered[seeds] += found.contains(own if seeds == 1 else 0.0)
            claims[seeds] += claimed(found, students[:seeds], baselines[:seeds])
    shares: dict[str, dict[str, float | None]] = {
        "covered": {str(s): n / trials for s, n in covered.items()},
        "claims": {str(s): n / trials for s, n in claims.items()},
    }
    if off:
        shares["claims"]["1"] = None
    return {"groups": groups, "examples": examples, "error_rate": error_rate, "seed_sd": off, **shares}


def simulate_classes(classes: int, examples: int, model: ErrorModel, trials: int) -> dict[str, Any]:
    """How often at least one class is said to have lost or gained where none has."""
    random = np.random.default_rng([classes, examples, 7])
    names, labels = tuple(map(str, range(classes))), random.integers(0, classes, examples)
    alarms = dict.fromkeys(SEEDS, 0)
    for _ in range(trials):
        students, baselines, _ = model.draw(random, examples, max(SEEDS))
        for seeds in SEEDS:
            found = harm_by_class(students[:seeds], baselines[:seeds], labels, names)
            alarms[seeds] += bool(found.lost or found.gained)
    shares: dict[str, float | None] = {str(s): n / trials for s, n in alarms.items()}
    if model.seeds > 0.01:
        shares["1"] = None
    return {"classes": classes, "examples": examples, "model": model.name, "alarms": shares}


def row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells of a table, the first to the left."""
    return "  ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths, strict=True)))


def percent(values: dict[str, float | None]) -> list[str]:
    """Shares as per cent, one per number of seeds."""
    cells = [values[str(seeds)] for seeds in SEEDS]
    return ["-" if share is None else f"{100 * share:.1f}" for share in cells]


def print_table(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with its title."""
    widths = [max(len(line[i]) for line in (heading, *rows)) for i in range(len(heading))]
    print(f"\n{title}\n{row(heading, widths)}")
    for line in rows:
        print(row(line, widths), flush=True)


def plain(found: Sequence[dict[str, Any]], key: str) -> Iterator[list[str]]:
    """The rows of a table of models."""
    for cell in found:
        shares = "/".join(f"{100 * share:.0f}" for share in cell["shares_of_one_pair"])
        yield [cell["model"], shares, f"{cell['examples']:,}", f"{100 * cell['difference']:+.1f}", *percent(cell[key])]


def simulated(cells: Sequence[tuple[Any, ...]], jobs: int) -> list[dict[str, Any]]:
    """Every cell, in order; a cell is a function and its arguments."""
    if jobs == 1:
        return [function(*given) for function, *given in cells]
    with ProcessPoolExecutor(jobs) as pool:
        waiting = [pool.submit(*cell) for cell in reversed(cells)]  # the longest first
        return [task.result() for task in reversed(waiting)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print the tables, and write them as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--class-trials", type=int, default=2000, help="the same for harm by class, which takes longer")
    parser.add_argument("--examples", type=int, nargs="+", default=[200, 1000, 10_000])
    parser.add_argument("--jobs", type=int, default=1, help="processes; the results do not depend on it")
    parser.add_argument("--quick", action="store_true", help="a few trials, to see that it works")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    trials, sizes = (20, [200]) if options.quick else (options.trials, options.examples)
    class_trials = 20 if options.quick else options.class_trials
    cells: list[tuple[Any, ...]] = [(simulate, model, size, trials) for size in sizes for model in MODELS]
    cells += [
        (simulate_groups, groups, size, error_rate, off, trials)
        for groups, size in ([(20, 200)] if options.quick else [(20, 1000), (50, 1000), (50, 5000), (200, 5000)])
        for error_rate, off in ((0.25, 0.0), (0.25, 0.02), (0.01, 0.0))
    ]
    cells += [
        (simulate_classes, classes, size, model, class_trials)
        for classes, size in ([(5, 200)] if options.quick else [(10, 1000), (10, 10_000), (100, 10_000)])
        for model in (MODELS[2], MODELS[7], MODELS[9])
    ]
    found = simulated(cells, options.jobs)
    usual, grouped, harm = (
        [cell for cell in found if key in cell] for key in ("shares_of_one_pair", "groups", "classes")
    )
    head = ["dominated by", "v_S/v_E/v_SE %", "E", "difference", *(f"S = {s}" for s in SEEDS)]
    print(f"{trials} trials a cell; standard error at 5 %: {100 * math.sqrt(0.05 * 0.95 / trials):.1f} points")
    print_table("95 % intervals that hold the true difference (%)", head, list(plain(usual, "covered")))
    print_table("A difference is claimed (%): false where it is 0", head, list(plain(usual, "claims")))
    print_table("As good within a margin that is the true difference (%): false", head, list(plain(usual, "within")))
    for key, title in (("covered", "Examples in groups: 95 % intervals that hold the true difference (%)"),
                       ("claims", "Examples in groups: false claims (%)")):  # fmt: skip
        rows = [
            [str(c["groups"]), f"{c['examples']:,}", f"{100 * c['error_rate']:g}", f"{100 * c['seed_sd']:g}"]
            + percent(c[key])
            for c in grouped
        ]
        print_table(title, ["groups", "E about", "error rate %", "seeds' sd, points", *head[4:]], rows)
    rows = [[c["model"], str(c["classes"]), f"{c['examples']:,}", *percent(c["alarms"])] for c in harm]
    print_table("Harm by class: false alarms, at least one (%)", ["dominated by", "classes", "E", *head[4:]], rows)
    if options.json is not None:
        whole = {"trials": trials, "class_trials": class_trials, "models": usual, "groups": grouped, "classes": harm}
        options.json.write_text(json.dumps(whole, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
