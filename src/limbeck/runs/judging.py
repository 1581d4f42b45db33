"""Evaluation of students, baselines and teacher on the test set: once, after the last training."""

__all__ = ["Judgement", "Pair", "judge_pairs", "warn_unjudged"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.source import Source
from limbeck.evaluation.inheritance import inherited_mistakes
from limbeck.evaluation.non_inferiority import MarginVerdict, judge_margin
from limbeck.evaluation.verdicts import Verdict, judge, judge_seeds
from limbeck.protocols import Teacher
from limbeck.runs.calibrating import calibration_of
from limbeck.runs.claims import judged_by
from limbeck.runs.measure import Answers, answers_of, labels_of, scores_of, size_of, speed_of, title_of
from limbeck.runs.speed import placed
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device


@dataclass(frozen=True)
class Pair:
    """A student, its baseline, and their histories."""

    student: nn.Module
    baseline: nn.Module | None
    history: list[dict[str, Any]]
    baseline_history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Judgement:
    """Verdicts, the metrics that a run saves, and the predictions by role."""

    verdict: Verdict | None
    margin: MarginVerdict | None
    metrics: dict[str, Any]
    answers: dict[str, Tensor]


def warn_unjudged(data: DataSet, callback: Callback | None) -> None:
    """Warn, so that the run keeps it among its metrics, where no labelled examples are left and no verdict follows.

    Args:
        data: The data set.
        callback: Receives the warning.
    """
    part = data.test or data.validation
    if part is None or part.labels is None:
        (callback or Callback()).on_warning(
            "there are no labelled test or validation examples, so nothing is evaluated and there is no verdict: give "
            "test=, or --test-data"
        )


def judge_pairs(
    guide: Teacher | None,
    pairs: Sequence[Pair],
    data: DataSet,
    seed: int,
    device: Device,
    margin: float | None,
    *,
    one_start: bool = False,
) -> Judgement:
    """Evaluate on the test set, once, and make the verdicts; on validation where there is no test set.

    Args:
        guide: The teacher; None where there is none.
        pairs: Students and their baselines, one per seed.
        data: The data set.
        seed: Seed of the first pair; the others' are consecutive.
        device: Where to compute.
        margin: Non-inferiority margin to the teacher in percentage points, or None.
        one_start: Whether all pairs began with the same initial weights.

    Returns:
        Verdicts, metrics and predictions.
    """
    # In float32 also after bf16 training: the verdict is on the networks, not on how they were trained.
    part = "test" if data.test is not None else "validation"
    examples = data.test or data.validation
    if examples is None or examples.labels is None:
        sizes = {"student": {"title": title_of(pairs[0].student), **size_of(pairs[0].student, data.train)}}
        return Judgement(None, None, {"judged_on": None, **sizes}, {})
    labels = labels_of(examples)
    answers: dict[str, Answers] = {}
    found: dict[str, Any] = {"judged_on": part}
    reference = None
    judged = None if guide is None else judged_by(guide, examples)
    if judged is not None:
        with placed(judged, device.device) as there:
            fitted = calibration_of(there, data.validation)
            reference = answers["teacher"] = answers_of(there, examples, calibration=fitted)
            found["teacher"] = {
                "title": title_of(judged),
                **scores_of(reference, labels),
                **examples.scores(reference.predicted, labels),
                **size_of(there, examples),
                **speed_of(there, examples),
            }
    rows: list[dict[str, Any]] = []
    wrong: dict[str, list[NDArray[np.bool_]]] = {"student": [], "baseline": []}
    said: dict[str, list[NDArray[np.int64]]] = {"student": [], "baseline": []}
    costs: dict[str, Any] = {}  # one network with other weights: measured once, else noise would tell them apart
    for number, pair in enumerate(pairs):
        row: dict[str, Any] = {"seed": seed + number}
        for role, model in (("baseline", pair.baseline), ("student", pair.student)):
            if model is None:
                continue
            with placed(model, device.device) as there:
                fitted = calibration_of(there, data.validation) if number == 0 else None
                answered = answers_of(there, examples, calibration=fitted)
                costs = costs or {**size_of(there, examples), **speed_of(there, examples)}
            scores = scores_of(answered, labels, teacher=reference)
            row |= {f"{role}_errors": scores["test_errors"], f"{role}_accuracy": scores["accuracy"]}
            wrong[role].append(answered.predicted != labels)
            said[role].append(answered.predicted)
            if number == 0:
                answers[role] = answered
                more = examples.scores(answered.predicted, labels)
                found[role] = {"title": title_of(model), **scores, **more, **costs}
        rows.append(row)
    teacher_wrong = None if reference is None else reference.predicted != labels
    verdict, within = _verdicts(wrong, teacher_wrong, labels, examples, data.classes, part, margin, one_start=one_start)
    found |= {
        "seeds": rows,
        "verdict": None if verdict is None else verdict.to_dict(),
        "margin": None if within is None else within.to_dict(),
    }
    if reference is not None:
        found["inherited"] = _inherited(reference, said, labels, examples, data.classes)
    kept = {role: held.log_probs for role, held in answers.items() if held.log_probs is not None}
    return Judgement(verdict, within, found, kept)


def _inherited(
    teacher: Answers,
    said: Mapping[str, Sequence[NDArray[np.int64]]],
    labels: NDArray[np.int64],
    examples: Examples,
    classes: Sequence[str],
) -> dict[str, Any] | None:
    """The teacher's mistakes that students and baselines repeat."""
    names = examples.inputs.group_names() if isinstance(examples.inputs, Source) else None
    found = inherited_mistakes(
        teacher.predicted, said["student"], said["baseline"], labels, classes, groups=_groups(examples),
        group_names=names,
    )  # fmt: skip
    return None if found is None else found.to_dict()


def _groups(examples: Examples) -> NDArray[np.int64] | None:
    together = examples.groups()
    return None if together is None else together.cpu().numpy()


def _verdicts(
    wrong: Mapping[str, Sequence[NDArray[np.bool_]]],
    teacher_wrong: NDArray[np.bool_] | None,
    labels: NDArray[np.int64],
    examples: Examples,
    classes: Sequence[str],
    part: str,
    margin: float | None,
    *,
    one_start: bool,
) -> tuple[Verdict | None, MarginVerdict | None]:
    """The verdicts: students against baselines, and against the teacher within a margin, where possible."""
    shared: dict[str, Any] = {
        "groups": _groups(examples), "labels": labels, "classes": classes, "judged_on": part
    }  # fmt: skip
    verdict, within = None, None
    students, baselines = wrong["student"], wrong["baseline"]
    if baselines and len(students) == 1:
        verdict = judge(students[0], baselines[0], **shared)
    elif baselines:
        verdict = judge_seeds(students, baselines, one_start=one_start, **shared)
    if margin is not None and teacher_wrong is not None:
        beside = [teacher_wrong] * len(students)
        within = judge_margin(students, beside, margin, one_start=one_start, **shared)
    return verdict, within
