"""The plan of a search: the axes, the planned trials, and what they have in common."""

__all__ = ["SearchPlan", "Where", "check_search", "plan_search"]

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError
from limbeck.evaluation.prediction import answer_views
from limbeck.methods import make_method
from limbeck.options import Augmentation, Distillation, TeacherView, Training
from limbeck.options.search_space import Axis, Search, Values, combinations, option_texts
from limbeck.protocols import Answering, Teacher
from limbeck.runs.data_warnings import tell_contradictions, tell_shared_examples
from limbeck.runs.execution import Execution
from limbeck.runs.folder import require_out
from limbeck.runs.initial_models import starts
from limbeck.runs.inputs import check_answers, teacher_for, verify_stores
from limbeck.runs.measure import title_of
from limbeck.softtargets.digests import teacher_fingerprint
from limbeck.system.devices import Device
from limbeck.teacher_warnings import tell_odd_teacher, tell_probabilities
from limbeck.training.objective import require_teacher
from limbeck.tuning.option_axes import features_alone, option_axes, reads_features
from limbeck.tuning.study import hidden_password
from limbeck.tuning.trials import Bench

_TRIALS = 30
_LEAST_WEIGHT = 0.1
"""Of labels, where a method learns layers alone and nothing else trains what makes logits of them."""
_KEEP_BYTES = 1 << 30
"""A live teacher's answers up to this size are held in memory; larger ones belong into a store."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a search is kept, and who works on it.

    Attributes:
        jobs: How many processes of this machine.
        ray: Instead: the address of a Ray cluster, or "local".
        storage: Address of a database, or None.
        study: Name of the study in it, or None.
        out: Folder for the search, or None.
        resume: Resume the run in ``out``.
        settings: More to keep in ``config.toml`` and ``best.toml``.
    """

    jobs: int
    ray: str | None
    storage: str | None
    study: str | None
    out: str | Path | None
    resume: bool
    settings: Mapping[str, Any] | None

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: If some do.
        """
        if self.storage is None:
            require_out(self.out, resume=self.resume)
        if self.jobs < 1:
            raise ConfigError(f"jobs must be at least 1, and is {self.jobs}")
        if self.study is not None and self.storage is None:
            raise ConfigError("study names one of the studies in a storage, and no storage is given: leave study out")
        if self.jobs > 1 and self.ray is not None:
            raise ConfigError("jobs is for this machine, and ray for a cluster: give one of them")
        if (self.jobs > 1 or self.ray is not None) and self.out is None and self.storage is None:
            raise ConfigError("several jobs meet in a database: give out, or storage")
        if self.ray not in {None, "local"} and self.storage is None:
            raise ConfigError(
                f"the machines of the cluster at {self.ray} meet in a database that all reach: give storage"
            )


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The decisions of a search, made before any trial.

    Attributes:
        guide: The teacher, on the device and bound to the training examples.
        student: A module, or a function that makes one from a seed.
        data: Training and validation examples.
        options: The settings of all trials, with the precision that was found.
        augmentation: The augmentation.
        taught: Augmentation of the teacher.
        teacher_view: Which these are.
        device: Where to compute.
        search: What is searched, and how.
        axes: What is chosen in each trial.
        points: What to try at each place.
        views: How many views of each example the teacher answers; 0 where its answers are stored, or each trial asks.
        common: What trials must have in common to be compared.
        where: Where the search is kept.
    """

    guide: Teacher
    student: nn.Module | Callable[[int], nn.Module]
    data: DataSet
    options: Training
    augmentation: Augmentation
    taught: Augmentation
    teacher_view: TeacherView
    device: Device
    search: Search
    axes: tuple[Axis, ...]
    points: Sequence[Values]
    views: int
    common: Mapping[str, Any]
    where: Where

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.where.study or "limbeck"

    @property
    def chooses_rate(self) -> bool:
        """Whether learning rates are searched."""
        return not next(axis for axis in self.axes if axis.name == "learning_rate").fixed

    @property
    def with_baseline(self) -> bool:
        """Whether the baseline's learning rate is searched with as many trials."""
        return self.search.baseline and self.data.train.labels is not None and self.chooses_rate

    def settings(self) -> dict[str, Any]:
        """The settings saved in ``config.toml``."""
        where = self.where
        kept = {**self.fixed_settings(), **dataclasses.asdict(self.search), "jobs": where.jobs, "ray": where.ray}
        kept["study"] = where.study
        return kept | {"storage": None if where.storage is None else hidden_password(where.storage)}

    def fixed_settings(self) -> dict[str, Any]:
        """The settings that all trials have."""
        kept = {**(self.where.settings or {}), **dataclasses.asdict(self.options)}
        return kept | dataclasses.asdict(self.augmentation) | {"teacher_view": self.teacher_view}

    def bench(self, teacher: Teacher, axes: tuple[Axis, ...]) -> Bench:
        """What trials are run with.

        Args:
            teacher: Whose answers are stored.
            axes: What is chosen in each.

        Returns:
            The bench.
        """
        prune = self.search.prune and not self.search.grid
        return Bench(
            teacher, self.student, self.data, self.augmentation, self.options, axes, prune, self.search.grid,
            self.teacher_view,
        )  # fmt: skip

    def answers(self) -> Teacher:
        """The teacher's answers to all that training will show; itself where layers of it are read."""
        if not self.guide.live or self.views == 0:
            return self.guide
        temperature = next(axis for axis in self.axes if axis.name == "temperature").values[0]
        return answer_views(
            self.guide,
            self.data.train,
            self.taught,
            classes=self.data.classes,
            views=self.views,
            device=self.device,
            temperature=None if self.guide.every_temperature else temperature,
        )


