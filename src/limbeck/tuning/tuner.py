"""Search loss, temperature, hard weight, learning rate and epochs on validation, over soft targets kept before."""

__all__ = ["TuneRun", "tune"]

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError
from limbeck.evaluation.prediction import answer_views
from limbeck.models.calling import autograd_enabled
from limbeck.odd_teachers import tell_odd_teacher, tell_probabilities
from limbeck.options import Augmentation, Distillation, Training, TrainingKeywords
from limbeck.options.checks import from_keywords
from limbeck.options.search import Axis, Search, Values, baseline_axes, combinations
from limbeck.protocols import Answering, Teacher
from limbeck.runs.folder import RunFolder, require_out
from limbeck.runs.inputs import as_data_set, check_answers, teacher_for, verify_stores
from limbeck.runs.measure import title_of
from limbeck.runs.oddities import tell_contradictions, tell_shared_examples
from limbeck.runs.starts import starts
from limbeck.softtargets.digests import teacher_fingerprint
from limbeck.system.checksums import check_file
from limbeck.system.devices import Device, find_device
from limbeck.training.objective import require_logits
from limbeck.tuning.conducting import Conductor
from limbeck.tuning.results import conclude, conclude_baseline, report_search
from limbeck.tuning.study import (
    address_of,
    connect,
    hidden_password,
    open_study,
    optuna_here,
    told_of_storage,
    unfinished,
)
from limbeck.tuning.trials import Bench, rows_of

_TRIALS = 30
_KEEP_BYTES = 1 << 30
"""A live teacher's answers up to this size are held in memory; larger ones belong into a store."""


@dataclass(frozen=True)
class TuneRun:
    """What a search found.

    Attributes:
        best: The settings that were best on validation: ``loss``, ``temperature`` where it counts, ``hard_weight``,
            ``learning_rate`` and ``epochs``, as :func:`~limbeck.distill` takes them.
        trials: A mapping a trial that came to an end, in the order in which they began.
        metrics: What ``metrics.json`` holds.
        folder: Where it all is, or None.
    """

    best: dict[str, Any]
    trials: list[dict[str, Any]]
    metrics: dict[str, Any]
    folder: Path | None


