"""Compare distillation methods: equal search budgets, chosen settings trained over seeds, one evaluation."""

__all__ = ["MethodComparison", "compare_methods"]

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from limbeck.arguments import checked_arguments
from limbeck.comparing.arms import Arm, Settings, arms_for
from limbeck.comparing.cells import Bench, Cell, Found, train_cell
from limbeck.comparing.page import write_page
from limbeck.comparing.rows import Row, judge_arms, resolution
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, RunError
from limbeck.methods import make_method
from limbeck.models.calling import autograd_enabled
from limbeck.options import Augmentation, ModelOptions, Training, TrainingKeywords
from limbeck.options.checks import from_keywords
from limbeck.options.comparison import Comparison
from limbeck.protocols import Answering
from limbeck.runs.claims import judged_by
from limbeck.runs.data_warnings import tell_shared_examples
from limbeck.runs.execution import told
from limbeck.runs.initial_models import starts
from limbeck.runs.inputs import as_data_set, check_answers, teacher_for
from limbeck.runs.measure import answers_of, labels_of
from limbeck.runs.models_for_data import named_model
from limbeck.runs.settings import plain_settings, require_settings
from limbeck.softtargets.digests import network_identity, teacher_fingerprint
from limbeck.system.callbacks import Callback
from limbeck.system.files import make_folder, read_json, replace_json
from limbeck.system.jobs import run_jobs
from limbeck.system.progress import counting
from limbeck.teachers import lent
from limbeck.training.identity import require_agreement

_SEARCH_SEED = 1_000_003
"""Trials have a seed of their own, so that no final training is one that settings were chosen by."""
_IDENTITY = "comparison.json"


@dataclass(frozen=True)
class MethodComparison:
    """The result of a comparison.

    Attributes:
        rows: An arm each, labels alone first.
        examples: Number of test examples.
        teacher_errors: The teacher's errors on them; None where its answers are stored.
        metrics: The contents of ``metrics.json``.
        folder: Where it all is, with ``report.html`` and ``results/methods.md``.
    """

    rows: tuple[Row, ...]
    examples: int
    teacher_errors: int | None
    metrics: dict[str, Any]
    folder: Path


@autograd_enabled
@checked_arguments
def compare_methods(
    teacher: nn.Module | Answering,
    student: Callable[[int], nn.Module] | str | ModelOptions,
    train: Any,
    validation: Any = None,
    *,
    out: str | Path,
    test: Any = None,
    classes: Sequence[str] | None = None,
    comparison: Comparison | None = None,
    augmentation: Augmentation | None = None,
    resume: bool = False,
    jobs: int = 1,
    command: str = "",
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool | Callable[[int, int], None] = True,
    **training: Unpack[TrainingKeywords],
) -> MethodComparison:
    """Compare methods of distillation with labels alone, and with each other.

    Every arm tries the same number of settings, on validation and with a separate seed; the best are trained over fresh
    seeds, all arms from the same initial weights in the same order for as many steps; then the test set is read once.
    The intervals hold the chance of seeds and of examples, and p-values are adjusted by Holm for the number of arms.
    "labels longer" has twice the epochs: a method that needs more patience than labels must beat that too.

    Args:
        teacher: As :func:`limbeck.distill` takes it.
        student: A function that makes a module from a seed, "mlp" or "cnn", or
            :class:`~limbeck.ModelOptions`, so that every seed has its own weights.
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels.
        validation: Examples by which settings and epochs are chosen, with labels.
        out: Folder for the comparison; each training is kept in it.
        test: Examples to judge on, with labels, read once, at the end.
        classes: Names of the classes.
        comparison: Methods, trials and seeds.
        augmentation: Augmentation of the training images, for every arm alike.
        resume: Resume the run in ``out``, with the same settings. Methods may be added, and p-values are then corrected
            for all of them; that they came after results is said.
        jobs: How many trainings run in parallel, each in its own process.
        command: What is shown as the command that made the page.
        callbacks: Told what is odd about the data; epochs of so many trainings are not told.
        progress: Show a progress bar, where there is a terminal or a notebook; or a function that is called with the
            trainings that are done and all of them.
        **training: Fields of :class:`~limbeck.options.Training` that all arms have in common; searches draw learning
            rates from a third to three times ``learning_rate``.

    Returns:
        The comparison, with its table.

    Raises:
        ConfigError: If a setting is out of range, or validation or test labels are missing.
        MismatchError: If teacher or student cannot take the data.
        RunError: If the folder holds another comparison.
    """
    options, asked = from_keywords(Training, training), comparison or Comparison()
    data, folder = as_data_set(train, validation, test, classes), Path(out)
    _require(data, student)
    guide = teacher_for(teacher, data)
    with lent(guide):
        bound = guide.bind(data.train)
        if bound.live:
            check_answers("teacher", bound, data)
        made = starts(named_model(student, data), [_SEARCH_SEED], role="student")[0]
        check_answers("student", made, data.seen_by(made))
        for method in asked.methods:  # a user's own is imported here, before anything is written
            make_method(method, classes=len(data.classes))
        identity = {"teacher": teacher_fingerprint(bound), "data": data.identity()}
        how = {**dataclasses.asdict(options), **dataclasses.asdict(augmentation or Augmentation())}
        network = network_identity(made, "student")["student"]
        common, added = _settle(folder, identity, asked=asked, settings=how, student=network, resume=resume)
        hears = told(callbacks, progress=False)
        tell_shared_examples(data, ["validation", "test"], hears)
        bench = Bench(teacher, student, data, options, augmentation)
        with counting("comparing", progress) as show:
            work = _Work(folder, bench, arms_for(asked.methods), asked, common, jobs, show)
            chosen, searched = work.search()
            trained = work.train(chosen)
        labels, groups = labels_of(_test(data)), _test(data).groups()
        rows = judge_arms(
            chosen, searched, trained, len(labels), groups=None if groups is None else groups.cpu().numpy()
        )
        judged = judged_by(guide, _test(data))
        wrong = None if judged is None else int((answers_of(judged, _test(data)).predicted != labels).sum())
    found = {
        "judged_on": "test",
        "test_examples": len(labels),
        "teacher_errors": wrong,
        "trials": asked.trials,
        "seeds": asked.seeds,
        "resolution": resolution(rows),
        "edge": work.edge(chosen),
        "added": added,
        "rows": [row.to_dict() for row in rows],
        **({"warnings": hears.warned} if hears is not None and hears.warned else {}),
    }
    replace_json(folder / "metrics.json", found)
    write_page(folder, rows, found, data, options, command)
    return MethodComparison(tuple(rows), len(labels), wrong, found, folder)


