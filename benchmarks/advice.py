"""Does the advice of docs/howto/choosing.md hold on pairs that took no part in it?

    apt-get download r-cran-mlbench && dpkg -x r-cran-mlbench_*.deb data && pip install pyreadr
    python benchmarks/advice.py --data data --runs runs/advice [--markdown docs/results/advice.md] [--quick]

``advice_pairs.py`` fixes the pairs. Of each the teacher is trained; then 48 settings of the student and four learning
rates of its baseline are tried on validation, one seed each, which neither final training has. The advice is applied to
the validation errors of teacher and best baseline, and takes the best of its own four learning rates. Labels alone, the
advised setting and the best of the search are trained over fresh seeds, and the test set is read once, at the end.
A run that was stopped is continued by the same command. ``--quick`` makes a pair up and shows only that all of it runs.
"""

import argparse
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import limbeck
from advice_pairs import PAIRS, Pair, made_up
from limbeck.data import Examples
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.prediction import predict
from limbeck.evaluation.statistics import Interval, holm
from limbeck.evaluation.verdicts import in_points
from limbeck.models import count_parameters
from limbeck.protocols import Teacher
from limbeck.system.files import replace_text
from limbeck.system.machine import machine

TEMPERATURES, WEIGHTS = (1.0, 2.0, 4.0, 8.0), (0.0, 0.1, 0.5)
ENOUGH = 2.0
"""Points by which a teacher must be better for its answers to weigh more."""
NO_WORSE = 0.07
"""Share of errors that a search may take away from the advised setting."""
SEARCHED_WITH = 1000
"""Seed of the search."""


def advised(lead: float) -> tuple[float, float]:
    """Temperature and weight of the labels for a teacher that is better by so many points on validation.

    This is the rule as it was predicted with; docs/howto/choosing.md says what has become of it.

    Example:
        >>> advised(3.0), advised(1.0)
        ((2.0, 0.1), (2.0, 0.5))
    """
    return 2.0, 0.1 if lead >= ENOUGH else 0.5


def best_of(trials: Sequence[Mapping[str, Any]], **fixed: float) -> dict[str, Any]:
    """The trial with the fewest validation errors, then the least negative log-likelihood, among those with values."""
    kept = [row for row in trials if row["state"] == "complete" and all(row[name] == fixed[name] for name in fixed)]
    return dict(min(kept, key=lambda row: (row["validation_errors"], row["validation_nll"], row["trial"])))


def errors_of(model: nn.Module | Teacher, examples: Examples) -> NDArray[np.bool_]:
    """Where a network errs."""
    assert examples.labels is not None
    return (predict(model, examples).argmax(1) != examples.labels).numpy()


def loaded(run: Path, pair: Pair, seed: int) -> nn.Module:
    """A network from its run."""
    model = limbeck.load(run, model=pair.student(seed) if callable(pair.student) else None)
    assert isinstance(model, nn.Module)
    return model


def measure(pair: Pair, runs: Path) -> dict[str, Any]:
    """Train, choose on validation, train again, and read the test set."""
    began = time.perf_counter()
    data, test, judges = replace(pair.data, test=None), pair.data.test, pair.data.validation
    assert test is not None and judges is not None
    taught = limbeck.train(pair.teacher, data, out=runs / "teacher", resume=True, **pair.taught).model
    search = limbeck.Search(
        grid=True, temperatures=TEMPERATURES, hard_weights=WEIGHTS, learning_rates=pair.rates, prune=False
    )
    found = limbeck.tune(
        taught,
        pair.student,
        data,
        search=search,
        seed=SEARCHED_WITH,
        out=runs / "search",
        resume=(runs / "search").exists(),
        **pair.trained,
    )
    alone = found.metrics["baseline"]["best"]
    lead = 100 * (alone["validation_errors"] / len(judges) - float(errors_of(taught, judges).mean()))
    temperature, weight = advised(lead)
    chosen = {
        "advised": best_of(found.trials, temperature=temperature, hard_weight=weight),
        "searched": best_of(found.trials),
    }
    for name, row in chosen.items():
        limbeck.distill(
            taught,
            pair.student,
            data,
            temperature=row["temperature"],
            hard_weight=row["hard_weight"],
            learning_rate=row["learning_rate"],
            **({"baseline_learning_rate": alone["learning_rate"], "searched": "both"} if name == "advised" else {}),
            baseline=name == "advised",
            seeds=pair.seeds,
            out=runs / name,
            resume=True,
            **pair.trained,
        )
    return {
        "pair": pair.title,
        "minutes": (time.perf_counter() - began) / 60,
        "examples": {name: len(part) for name, part in pair.data.parts().items()},
        "classes": len(pair.data.classes),
        "parameters": [count_parameters(each) for each in (taught, loaded(runs / "advised", pair, 0))],
        "lead": lead,
        "chosen": {"labels": alone, **chosen},
        **judged(pair, taught, test, runs),
    }


def judged(pair: Pair, teacher: nn.Module | Teacher, test: Examples, runs: Path) -> dict[str, Any]:
    """Test errors of the teacher and of each arm by seed, and the advised setting against the two others."""

    def runs_of(name: str) -> list[Path]:
        return [runs / name if seed == 0 else runs / name / "seeds" / str(seed + 1) for seed in range(pair.seeds)]

    wrong = {
        "labels": [errors_of(loaded(run / "baseline", pair, seed), test) for seed, run in enumerate(runs_of("advised"))]
    }
    for name in ("advised", "searched"):
        wrong[name] = [errors_of(loaded(run, pair, seed), test) for seed, run in enumerate(runs_of(name))]
    groups = test.groups()
    compared = {}
    for other in ("labels", "searched"):
        between = crossed_difference(wrong["advised"], wrong[other], groups=None if groups is None else groups.numpy())
        interval = between.interval(0.95)
        compared[other] = {
            "estimate": interval.estimate, "low": interval.low, "high": interval.high,
            "p_value": between.cautious_p_value,
        }  # fmt: skip
    errors = {name: [int(each.sum()) for each in some] for name, some in wrong.items()}
    return {"errors": {"teacher": [int(errors_of(teacher, test).sum())], **errors}, "against": compared}