@autograd_enabled
@checked_arguments
def tune(
    teacher: nn.Module | Answering,
    student: nn.Module | Callable[[int], nn.Module],
    train: Any,
    validation: Any = None,
    *,
    classes: Sequence[str] | None = None,
    search: Search | None = None,
    augmentation: Augmentation | None = None,
    jobs: int = 1,
    ray: str | None = None,
    storage: str | None = None,
    study: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **training: Unpack[TrainingKeywords],
) -> TuneRun:
    """Find the settings with which a student learns best from a teacher, judged on validation alone.

    The teacher answers each view of each example once, or a store of its answers is used; every trial is a student
    trained on them. A test set that comes with the data is put aside unread. Poor trials are stopped early.

    Args:
        teacher: :class:`~limbeck.SoftTargets` opened from a store; or a module or teacher, which answers once.
        student: A module (it is copied), or a function that makes one from a seed.
        train: A :class:`~limbeck.data.DataSet`, or training examples as a pair of inputs and labels.
        validation: Labelled examples to judge by, where the data set has none of its own.
        classes: Names of the classes.
        search: Ranges or lists, and how many trials; None for the defaults.
        augmentation: Random views of the training pictures; their number must be given.
        jobs: How many processes of this machine work on the one study, each with as many threads as this one. Above
            1 it needs ``out`` or ``storage``, and a program that begins with ``if __name__ == "__main__"``.
        ray: Instead: the address of a Ray cluster, or "local" for one that is started here. A cluster needs
            ``storage``, which all its machines reach.
        storage: Address of a database that several machines reach, such as ``postgresql://host/db``; None for an
            SQLite file in ``out``. Each machine has an ``out`` of its own.
        study: Name of the study in ``storage``.
        out: Folder for the search; None to write nothing.
        resume: Continue what ``out`` holds; trials that came to an end are not repeated.
        settings: More to keep in ``config.toml`` and ``best.toml``.
        progress: Called with the number of trials that came to an end, and of all.
        **training: Fields of :class:`~limbeck.options.Training` for all trials, such as ``batch_size``.

    Returns:
        The best settings, and every trial.

    Raises:
        ConfigError: If a setting is out of range, or contradicts another.
        MismatchError: If teacher, student and data do not belong together.
        RunError: If the study was begun with other settings or data, or no trial came to an end.

    Example:
        >>> import torch
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> teacher = nn.Linear(4, 2)
        >>> _ = teacher.weight.data.copy_(torch.tensor([[-3.0, 0, 0, 0], [3.0, 0, 0, 0]]))
        >>> grid = Search(grid=True, temperatures=(1, 4), hard_weights=(0, 0.5))
        >>> found = tune(teacher, nn.Linear(4, 2), (x[:100], y[:100]), (x[100:], y[100:]), search=grid, epochs=2)
        >>> len(found.trials), sorted(found.best)
        (4, ['epochs', 'hard_weight', 'learning_rate', 'loss', 'temperature'])
    """
    optuna_here()
    options, sought = from_keywords(Training, training), search or Search()
    _check(jobs, ray, storage, study, out, resume, options, sought)
    if isinstance(train, DataSet):
        train = dataclasses.replace(train, test=None)  # put aside before anything looks at it
    data = as_data_set(train, validation, None, classes)
    made = starts(student, [options.seed], role="student")[0]
    data = data.seen_by(made)
    if data.validation is None or data.validation.labels is None:
        raise ConfigError("a search chooses on labelled validation examples, and there are none: set some aside")
    if resume and out is not None and options.precision == "auto":
        options = dataclasses.replace(options, precision=RunFolder(out).settled("precision", "auto"))
    device = find_device(options.device, options.precision)
    options = dataclasses.replace(options, precision=device.precision)
    augmentation = data.train.drawn(augmentation)
    guide = teacher_for(teacher, data)
    guide = guide.to(device.device).bind(data.train, augmentation)
    verify_stores(guide, None)
    check_answers("student", made, data)
    tell_probabilities("teacher", guide, data.train, device, None)
    tell_probabilities("student", made, data.train, None, None)
    tell_contradictions(data.train, None)
    tell_shared_examples(data, ["validation"], None)
    axes = sought.axes(
        learning_rate=options.peak_learning_rate,
        epochs=options.epochs,
        only_temperature=getattr(guide, "temperature", None),
        labelled=data.train.labels is not None,
    )
    for loss in sought.losses:
        require_logits(guide, loss)
    for values in combinations(axes):
        Distillation(**{name: values[name] for name in ("loss", "temperature", "hard_weight") if name in values})
        dataclasses.replace(options, learning_rate=values["learning_rate"], epochs=int(values["epochs"]))
    points: list[Values] = combinations(axes) if sought.grid else [{} for _ in range(sought.trials or _TRIALS)]
    judges = data.validation
    views = _demand(guide, data, augmentation, axes)
    hottest = max(next(axis for axis in axes if axis.name == "temperature").values)
    tell_odd_teacher(guide, data.train, augmentation, float(hottest), device, None, classes=data.classes)
    common = _common(guide, made, data, augmentation, options, sought, axes)
    first, learning_rates = study or "limbeck", next(axis for axis in axes if axis.name == "learning_rate")
    both = sought.baseline and data.train.labels is not None and not learning_rates.fixed

    def go(folder: RunFolder | None) -> TuneRun:
        if folder is not None:
            check_file(folder.path / "study.db")
        url = storage if folder is None or storage is not None else address_of(folder.path / "study.db")
        database, alone = connect(url, shared=storage is not None), storage is None
        with told_of_storage(url):
            open_study(database, first, common)
        if folder is not None:
            folder.unseal_results()
        stored: list[Teacher] = []

        def bench(axes: tuple[Axis, ...]) -> Bench:
            stored[:] = stored or [_stored(guide, data, augmentation, axes, device, views)]
            return Bench(stored[0], student, data, augmentation, options, axes, sought.prune and not sought.grid)

        def told(done: int) -> None:
            if progress is not None:
                progress(done, len(points) * (1 + both))

        until = time.time() + 60 * (sought.timeout_minutes or float("inf"))
        conductor = Conductor(database, url, alone, jobs, ray, until, folder is not None, told)
        with told_of_storage(url):
            opened = conductor.run(first, common, points, partial(bench, axes))
            rows = rows_of(opened, axes)
            best, metrics = conclude(rows, judges, left=unfinished(opened))
            if both:
                narrow = baseline_axes(axes, best["epochs"])
                tried = combinations(narrow) if sought.grid else [{} for _ in points]
                name = f"{first}, baseline of {best['epochs']} epochs"
                beside = conductor.run(
                    name, {**common, "searched for": name}, tried, partial(bench, narrow), before=len(points)
                )
                best |= conclude_baseline(rows_of(beside, narrow), metrics, left=unfinished(beside))
            elif not learning_rates.fixed:
                best["searched"] = "student"
        if folder is not None:
            kept_best = {**(settings or {}), **dataclasses.asdict(options), **dataclasses.asdict(augmentation), **best}
            folder.write_settings("best.toml", "distill", kept_best)
            folder.write_metrics(metrics)
            report_search(folder.path)
        return TuneRun(best, rows, metrics, None if folder is None else folder.path)

    if out is None:
        return go(None)
    kept = {**(settings or {}), **dataclasses.asdict(options), **dataclasses.asdict(augmentation)}
    kept |= {**dataclasses.asdict(sought), "jobs": jobs, "ray": ray, "study": study}
    kept["storage"] = None if storage is None else hidden_password(storage)
    with RunFolder(out).open("tune", kept, resume=resume) as folder:
        return go(folder)


