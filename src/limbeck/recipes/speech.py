"""The paper's speech experiments on a Kaldi system: an ensemble in one small acoustic model, and 3 % of the data.

Section 3 of the paper distilled ten acoustic models into one; section 6 trained on 3 % of the data with soft targets.
Here both are done with whatever Kaldi directories are given.
"""

__all__ = ["Row", "Speech", "quick", "speech", "to_markdown"]

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.data import open_data
from limbeck.data.examples import DataSet
from limbeck.data.speech.opening import with_context
from limbeck.data.splits import subset
from limbeck.devices import find_device
from limbeck.options import DataOptions, ModelOptions, Training
from limbeck.runs import distill, train
from limbeck.runs.folder import RunFolder
from limbeck.runs.inputs import load_teacher, model_maker
from limbeck.softtargets import SoftTargets
from limbeck.watcher import Watcher


@dataclass(frozen=True)
class Speech:
    """The settings of the experiments.

    Attributes:
        data: Training, validation and test directories, with the student's context.
        teacher: The large network, of which there are several.
        teacher_context: Frames it sees on each side; wider than the student's.
        members: How many.
        teacher_training: Their training.
        student: The small network, about a sixth the size.
        student_training: The training of all students and their baselines.
        temperature: T of the soft targets with all data.
        hard_weight: Weight of the true labels with all data.
        seeds: Students of each kind.
        share: Share of the training data in the experiment of section 6.
        share_training: The trainings on that share.
        share_temperature: T there.
        top: Classes that the store keeps of each answer.
    """

    data: DataOptions
    teacher: ModelOptions = ModelOptions(hidden=(512, 512, 512))
    teacher_context: int = 7
    members: int = 3
    teacher_training: Training = Training(epochs=3, batch_size=1024)
    student: ModelOptions = ModelOptions(hidden=(128, 128))
    student_training: Training = Training(epochs=4, batch_size=1024)
    temperature: float = 1.0
    hard_weight: float = 0.5
    seeds: int = 1
    share: float = 0.03
    share_training: Training = Training(epochs=60, batch_size=512)
    share_temperature: float = 2.0
    top: int = 30


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What was trained, and on what.
        parameters: How many numbers it has.
        accuracy: Frame accuracy on the test set; the mean over seeds where there are several.
        nll: Frame cross-entropy on the test set, nats, of the first seed.
        accuracies: The accuracy of each seed or member.
    """

    name: str
    parameters: int
    accuracy: float
    nll: float
    accuracies: tuple[float, ...] = ()


def quick(data: DataOptions) -> Speech:
    """Settings that run in seconds on a small part of a corpus: they show that all of it works, and nothing else."""
    few = Training(epochs=2, batch_size=256, precision="float32")
    return Speech(
        data,
        teacher=ModelOptions(hidden=(64,)),
        teacher_context=3,
        members=2,
        teacher_training=few,
        student=ModelOptions(hidden=(16,)),
        student_training=few,
        share=0.2,
        share_training=few,
    )


def speech(
    out: Path, settings: Speech, *, resume: bool = False, watch: Callable[[str], Watcher] | None = None
) -> list[Row]:
    """Train teachers, distil students with all data and with little, and compare.

    Args:
        out: Folder for the runs and the store of soft targets.
        settings: The data, sizes, epochs and the rest.
        resume: Continue what the folder holds.
        watch: Makes who hears how the part of a name goes.

    Returns:
        The lines of the table.
    """
    wide = dataclasses.replace(settings.data, left=settings.teacher_context, right=settings.teacher_context)
    teachers = out / "teachers"
    broad = open_data(wide)
    metrics = _finished(teachers, resume=resume)
    if metrics is None:
        metrics = train(
            model_maker(settings.teacher, broad),
            broad,
            members=settings.members,
            mean="geometric",
            out=teachers,
            resume=resume,
            settings={**_plain(wide), **_plain(settings.teacher)},
            watcher=_watcher(watch, "teachers"),
            **_plain(settings.teacher_training),
        ).metrics
    # The same frames with other neighbours: nothing is read a second time.
    data = with_context(broad, settings.data)
    targets = _targets(out / "targets", teachers, data, settings)
    small = model_maker(settings.student, data)
    students = _distil(
        out / "student", targets, small, data, settings.student_training, settings, resume=resume, watch=watch
    )
    large = _distil(
        out / "same-size",
        targets,
        model_maker(settings.teacher, broad),
        broad,
        settings.teacher_training,
        dataclasses.replace(settings, seeds=1),
        resume=resume,
        watch=watch,
        baseline=False,
    )
    part = subset(data, settings.share)
    guide = load_teacher([teachers], data=part)
    little = dataclasses.replace(
        settings, temperature=settings.share_temperature, hard_weight=0.0, student=settings.student
    )
    scarce = _distil(out / "share", guide, small, part, settings.share_training, little, resume=resume, watch=watch)
    percent = f"{settings.share:.0%} of the training data"
    members = metrics.get("members", [metrics["model"]])
    return [
        _row("one teacher, labels", metrics["model"]["parameters"] // settings.members, members),
        _row(f"{settings.members} teachers, geometric mean", metrics["model"]["parameters"], [metrics["model"]]),
        _row("one network of the teacher's size, distilled", large["student"]["parameters"], [large["student"]]),
        *_pair(students, ""),
        *_pair(scarce, f", {percent}"),
    ]


def to_markdown(rows: Sequence[Row], settings: Speech, *, seconds: float | None = None) -> str:
    """The table as a page.

    Args:
        rows: From :func:`speech`.
        settings: What they were made with.
        seconds: How long it took, if all of it was done now.

    Returns:
        Markdown.
    """
    lines = [
        f"# Speech: {Path(settings.data.data).parent.name}",
        "",
        f"{settings.members} teachers {_sizes(settings.teacher)} with {settings.teacher_context} frames of context on "
        f"each side, {settings.teacher_training.epochs} epochs; students {_sizes(settings.student)}, "
        f"{settings.student_training.epochs} epochs; T = {settings.temperature:g}, weight of the labels "
        f"{settings.hard_weight:g}. On {settings.share:.0%} of the data: {settings.share_training.epochs} epochs, "
        f"T = {settings.share_temperature:g}, soft targets alone. Test frames chose nothing.",
        "",
        "| model | parameters | frame accuracy | frame cross-entropy | each |",
        "|---|---:|---:|---:|---|",
    ]
    for row in rows:
        each = ", ".join(f"{100 * value:.2f}" for value in row.accuracies)
        lines.append(f"| {row.name} | {row.parameters:,} | {100 * row.accuracy:.2f} % | {row.nll:.3f} | {each} |")
    by_name = {row.name: row.accuracy for row in rows}
    one, several, same = (rows[place].accuracy for place in range(3))
    lines += [
        "",
        f"The ensemble is {100 * (several - one):.2f} points above its members' mean, and the distilled network of the "
        f"same size {100 * (same - one):.2f}: {_share(same - one, several - one)} of the gain (the paper: more than "
        "80 %).",
        "",
    ]
    labels = next(name for name in by_name if name.startswith("student, labels,"))
    soft = next(name for name in by_name if name.startswith("student, soft targets,"))
    whole = by_name["student, labels"]
    lines += [
        f"With {settings.share:.0%} of the data soft targets close "
        f"{_share(by_name[soft] - by_name[labels], whole - by_name[labels])} of the gap between labels alone on that "
        "share and labels on all data.",
    ]
    if seconds is not None:
        lines += ["", f"It took {seconds / 60:.0f} minutes."]
    return "\n".join(lines) + "\n"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole > 0 else "no share"


def _sizes(model: ModelOptions) -> str:
    return "-".join(map(str, model.hidden or ()))


def _pair(metrics: Mapping[str, Any], suffix: str) -> list[Row]:
    """The student on labels alone, and distilled."""
    found = []
    for role, name in (("baseline", "student, labels"), ("student", "student, soft targets")):
        each = tuple(seed[f"{role}_accuracy"] for seed in metrics["seeds"])
        mean = sum(each) / len(each)
        found.append(Row(name + suffix, metrics[role]["parameters"], mean, metrics[role]["nll"], each))
    return found


def _row(name: str, parameters: int, scores: Sequence[Mapping[str, Any]]) -> Row:
    each = tuple(score["accuracy"] for score in scores)
    nll = sum(score["nll"] for score in scores) / len(scores)
    return Row(name, parameters, sum(each) / len(each), nll, each if len(each) > 1 else ())


def _targets(folder: Path, teachers: Path, data: DataSet, settings: Speech) -> SoftTargets:
    """The ensemble's answers, written once; a write that was stopped goes on, and a finished one is kept."""
    guide = load_teacher([teachers], data=data)
    place = find_device(settings.student_training.device, settings.student_training.precision)
    SoftTargets.write(
        folder,
        guide,
        data.train,
        classes=data.classes,
        encoding="topk",
        k=min(settings.top, len(data.classes) - 1),
        device=place,
    )
    return SoftTargets.open(folder, examples=data.train)


def _distil(
    out: Path,
    guide: Any,
    student: Any,
    data: DataSet,
    training: Training,
    settings: Speech,
    *,
    resume: bool,
    watch: Callable[[str], Watcher] | None,
    baseline: bool = True,
) -> dict[str, Any]:
    done = _finished(out, resume=resume)
    if done is not None:
        return done
    return distill(
        guide,
        student,
        data,
        temperature=settings.temperature,
        hard_weight=settings.hard_weight,
        baseline=baseline,
        seeds=settings.seeds,
        out=out,
        resume=resume,
        settings=_plain(settings.data),
        watcher=_watcher(watch, out.name),
        **_plain(training),
    ).metrics


def _finished(folder: Path, *, resume: bool) -> dict[str, Any] | None:
    return RunFolder(folder).metrics() if resume and (folder / "metrics.json").exists() else None


def _watcher(watch: Callable[[str], Watcher] | None, name: str) -> Watcher | None:
    return None if watch is None else watch(name)


def _plain(options: Any) -> dict[str, Any]:
    return dataclasses.asdict(options)