def told(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was predicted of each pair, and whether it came."""
    rows = []
    adjusted = holm([each["against"]["labels"]["p_value"] for each in found])
    for each, p_adjusted in zip(found, adjusted, strict=True):
        mean = {name: sum(some) / len(some) for name, some in each["errors"].items()}
        gap, limit = mean["labels"] - mean["teacher"], 1 + NO_WORSE
        enough = each["lead"] >= ENOUGH
        fewer = mean["advised"] < mean["labels"]
        closed = (mean["labels"] - mean["advised"]) / gap if gap > 0 else None
        shown = bool(p_adjusted < 0.05)
        against = each["against"]["searched"]
        most = against["high"] * each["examples"]["test"] / mean["searched"]
        rows.append(
            {
                "pair": each["pair"], "mean": mean, "closed": closed, "p_adjusted": float(p_adjusted),
                "helped": fewer and (not enough or (shown and closed is not None and closed >= 0.25)),
                "over_search": mean["advised"] / mean["searched"] - 1, "most_over_search": most,
                "as_good": mean["advised"] <= limit * mean["searched"],
                "as_good_shown": most <= NO_WORSE,
            }
        )  # fmt: skip
    return rows


def _setting(row: Mapping[str, Any]) -> str:
    return f"T = {row['temperature']:g}, labels {row['hard_weight']:g}, rate {row['learning_rate']:g}"


def page(found: Sequence[Mapping[str, Any]], command: str) -> str:
    """The results as Markdown."""
    rows = told(found)
    held = [sum(row[name] for row in rows) for name in ("helped", "as_good", "as_good_shown")]
    lines = [
        "# The advice, tried on pairs that took no part in it",
        "",
        "[Choosing](../howto/choosing.md) says what to begin with, and what was predicted before these networks were "
        "trained.",
        "",
        f"**The advised setting helped as predicted in {held[0]} of {len(rows)} pairs; it makes at most 7 % more "
        f"errors than a search of {len(TEMPERATURES) * len(WEIGHTS)} settings with four rates in {held[1]}, and in "
        f"{held[2]} the interval leaves no more room than that.**",
        "",
        "| pair | weights: teacher, student | examples: train, validation, test | lead on validation, points "
        "| test errors: teacher | labels alone | advised | searched | advised − labels (95 %) | p, Holm | of the gap "
        "| advised over searched | at most (95 %) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each, row in zip(found, rows, strict=True):
        against, tests = each["against"]["labels"], each["examples"]["test"]
        sizes = ", ".join(f"{count:,}" for count in each["parameters"])
        parts = ", ".join(f"{each['examples'][name]:,}" for name in ("train", "validation", "test"))
        errors = [
            f"{row['mean'][name]:.1f} ({100 * row['mean'][name] / tests:.2f} %)"
            for name in ("teacher", "labels", "advised", "searched")
        ]
        words = in_points(Interval(against["estimate"], against["low"], against["high"], 0.95))
        closed = "–" if row["closed"] is None else f"{100 * row['closed']:.0f} %"
        over = [f"{100 * row[name]:+.1f} %" for name in ("over_search", "most_over_search")]
        lead, p_adjusted = f"{each['lead']:.1f}", f"{row['p_adjusted']:.2g}"
        cells = [each["pair"], sizes, parts, lead, *errors, words, p_adjusted, closed, *over]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| pair | labels alone | advised | searched | test errors by seed: labels alone; advised; searched |"]
    lines += ["|---|---|---|---|---|"]
    for each in found:
        chosen = each["chosen"]
        by_seed = "; ".join(", ".join(map(str, each["errors"][name])) for name in ("labels", "advised", "searched"))
        cells = [f"rate {chosen['labels']['learning_rate']:g}", *(_setting(chosen[n]) for n in ("advised", "searched"))]
        lines.append(f"| {' | '.join([each['pair'], *cells, by_seed])} |")
    minutes = sum(each["minutes"] for each in found)
    about = (
        f"{datetime.date.today()}, {machine()['processor']}, {torch.get_num_threads()} thread; {minutes:.0f} minutes."
    )
    return "\n".join([*lines, "", "```", command, "```", "", about]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="Debian's r-cran-mlbench, unpacked; for the tables")
    parser.add_argument("--runs", metavar="FOLDER", type=Path, help="where runs go, to be continued")
    parser.add_argument("--pairs", nargs="+", choices=tuple(PAIRS), default=tuple(PAIRS), help="which pairs")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write the page to a file")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run on made-up rows that shows that it works")
    options = parser.parse_args(arguments)
    if not options.quick and (options.data is None or options.runs is None):
        parser.error("give --data and --runs, or --quick")
    with tempfile.TemporaryDirectory() as scratch:
        runs = options.runs or Path(scratch)
        if options.quick:
            found = [measure(made_up(), runs / "made-up")]
        else:
            found = [measure(PAIRS[name](options.data), runs / name) for name in options.pairs]
    text = page(found, "python benchmarks/advice.py --data data --runs runs/advice")
    print(text)
    if options.markdown is not None:
        replace_text(options.markdown, text)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