@dataclass(frozen=True)
class _Work:
    """The trainings of a comparison, and who makes them."""

    folder: Path
    bench: Bench
    arms: Sequence[Arm]
    asked: Comparison
    common: str
    jobs: int
    progress: Callable[[int, int], None]

    def search(self) -> tuple[dict[str, Settings], dict[str, int]]:
        """The settings of each arm that validation chose, and the errors that they made there."""
        drawn = {arm.name: arm.draw(self.bench.training, self.asked.trials, _SEARCH_SEED) for arm in self.arms}
        cells = [
            self._cell("search", arm, number, settings, _SEARCH_SEED, judged=False)
            for arm in self.arms
            for number, settings in enumerate(drawn[arm.name], 1)
        ]
        found = self._run(cells, 0)
        best: dict[str, int] = {}
        for arm, place in zip(self.arms, range(0, len(cells), self.asked.trials), strict=True):
            scores = [(one.errors, one.nll) for one in found[place : place + self.asked.trials]]
            best[arm.name] = place + scores.index(min(scores))
        return {arm: cells[k].settings for arm, k in best.items()}, {arm: found[k].errors for arm, k in best.items()}

    def edge(self, chosen: Mapping[str, Settings]) -> dict[str, int]:
        """How many arms chose the smallest and how many the largest learning rate that was drawn."""
        drawn = {one.learning_rate for one in self.arms[0].draw(self.bench.training, self.asked.trials, _SEARCH_SEED)}
        rates = [one.learning_rate for one in chosen.values()]
        return {"smallest": rates.count(min(drawn)), "largest": rates.count(max(drawn))} if len(drawn) > 1 else {}

    def train(self, chosen: Mapping[str, Settings]) -> dict[str, list[Found]]:
        """Train every arm over the seeds, all arms of a seed after each other so that their times can be compared."""
        first = self.bench.training.seed
        cells = [
            self._cell("seeds", arm, seed, chosen[arm.name], seed, judged=True)
            for seed in range(first, first + self.asked.seeds)
            for arm in self.arms
        ]
        found = self._run(cells, len(self.arms) * self.asked.trials)
        return {arm.name: found[k :: len(self.arms)] for k, arm in enumerate(self.arms)}

    def _cell(self, part: str, arm: Arm, number: int, settings: Settings, seed: int, *, judged: bool) -> Cell:
        place = self.folder / part / re.sub(r"[^\w.+-]+", "-", arm.name) / str(number)
        return Cell(place, arm, settings, seed, judged, self.common)

    def _run(self, cells: Sequence[Cell], before: int) -> list[Found]:
        for cell in cells:
            make_folder(cell.folder.parent)
        whole = len(self.arms) * (self.asked.trials + self.asked.seeds)

        def done(count: int, _: int) -> None:
            self.progress(before + count, whole)

        return run_jobs([partial(train_cell, cell, self.bench) for cell in cells], jobs=self.jobs, done=done)


