r"""How small the letters' CNN can be: every rank rule, with and without fine-tuning, at equal sizes.

    python benchmarks/compress_letters.py --data emnist-letters.mat --run runs/cnn --out runs/low-rank \
        --page docs/results/emnist-letters-low-rank.md

Each rule is tuned to the largest network within the same number of parameters. The smallest size whose accuracy is at
most 0.2 points below the original's is chosen on validation; what is reported is the test set, which chooses nothing.
Fine-tuned are, for each rule, sizes on the way to the smallest that will do: larger ones until one does, then smaller
ones until one does not. Every trial is a line of OUT/trials.jsonl; the same command goes on with what is missing. The
tables of the page stand between two marks, and what is around them is left as it is.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import DataSet, open_data
from limbeck.errors import ConfigError
from limbeck.evaluation.prediction import answer_views, predict
from limbeck.lowrank import RankPlan, Spectrum, apply, look, plan_ranks, weigh
from limbeck.models import Dropout
from limbeck.options import Augmentation, DataOptions
from limbeck.report.figures_style import MUTED, figure, styled, svg, tidy
from limbeck.runs import distill
from limbeck.runs.measure import file_bytes
from limbeck.runs.models_for_data import load_module
from limbeck.system.devices import find_device
from limbeck.system.files import replace_text
from limbeck.teachers import ModelTeacher, StoredTargets

SHARES = (0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32)
MARGIN = 0.002
RULES: dict[str, tuple[str, str]] = {
    # name: the spectrum, and the rule
    "the same rank": ("weights", "rank"),
    "layer share": ("weights", "layer_share"),
    "singular share": ("weights", "sum_share"),
    "energy": ("weights", "energy_share"),
    "budget, weights": ("weights", "parameters"),
    "budget, outputs": ("outputs", "parameters"),
    "budget, divergence": ("divergence", "parameters"),
    "budget, divergence, weighed": ("weighed", "parameters"),
    "energy of divergence": ("divergence", "energy_share"),
}
PROBE = 0.03
CANDIDATES = ((4.0, 0.0005, True), (4.0, 0.0005, False), (4.0, 0.001, False), (2.0, 0.0005, False))
TUNED = ("the same rank", "layer share", "singular share", "energy", "budget, weights", "budget, divergence")
START, END = "<!-- tables: written by benchmarks/compress_letters.py -->", "<!-- end of tables -->"


def within(spectrum: Spectrum, rule: str, budget: int) -> RankPlan | None:
    """The plan of a rule that comes closest to a number of parameters from below."""
    if rule == "parameters":
        try:
            return plan_ranks(spectrum, parameters=budget)
        except ConfigError:
            return None
    best, low, high = None, 0.0, 1.0
    most = max(min(layer.shape) for layer in spectrum.layers)
    for _ in range(24):
        middle = (low + high) / 2
        plan = plan_ranks(spectrum, **{rule: max(1, int(middle * most)) if rule == "rank" else middle})
        if plan.parameters_after <= budget:
            best, low = plan, middle
        else:
            high = middle
    return best


class Trials:
    """What was measured, a line a trial, kept from one call to the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text().splitlines()]

    def get(self, key: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The trial of a key, measured if it is not there yet."""
        for row in self.rows:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        began = time.perf_counter()
        row = {**key, **measure()} | {"seconds": round(time.perf_counter() - began, 1)}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        return row


def accuracy(model: nn.Module, data: DataSet) -> dict[str, float]:
    """On validation and test."""
    found = {}
    for name, part in (("validation", data.validation), ("test", data.test)):
        assert part is not None and part.labels is not None
        found[name] = float((predict(model, part).argmax(-1) == part.labels).float().mean())
    return found


def spectra_of(model: nn.Module, data: DataSet, count: int) -> dict[str, Spectrum]:
    """What every metric sees."""
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:count]
    inputs: Tensor = data.train.as_seen(rows)
    found = {"weights": look(model, example=inputs[:1])}
    found["outputs"] = look(model, inputs, metric="outputs")
    found["divergence"] = look(model, inputs)
    found["weighed"] = weigh(found["divergence"], model, inputs)
    return found


def sweep(
    trials: Trials,
    model: nn.Module,
    data: DataSet,
    spectra: dict[str, Spectrum],
    shares: Sequence[float],
    rules: Sequence[str],
) -> None:
    """Each of the rules at every size, without fine-tuning."""
    whole = spectra["weights"].parameters
    for share in shares:
        for name in rules:
            metric, rule = RULES[name]

            def measure(metric: str = metric, rule: str = rule, share: float = share) -> dict[str, Any]:
                plan = within(spectra[metric], rule, int(share * whole))
                if plan is None:
                    return {"parameters": None}
                small = apply(plan, model, spectra[metric]).eval()
                sizes = {"parameters": plan.parameters_after, "bytes": file_bytes(small), "ranks": plan.ranks}
                return {**sizes, **accuracy(small, data)}

            trials.get({"rule": name, "share": share, "epochs": 0}, measure)


def tune(
    trials: Trials,
    model: nn.Module,
    data: DataSet,
    spectra: dict[str, Spectrum],
    shares: Sequence[float],
    answers: StoredTargets,
    settings: dict[str, Any],
    wanted: float,
    rules: Sequence[str],
) -> None:
    """For each of the rules sizes on the way to the smallest that will do, fine-tuned."""
    whole, blind = spectra["weights"].parameters, replace(data, test=None)
    for name in (name for name in TUNED if name in rules):
        metric, rule = RULES[name]

        def measure(share: float, metric: str = metric, rule: str = rule) -> dict[str, Any]:
            plan = within(spectra[metric], rule, int(share * whole))
            if plan is None:
                return {"parameters": None, "validation": 0.0}
            small = apply(plan, model, spectra[metric])
            given = {name: value for name, value in settings.items() if name != "dropout"}
            kept = small if settings["dropout"] else without_dropout(small)
            run = distill(answers, kept, blind, baseline=False, **given)
            sizes = {"parameters": plan.parameters_after, "bytes": file_bytes(run.student), "ranks": plan.ranks}
            return {**sizes, **accuracy(run.student, data)}

        place, step = shares.index(min(shares, key=lambda share: abs(share - 0.03))), 0
        while 0 <= place < len(shares):
            key = {"rule": name, "share": shares[place], "epochs": settings["epochs"]}
            share = shares[place]
            good = trials.get(key, lambda share=share: measure(share))["validation"] >= wanted
            if step and good == (step > 0):
                break
            step = -1 if good else 1
            place += step


def choose_settings(
    trials: Trials,
    model: nn.Module,
    data: DataSet,
    spectra: dict[str, Spectrum],
    answers: StoredTargets,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """The best settings on validation, at one size, after half the epochs."""
    plan = plan_ranks(spectra["divergence"], parameters=PROBE)
    blind = replace(data, test=None)
    found = []
    for temperature, rate, dropout in CANDIDATES:
        chosen = {"temperature": temperature, "learning_rate": rate}

        def measure(chosen: dict[str, Any] = chosen, dropout: bool = dropout) -> dict[str, Any]:
            small = apply(plan, model, spectra["divergence"])
            epochs = max(1, settings["epochs"] // 2)
            given = {**settings, **chosen, "epochs": epochs}
            run = distill(answers, small if dropout else without_dropout(small), blind, baseline=False, **given)
            return {"validation": run.metrics["student"]["accuracy"]}

        key = {"rule": "settings", "epochs": settings["epochs"], **chosen, "dropout": dropout}
        found.append(trials.get(key, measure))
    best = max(found, key=lambda row: row["validation"])
    return {name: best[name] for name in ("temperature", "learning_rate", "dropout")}


def without_dropout(model: nn.Module) -> nn.Module:
    """The network, whose dropout drops nothing from now on."""
    for part in model.modules():
        if isinstance(part, Dropout):
            part.p = 0.0
    return model


def smallest(rows: list[dict[str, Any]], wanted: float) -> dict[str, Any] | None:
    """The smallest trial that will do on validation, and with it all larger ones."""
    found = None
    for row in sorted((row for row in rows if row["parameters"]), key=lambda row: -row["share"]):
        if row["validation"] < wanted:
            break
        found = row
    return found


def tables(trials: Trials, original: dict[str, Any], epochs: int) -> str:
    """The tables as Markdown."""
    wanted = original["validation"] - MARGIN
    lines = [
        f"The original has {original['parameters']:,} parameters in a file of {original['bytes']:,} bytes. It is right "
        f"on {original['validation']:.2%} of the validation set and {original['test']:.2%} of the test set.",
        "",
        f"## Smallest size within {100 * MARGIN:.1f} points on validation, and its accuracy on the test set",
        "",
        f"| rule | without fine-tuning | test | fine-tuned, {epochs} epochs | test |",
        "|---|---|---|---|---|",
    ]
    for name in RULES:
        cells = [name]
        for count in (0, epochs):
            rows = [row for row in trials.rows if row.get("rule") == name and row["epochs"] == count]
            best = smallest(rows, wanted)
            if best is None:
                cells += ["-" if not rows else "none of those tried", "-"]
            else:
                share = best["parameters"] / original["parameters"]
                gap = f"{100 * (best['test'] - original['test']):+.2f}"
                cells += [f"{best['parameters']:,} ({share:.1%})", f"{best['test']:.2%} ({gap})"]
        lines.append("| " + " | ".join(cells) + " |")
    for count, words in ((0, "without fine-tuning"), (epochs, f"fine-tuned, {epochs} epochs")):
        rows = [row for row in trials.rows if row.get("rule") in RULES and row["epochs"] == count]
        shares = sorted({row["share"] for row in rows})
        lines += ["", f"## Test accuracy at equal size, {words}", ""]
        lines += ["| rule | " + " | ".join(f"{share:.1%}" for share in shares) + " |"]
        lines += ["|---" * (len(shares) + 1) + "|"]
        for name in RULES:
            by_share = {row["share"]: row for row in rows if row["rule"] == name and row["parameters"]}
            if by_share:
                cells = [f"{by_share[share]['test']:.2%}" if share in by_share else "" for share in shares]
                lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def picture(trials: Trials, original: dict[str, Any], epochs: int) -> str:
    """Test accuracy against parameters, as SVG."""
    colours = ("#0072b2", "#56b4e9", "#009e73", "#b8860b", "#cc79a7", "#7f8790", "#d55e00", "#1f2933", "#999933")
    with styled():
        drawing = figure(10.5, 4.8)
        axes = drawing.add_subplot()
        for (name, _), shade in zip(RULES.items(), colours, strict=True):
            for count, style, label in ((0, "--", None), (epochs, "-", name)):
                rows = [r for r in trials.rows if r.get("rule") == name and r["epochs"] == count and r["parameters"]]
                rows.sort(key=lambda row: row["parameters"])
                if not rows or (name not in TUNED and count == 0 and name != "budget, divergence, weighed"):
                    continue
                only = name if not any(r["epochs"] for r in trials.rows if r.get("rule") == name) else label
                axes.plot(
                    [row["parameters"] / 1e3 for row in rows], [100 * row["test"] for row in rows], style,
                    color=shade, marker="o", markersize=3.5, label=only, linewidth=1.4,
                )  # fmt: skip
        axes.axhline(100 * (original["test"] - MARGIN), color=MUTED, linewidth=1.0, linestyle=":")
        axes.text(axes.get_xlim()[0], 100 * (original["test"] - MARGIN), " original - 0.2", ha="left", va="bottom")
        axes.set_xscale("log")
        axes.set_ylim(100 * original["test"] - 6, 100 * original["test"] + 0.4)
        axes.set_xlabel("thousand parameters (dashed: not fine-tuned)")
        axes.set_title("Test accuracy (%)")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        tidy(axes, grid="both")
    return svg(drawing)


def write_page(page: Path, text: str) -> None:
    """Put the tables between their marks."""
    before, after = f"# Letters: low rank\n\n{START}", f"{END}\n"
    if page.exists() and START in (old := page.read_text()):
        before, _, rest = old.partition(START)
        before, after = before + START, END + rest.partition(END)[2]
    replace_text(page, f"{before}\n\n{text}\n\n{after}")


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES), help="measure these alone")
    parser.add_argument("--calibration", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--finetune-examples", type=int, help="fine-tune on so many training examples; default: all")
    parser.add_argument("--only-sweep", action="store_true", help="leave fine-tuning out")
    parser.add_argument("--only-page", action="store_true", help="measure nothing")
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    trials = Trials(options.out / "trials.jsonl")
    shares = sorted(options.shares)
    if not options.only_page:
        data = open_data(DataOptions(data=options.data))
        model = load_module(options.run, data=data)
        count = sum(p.numel() for p in model.parameters())
        original = trials.get(
            {"rule": "original", "epochs": 0},
            lambda: {"parameters": count, "bytes": file_bytes(model), **accuracy(model, data)},
        )
        spectra = spectra_of(model, data, options.calibration)
        sweep(trials, model, data, spectra, shares, options.rules)
    if not (options.only_page or options.only_sweep):
        if options.finetune_examples is not None:
            data = replace(data, train=data.train.take(torch.arange(options.finetune_examples)))
        teacher = ModelTeacher(model, data.classes)
        device = find_device("cpu")
        answers = answer_views(teacher, data.train, Augmentation(), classes=data.classes, views=1, device=device)
        settings = {"epochs": options.epochs, "device": "cpu", "precision": device.precision}
        settings |= choose_settings(trials, model, data, spectra, answers, settings)
        wanted = original["validation"] - MARGIN
        tune(trials, model, data, spectra, shares, answers, settings, wanted, options.rules)
    original = next(row for row in trials.rows if row["rule"] == "original")
    text = tables(trials, original, options.epochs)
    print(text)
    if options.page is not None:
        drawn = options.page.with_suffix(".svg")
        replace_text(drawn, picture(trials, original, options.epochs))
        plot = f"![Test accuracy against parameters, a line a rule]({drawn.name})"
        write_page(options.page, f"{text}\n\n{plot}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