def _check(
    jobs: int,
    ray: str | None,
    storage: str | None,
    study: str | None,
    out: str | Path | None,
    resume: bool,
    options: Training,
    search: Search,
) -> None:
    """Refuse settings that contradict each other."""
    if storage is None:
        require_out(out, resume=resume)
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, and is {jobs}")
    if study is not None and storage is None:
        raise ConfigError("study names one of the studies in a storage, and no storage is given: leave study out")
    if jobs > 1 and ray is not None:
        raise ConfigError("jobs is for this machine, and ray for a cluster: give one of them")
    if (jobs > 1 or ray is not None) and out is None and storage is None:
        raise ConfigError("several jobs meet in a database: give out, or storage")
    if ray not in {None, "local"} and storage is None:
        raise ConfigError(f"the machines of the cluster at {ray} meet in a database that all reach: give storage")
    if search.learning_rates is not None and options.learning_rate is not None:
        raise ConfigError("learning_rate and learning_rates contradict each other: give one of them")
    if search.epoch_counts is not None and options.epochs != Training().epochs:
        raise ConfigError("epochs and epoch_counts contradict each other: give one of them")


def _common(
    guide: Teacher,
    student: nn.Module,
    data: DataSet,
    augmentation: Augmentation,
    options: Training,
    search: Search,
    axes: Sequence[Axis],
) -> dict[str, Any]:
    """What trials must have in common to be compared, as plain values; the test set is no part of it."""
    assert data.validation is not None
    fixed = {name: value for name, value in dataclasses.asdict(options).items() if name != "device"}
    del fixed["learning_rate"], fixed["epochs"]
    return {
        **fixed,
        **dataclasses.asdict(augmentation),
        **{f"searched {axis.name}": list(axis.values) for axis in axes},
        "grid": search.grid,
        "prune": search.prune,
        "training examples": data.train.digest,
        "validation examples": data.validation.digest,
        "classes": list(data.classes),
        "teacher": teacher_fingerprint(guide),
        "student": title_of(student),
        "student's weights": [list(value.shape) for value in student.state_dict().values()],
    }


def _demand(guide: Teacher, data: DataSet, augmentation: Augmentation, axes: Sequence[Axis]) -> int:
    """Make sure that the teacher's answers can be had once for all trials, and say how many views they are for."""
    if not guide.live:
        return 0
    if augmentation.active and augmentation.views is None:
        raise ConfigError("the teacher answers each view once, so they have to be counted: set views, such as 8")
    chosen = {axis.name: axis for axis in axes}
    if not guide.every_temperature and not chosen["temperature"].fixed:
        raise ConfigError(
            "an arithmetic mean's soft targets hold for one temperature alone: give that one as temperatures, such as "
            "4, and the rest is searched; or use a geometric mean"
        )
    views = min(augmentation.views or 1, int(max(chosen["epochs"].values))) if augmentation.active else 1
    size = views * len(data.train) * len(data.classes) * 4
    if size > _KEEP_BYTES:
        raise ConfigError(
            f"the teacher's answers would take {size / 1e9:.1f} GB of memory: write them with limbeck soften, and give "
            "the store"
        )
    return views


def _stored(
    guide: Teacher, data: DataSet, augmentation: Augmentation, axes: Sequence[Axis], device: Device, views: int
) -> Teacher:
    """The teacher's answers to all that training will show."""
    if not guide.live:
        return guide
    temperature = next(axis for axis in axes if axis.name == "temperature").values[0]
    return answer_views(
        guide,
        data.train,
        augmentation,
        classes=data.classes,
        views=views,
        device=device,
        temperature=None if guide.every_temperature else temperature,
    )
