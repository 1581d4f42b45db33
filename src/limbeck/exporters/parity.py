"""The parity check: whether an exported file's predictions are the model's, on held-out examples.

Axes: ``N`` examples.
"""

__all__ = ["BATCHES", "Held", "Parity", "asked", "judge_file"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.data.examples import Examples
from limbeck.evaluation.metrics import bin_confidence
from limbeck.evaluation.non_inferiority import MarginVerdict, judge_margin
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.statistics import Interval, clopper_pearson
from limbeck.exporters.comparing import Comparison, compare, pixels_of, plain_view, rounding_of
from limbeck.exporters.opened import Opened
from limbeck.exporters.protocol import CannotRun, Exporter
from limbeck.exporters.timing import side_by_side
from limbeck.exporters.tracing import bare_inputs
from limbeck.inputs import Inputs, count_of, mapped
from limbeck.models.calling import call_model, presentation_of, weights_dtype
from limbeck.system.checksums import digest_file

BATCHES = (1, 3, 257)
"""Numbers of examples that every file must take at a time."""
_TIES = 4
"""Two logits in each of two computations are rounded: a lead of less than so many roundings is a tie."""
_FAR, _SHARE = 100, 0.01
"""A logit that is off by this many roundings, and by this share of the largest, is not rounded but wrong."""
_LISTED = 200
_MARGIN = 0.5
"""Default margin of quantised formats, in percentage points."""


@dataclass(frozen=True, eq=False)
class Held:
    """The examples that files are evaluated on.

    Attributes:
        examples: As the original sees them.
        part: Which they are: "test", "validation", "held-out" where they were given, or "example" for inputs that were.
        rows: Those that are used, int64 ``(N,)``.
        pixels: Whether files take pixels and answer with probabilities.
    """

    examples: Examples
    part: str
    rows: Tensor
    pixels: bool = False


@dataclass(frozen=True, eq=False)
class Parity:
    """The parity result of one file.

    Attributes:
        name: Of the format.
        file: Of the file.
        found: Answers of the original and of the file.
        tied: Which of the flips were ties, bool.
        bound: Share of flips, with its exact 95 % interval.
        difference: Error rate of the file less that of the original, with Tango's 95 % interval; None without labels.
        margin: Whether the file is as good within the margin; None where that was not asked, or is not known.
        batches: Largest difference by number of examples at a time; a text where it failed.
        rounding: How far the original's own logits are rounded.
        refused: Why the file is not kept; empty where it is.
        ours: Whether that is the fault of the file, and not of a margin.
        facts: Bytes, digest, speed, and what the exporter noted.
        not_run: Why the file could not be run here, so that nothing is known of its answers; empty where it was.
    """

    name: str
    file: str
    found: Comparison
    tied: NDArray[np.bool_]
    bound: Interval
    difference: Interval | None
    margin: MarginVerdict | None
    batches: Mapping[int, float | str]
    rounding: float
    refused: tuple[str, ...]
    ours: bool
    facts: Mapping[str, Any]
    not_run: str = ""

    def sentence(self) -> str:
        """The conclusion, in one line."""
        if self.not_run:
            said = f"{self.name}: not run here, so its predictions are not checked: {self.not_run}"
            return f"{said}; refused: {'; '.join(self.refused)}" if self.refused else said
        flips, count = len(self.tied), len(self.found.rows)
        ties = "" if not flips else f", {int(self.tied.sum())} of them ties"
        said = (
            f"{self.name}: {flips} of {count:,} predictions differ{ties} (below {100 * self.bound.high:.2g} % with 95 "
            f"% confidence), largest difference of a {self.unit} {self.found.differences.max():.2g}"
        )
        return f"{said}; refused: {'; '.join(self.refused)}" if self.refused else said

    @property
    def unit(self) -> str:
        """The kind of the file's outputs: "logit" or "probability"."""
        return "probability" if self.found.probabilities else "logit"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``parity.json``; what is infinite or no number becomes None."""
        found = self.found
        if self.not_run:
            return {
                "format": self.name,
                "file": self.file,
                "not_run": self.not_run,
                "refused": list(self.refused),
                **self.facts,
            }
        shares = (0.5, 0.9, 0.99, 0.999)
        found_at = np.quantile(found.differences, shares, method="inverted_cdf")  # one that occurs: some are infinite
        quantiles = {f"p{100 * q:g}": _finite(value) for q, value in zip(shares, found_at, strict=True)}
        return {
            "format": self.name,
            "file": self.file,
            "sentence": self.sentence(),
            "refused": list(self.refused),
            "examples": len(found.rows),
            "flips": {**self.bound.to_dict(), "count": len(self.tied), "ties": int(self.tied.sum())},
            "flipped": _flipped(found, self.tied),
            f"{self.unit}_differences": {**quantiles, "max": _finite(found.differences.max())},
            "rounding": self.rounding,
            "largest_logit": found.scale,
            "divergence": {"mean": _finite(found.divergence.mean()), "max": _finite(found.divergence.max())},
            "original": scores(found, 0),
            "exported": scores(found, 1),
            "error_rate_difference": None if self.difference is None else self.difference.to_dict(),
            "margin": None if self.margin is None else self.margin.to_dict(),
            "batches": {str(size): value for size, value in self.batches.items()},
            **self.facts,
        }


def scores(found: Comparison, which: int) -> dict[str, float | None]:
    """Accuracy, negative log-likelihood and calibration error of one side; None without labels.

    Args:
        found: Answers of both.
        which: 0 for the original, 1 for the exported model.

    Returns:
        ``accuracy``, ``nll`` in nats per example, and ``ece``.
    """
    if found.labels is None:
        return {"accuracy": None, "nll": None, "ece": None}
    right = found.answers[which] == found.labels
    sure = np.nan_to_num(found.confidence[which])
    return {
        "accuracy": float(right.mean()),
        "nll": _finite(-found.true_log_probs[which].mean()),
        "ece": bin_confidence(sure, right).expected_error,
    }


def judge_file(
    exporter: Exporter,
    path: Path,
    model: nn.Module,
    held: Held,
    *,
    noted: Mapping[str, Any],
    margin: float | None = None,
    default_margin: float | None = _MARGIN,
    seconds: float = 0.4,
    memory: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Load a written file, run it on held-out examples, and decide whether it may be kept.

    Args:
        exporter: Of its format.
        path: The file or folder.
        model: What it was made of, in evaluation mode on the CPU.
        held: The examples.
        noted: What the exporter said of the file.
        margin: Percentage points of the error rate that the file may lose.
        default_margin: What they are for a format that rounds where nobody says; None: nothing is judged then.
        seconds: About how long each measurement of speed takes.
        memory: Whether peak memory is measured, in a process of its own, where the format knows how.
        progress: Called with the examples done and all.

    Returns:
        What was found.
    """
    facts: dict[str, Any] = {"bytes": _bytes(path), "sha256": _digest(path), **noted}
    try:
        opened = Opened(exporter.open(path), presentation_of(model))
    except CannotRun as error:
        return _not_run(exporter.name, path, held, facts, str(error), margin)
    inputs, given = _some(model, held)
    batches = {size: _at_a_time(model, opened, inputs, given, size) for size in BATCHES}
    broken = {size: said for size, said in batches.items() if isinstance(said, str)}
    if broken:
        found = _nothing(held)
    else:
        found = compare(model, opened, held.examples, rows=held.rows, pixels=held.pixels, progress=progress)
        alone = exporter.open(path, threads=1)
        facts["speed"] = side_by_side(asked(model), alone, inputs, given, count=count_of(inputs), seconds=seconds)
        peak = getattr(exporter, "peak_memory", None) if memory else None
        facts["peak_memory"] = None if peak is None else peak(path, given)
    rounding = rounding_of(model, [inputs], found.scale)
    tied = found.margin[found.flips] <= _TIES * rounding
    margin = default_margin if margin is None and not exporter.exact else margin
    verdict = None
    if found.labels is not None and margin is not None and not broken:
        verdict = _within(found, held, margin, exporter.name)
    reasons = [f"a batch of {size} fails: {said}" for size, said in broken.items()]
    limit = max(_FAR * rounding, _SHARE * (1.0 if held.pixels else found.scale))
    if exporter.exact and not broken:
        reasons += _faults(found, tied, batches, limit)
    elif not broken and not np.isfinite(found.differences).all():
        reasons += ["some of its answers are not numbers"]
    ours = bool(reasons)
    if not ours and margin is not None:
        reasons += _missed(found, verdict, margin)
    shown: dict[int, float | str] = {n: v if isinstance(v, str) else (_finite(v) or 0.0) for n, v in batches.items()}
    return Parity(
        exporter.name,
        path.name,
        found,
        tied,
        clopper_pearson(len(tied), len(found.rows)),
        _difference(found, held),
        verdict,
        shown,
        rounding,
        tuple(reasons),
        ours,
        facts,
    )


def _faults(found: Comparison, tied: NDArray[np.bool_], batches: Mapping[int, float | str], limit: float) -> list[str]:
    """What a format that computes the same may not do."""
    reasons = []
    if not np.isfinite(found.differences).all():
        reasons.append("some of its answers are not numbers")
    if not tied.all():
        reasons.append(f"{int((~tied).sum())} predictions differ that are not ties")
    if not found.differences.max() <= limit:
        unit = "probability" if found.probabilities else "logit"
        reasons.append(f"a {unit} differs by {found.differences.max():.3g}, far more than rounding ({limit:.2g})")
    odd = [size for size, value in batches.items() if not isinstance(value, str) and not value <= limit]
    if odd:
        reasons.append(f"a batch of {odd[0]} is answered otherwise, by {batches[odd[0]]:.3g}")
    return reasons


def _missed(found: Comparison, verdict: MarginVerdict | None, margin: float) -> list[str]:
    """Why a margin is missed; without labels every changed answer counts as an error."""
    if verdict is not None:
        return [] if verdict.outcome == "as good" else [verdict.sentence]
    share = clopper_pearson(len(found.flips), len(found.rows), 0.9).high
    if 100 * share < margin:
        return []
    return [
        f"up to {100 * share:.2g} % of all answers may differ ({len(found.flips)} of {len(found.rows):,} do, 95 % "
        f"one-sided), and the margin is {margin:g} points"
    ]


def _within(found: Comparison, held: Held, margin: float, name: str) -> MarginVerdict:
    wrong = found.answers != found.labels
    groups = _groups(held)
    return judge_margin(
        [wrong[1]], [wrong[0]], margin, model=f"{name} file", reference="original", judged_on=held.part, groups=groups
    )


def _difference(found: Comparison, held: Held) -> Interval | None:
    if found.labels is None:
        return None
    wrong = found.answers != found.labels
    return crossed_difference([wrong[1]], [wrong[0]], groups=_groups(held)).interval()


def _groups(held: Held) -> NDArray[np.int64] | None:
    together = held.examples.groups()
    return None if together is None else together[held.rows].cpu().numpy()


def _some(model: nn.Module, held: Held) -> tuple[Inputs, Inputs]:
    """As many real examples as the largest batch has: as the original takes them, and as the file does."""
    batch = held.examples.batch(held.rows[: max(BATCHES)])
    inputs, _ = bare_inputs(batch.inputs)
    return inputs, pixels_of(batch, plain_view(held.examples, model)) if held.pixels else inputs


def asked(model: nn.Module) -> Callable[[Inputs], object]:
    """The model as its user calls it, without what Limbeck does about it.

    Args:
        model: Any module, on the CPU.

    Returns:
        A function of inputs.
    """
    wanted = weights_dtype(model)

    def cast(values: Tensor) -> Tensor:
        return values.to(wanted) if wanted is not None and values.is_floating_point() else values

    def ask(inputs: Inputs) -> object:
        if isinstance(inputs, Tensor):
            return model(cast(inputs))
        return model(**{name: cast(values) for name, values in inputs.items()})

    return ask


def _at_a_time(model: nn.Module, opened: nn.Module, inputs: Inputs, given: Inputs, size: int) -> float | str:
    """The largest difference where so many examples are asked at a time; or why they cannot be."""
    places = torch.arange(size) % count_of(inputs)
    with torch.no_grad():
        expected = call_model(model, mapped(inputs, lambda each: each[places]))
        try:
            answered = call_model(opened, mapped(given, lambda each: each[places]))
        except Exception as error:  # a runtime has types of its own
            cause = error.__cause__ or error
            return " ".join(str(cause).split())[:200]
    if given is not inputs:
        expected = expected.softmax(-1)
    if answered.shape != expected.shape:
        return f"it outputs shape {tuple(answered.shape)}, and the model {tuple(expected.shape)}"
    return float((answered - expected).abs().max().nan_to_num(math.inf))


def _nothing(held: Held) -> Comparison:
    """Of a file that cannot be asked: as many answers that differ as there are examples."""
    count = len(held.rows)
    answers = np.stack([np.zeros(count, np.int64), np.full(count, -1)])
    zeros, off = np.zeros((2, count)), np.full(count, math.inf)
    return Comparison(held.rows.cpu().numpy(), None, answers, zeros, zeros, off, off, off, 0.0, held.pixels)


def _not_run(name: str, path: Path, held: Held, facts: Mapping[str, Any], why: str, margin: float | None) -> Parity:
    """Of a file that this machine cannot run: kept, unless a margin was to be shown."""
    none, share = np.zeros(0, np.bool_), clopper_pearson(0, len(held.rows))
    refused = () if margin is None else (f"nothing shows that it is within the margin of {margin:g} points",)
    return Parity(name, path.name, _nothing(held), none, share, None, None, {}, 0.0, refused, False, facts, why)


def _flipped(found: Comparison, tied: NDArray[np.bool_]) -> list[dict[str, Any]]:
    listed = zip(found.flips[:_LISTED].tolist(), tied.tolist(), strict=False)
    return [
        {
            "row": int(found.rows[place]),
            "label": None if found.labels is None else int(found.labels[place]),
            "original": int(found.answers[0][place]),
            "exported": int(found.answers[1][place]),
            "margin": _finite(found.margin[place]),
            "tie": tie,
        }
        for place, tie in listed
    ]


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _files(path: Path) -> list[Path]:
    beside = path.with_name(f"{path.name}.data")
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    return [path, *([beside] if beside.exists() else [])]


def _bytes(path: Path) -> int:
    return sum(each.stat().st_size for each in _files(path))


def _digest(path: Path) -> str | dict[str, str]:
    if path.is_dir():
        return {each.relative_to(path).as_posix(): digest_file(each) for each in _files(path)}
    return digest_file(path)