def _test(data: DataSet) -> Examples:
    assert data.test is not None, "it was required"
    return data.test


def _require(data: DataSet, student: object) -> None:
    """Refuse what cannot be compared."""
    for name in ("train", "validation", "test"):
        part = data.parts().get(name)
        if part is None or part.labels is None:
            raise ConfigError(
                f"a comparison needs labelled training, validation and test examples, and there are no such {name} "
                "examples: validation chooses the settings, and the test set is read once, at the end"
            )
    if isinstance(student, nn.Module):
        raise ConfigError(
            "a comparison over seeds makes a student of its own for each: give a function of the seed that returns a "
            'module, or a name such as "mlp"'
        )


def _require_identity(folder: Path, before: Any, now: Mapping[str, Any]) -> None:
    """Refuse to resume a comparison of another teacher or other data, and say which of them differ."""
    was = before if isinstance(before, dict) else {}
    if all(was.get(name) == value for name, value in now.items()):
        return
    held = was.get("data")
    for name, value in now["data"].items():
        require_agreement(folder, name, held.get(name) if isinstance(held, dict) else None, value)
    require_agreement(folder, "teacher", was.get("teacher"), now["teacher"])
    raise RunError(f"{folder} holds a comparison of another teacher or other data: choose another folder")


def _settle(
    folder: Path,
    identity: Mapping[str, Any],
    *,
    asked: Comparison,
    settings: Mapping[str, Any],
    student: str,
    resume: bool,
) -> tuple[str, list[str]]:
    """Note what the comparison is of, or see that it is of the same.

    Args:
        folder: Of the comparison.
        identity: Digests of teacher and data.
        asked: Methods, trials and seeds.
        settings: Those that all arms have in common.
        student: Digest of the architecture.
        resume: Whether a comparison may be there.

    Returns:
        A digest of the identity, and the methods that were added after there were results.

    Raises:
        RunError: If the folder holds another comparison, or something else.
    """
    make_folder(folder)
    file, plain = folder / _IDENTITY, json.loads(json.dumps(identity, default=str))
    now: dict[str, Any] = {"settings": plain_settings(settings), "student": student, "added": []}
    now |= {"trials": asked.trials, "seeds": asked.seeds, "methods": list(asked.methods)}
    if file.exists():
        if not resume:
            raise RunError(f"{folder} holds a comparison: continue it with resume (--resume), or choose another folder")
        before = read_json(file)
        _require_identity(folder, before, plain)
        if "settings" in before:  # else from an earlier version
            now["added"] = _require_same(folder, before, now)
    elif any(folder.iterdir()):
        raise RunError(f"{folder} is not empty, and is not a comparison: choose another folder")
    replace_json(file, {**plain, **now})
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest(), now["added"]


def _require_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Refuse other settings, and after results fewer methods or other seeds; the methods that were added after them."""
    begun, given = dict(before["settings"]), dict(now["settings"])
    if "auto" in {begun.get("precision"), given.get("precision")}:  # each training knows its own
        begun["precision"] = given["precision"]
    trained = next((path.parent for path in sorted(folder.glob("*/*/*/cell.json"))), None)
    require_settings(folder, begun, given, finished=trained)
    for name in ("student", "trials"):
        require_agreement(folder, name, before[name], now[name])
    if not (folder / "metrics.json").exists():
        return []
    require_agreement(folder, "seeds", before["seeds"], now["seeds"])
    dropped = [name for name in before["methods"] if name not in now["methods"]]
    if dropped:
        raise RunError(
            f"{folder} has results for methods = {' '.join(before['methods'])}, and now {' '.join(dropped)} "
            f"{'is' if len(dropped) == 1 else 'are'} left out: p-values are corrected for all methods that were "
            "compared; resume with these too, or choose another out (--out)"
        )
    return [*before["added"], *(name for name in now["methods"] if name not in before["methods"])]