def plan_search(
    teacher: nn.Module | Answering,
    student: nn.Module | Callable[[int], nn.Module],
    data: DataSet,
    search: Search,
    options: Training,
    augmentation: Augmentation | None,
    where: Where,
    teacher_view: TeacherView = "consistent",
) -> SearchPlan:
    """Validate the inputs of a search and make its plan.

    Args:
        teacher: The teacher.
        student: A module, or a function that makes one from a seed.
        data: Training and validation examples.
        search: What is searched, and how.
        options: The settings of all trials.
        augmentation: The augmentation, or None.
        where: Where the search is kept.
        teacher_view: Which view of an example the teacher answers.

    Returns:
        The plan, with the teacher on the device.

    Raises:
        ConfigError: If a setting is out of range, or contradicts another.
        MismatchError: If teacher, student and data do not belong together.
    """  # noqa: DOC502
    made = starts(student, [options.seed], role="student")[0]
    data = data.seen_by(made)
    if data.validation is None or data.validation.labels is None:
        raise ConfigError("a search chooses on labelled validation examples, and there are none: set some aside")
    options, device = Execution(out=where.out, resume=where.resume).settle(options)
    views = data.train.drawn(augmentation)
    guide = teacher_for(teacher, data)
    taught = views.for_teacher(teacher_view)
    guide = guide.to(device.device).bind(data.train, taught)
    verify_stores(guide, None)
    check_answers("student", made, data)
    _warn_of_data_and_teacher(guide, made, data, device)
    axes = search.axes(
        learning_rate=options.peak_learning_rate,
        epochs=options.epochs,
        only_temperature=getattr(guide, "temperature", None),
        labelled=data.train.labels is not None,
        least_weight=_LEAST_WEIGHT if features_alone(search) else 0.0,
        options=option_axes(search),
    )
    _check_axes(guide, len(data.classes), options, axes)
    demand = 0 if reads_features(search) else _demand(guide, data, taught, axes)
    hottest = max(next(axis for axis in axes if axis.name == "temperature").values)
    tell_odd_teacher(guide, data.train, taught, float(hottest), device, None, classes=data.classes)
    return SearchPlan(
        guide=guide, student=student, data=data, options=options, augmentation=views, taught=taught,
        teacher_view=teacher_view, device=device, search=search,
        axes=axes, points=combinations(axes) if search.grid else [{} for _ in range(search.trials or _TRIALS)],
        views=demand, common=_common(guide, made, data, views, options, search, axes, teacher_view), where=where,
    )  # fmt: skip


def _warn_of_data_and_teacher(guide: Teacher, student: nn.Module, data: DataSet, device: Device) -> None:
    """Warn of suspicious teachers, students and data."""
    tell_probabilities("teacher", guide, data.train, device, None)
    tell_probabilities("student", student, data.train, None, None)
    tell_contradictions(data.train, None)
    tell_shared_examples(data, ["validation"], None)


def _check_axes(guide: Teacher, classes: int, options: Training, axes: tuple[Axis, ...]) -> None:
    """Refuse values that no trial could have; here, and not in the trial that is the first to have them."""
    for values in combinations(axes):
        temperature = values.get("temperature", 1.0)
        method = make_method(values["method"], option_texts(values), temperature=temperature, classes=classes)
        if values["hard_weight"] == 0 and not method.reads_logits:
            raise ConfigError(
                f"method {method.name} learns layers alone, and hard_weights hold 0, at which nothing would train what "
                "makes logits of them: give weights above 0"
            )
        Distillation(method=values["method"], temperature=temperature, method_options=option_texts(values))
        method.require(classes)
        method.require_epochs(int(values["epochs"]))
        require_teacher(guide, method)
        dataclasses.replace(options, learning_rate=values["learning_rate"], epochs=int(values["epochs"]))


def _common(
    guide: Teacher,
    student: nn.Module,
    data: DataSet,
    augmentation: Augmentation,
    options: Training,
    search: Search,
    axes: Sequence[Axis],
    teacher_view: TeacherView,
) -> dict[str, Any]:
    """What trials must have in common to be compared, as plain values; the test set is not included."""
    assert data.validation is not None
    free = {"device", "side_by_side", "learning_rate", "epochs"}
    fixed = {name: value for name, value in dataclasses.asdict(options).items() if name not in free}
    return {
        **fixed,
        **dataclasses.asdict(augmentation),
        **({} if teacher_view == "consistent" else {"teacher_view": teacher_view}),
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


def check_search(search: Search, options: Training) -> None:
    """Refuse settings that say twice what is searched.

    Args:
        search: What is searched.
        options: The settings of all trials.

    Raises:
        ConfigError: If they do.
    """
    if options.own_optimizer:
        raise ConfigError(
            f"a search is for learning rates, and optimizer {options.optimizer} sets its own: use sgd or adamw"
        )
    if search.learning_rates is not None and options.learning_rate is not None:
        raise ConfigError("learning_rate and learning_rates contradict each other: give one of them")
    if search.epoch_counts is not None and options.epochs != Training().epochs:
        raise ConfigError("epochs and epoch_counts contradict each other: give one of them")
