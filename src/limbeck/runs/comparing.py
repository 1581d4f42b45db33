"""Compare finished runs on one test set, with intervals and adjusted p-values."""

__all__ = ["ComparedRun", "RunComparison", "compare"]

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.data.data_set import DataSet
from limbeck.errors import ArgumentError, ConfigError, DataError, MismatchError, RunError
from limbeck.evaluation.statistics import Interval
from limbeck.evaluation.verdicts import both_needed, in_points, judge_many, scope
from limbeck.options.checks import shown
from limbeck.report import Contents, Model, write_report
from limbeck.runs.finished import FinishedRun
from limbeck.runs.folder import RunFolder
from limbeck.runs.pages import gather, opened_data
from limbeck.system.files import make_folder, read_json


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        name: Name of the run: its folder's.
        title: Description of its network.
        scores: The network's metrics.
        difference: Its error rate minus that of the first run, with a 95 % interval; None for the first itself.
        p_value: Of that difference, with Holm's correction for the number of runs compared with the first.
        shown: Whether fewer errors ("fewer"), more ("more"), or neither ("") is shown.
    """

    name: str
    title: str
    scores: Mapping[str, Any]
    difference: Interval | None = None
    p_value: float | None = None
    shown: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return found | {"difference": None if self.difference is None else self.difference.to_dict()}


@dataclass(frozen=True, eq=False)
class RunComparison:
    """The comparison of finished runs.

    Attributes:
        runs: The runs, in the given order.
        judged_on: Which examples they were evaluated on, "test" or "validation".
        sentences: The conclusion for each run against the first.
        page: The report of the comparison, or None where none was written.
        warnings: What was odd about each run, after its name.
    """

    runs: tuple[ComparedRun, ...]
    judged_on: str
    sentences: tuple[str, ...]
    page: Path | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([*self.sentences, *(f"Warning: {each}" for each in self.warnings)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "judged_on": self.judged_on,
            "runs": [run.to_dict() for run in self.runs],
            "sentences": list(self.sentences),
            "warnings": list(self.warnings),
        }


def compare(
    *runs: str | Path | FinishedRun, data: DataSet | None = None, out: str | Path | None = None
) -> RunComparison:
    """Compare the networks of finished runs on the test set that all of them were evaluated on.

    Each run's own network is compared: the student, the trained model, or the last stage of a compression; of several
    seeds the first. The first run is the reference. Nothing is computed again: runs keep their predictions.

    Args:
        *runs: Run folders, or runs that have one; at least two.
        data: Their data set; None for that of the given runs, or to open it again by its name in their settings.
        out: A folder for a report of all of them, with learning curves, sizes and examples on which they differ.

    Returns:
        The comparison.

    Raises:
        ConfigError: If fewer than two runs are given, one twice, or one is not kept in a folder.
        DataError: If the data cannot be opened again, or a run kept no predictions.
        MismatchError: If they were evaluated on different examples.
        RunError: If one is not finished, or ``out`` holds anything but an earlier comparison.
    """  # noqa: DOC502
    paths = _paths(runs)
    if out is not None:
        _require_free(Path(out))
    known = data or _data(runs, paths)
    _same_digests(paths)
    found = [gather(RunFolder(path), data=known) for path in paths]
    names = _names(paths)
    models = [_own(contents, path, name) for contents, path, name in zip(found, paths, names, strict=True)]
    _same_examples(paths, found)
    first, labels = found[0], found[0].truth
    wrong = {model.role: [model.predicted != labels] for model in models}
    reference, *others = names
    groups = known.parts()[first.judged_on].groups()
    verdicts = judge_many(
        {name: wrong[name] for name in others},
        wrong[reference],
        groups=None if groups is None else groups.cpu().numpy(),
        judged_on=first.judged_on,
    )
    rows = [ComparedRun(reference, models[0].title, models[0].scores)]
    for model in models[1:]:
        verdict = verdicts[model.role]
        shown = "" if verdict.helped is None else "fewer" if verdict.helped else "more"
        rows.append(ComparedRun(model.role, model.title, model.scores, verdict.difference, verdict.p_value, shown))
    told = tuple(_sentence(row, rows[0], len(others), first.judged_on) for row in rows[1:])
    several = [name for name, contents in zip(names, found, strict=True) if contents.seeds]
    if several:
        told = (*told, f"Of {' and '.join(several)} the network of the first seed is compared, and no other.")
    told = (*told, scope(1, grouped=groups is not None))
    warned = tuple(f"{name}: {each}" for name, one in zip(names, found, strict=True) for each in one.warned)
    page = None if out is None else _page(dataclasses.replace(first, warned=warned), models, told, Path(out))
    return RunComparison(tuple(rows), first.judged_on, told, page, warned)


def _paths(runs: Sequence[str | Path | FinishedRun]) -> list[Path]:
    if len(runs) == 1 and isinstance(runs[0], list | tuple):
        raise ConfigError("compare takes runs one by one, and was given a list: compare(*runs)")
    if len(runs) < 2:
        raise ConfigError(f"a comparison needs at least two runs, and {len(runs)} was given")
    paths = []
    for run in runs:
        if not isinstance(run, str | Path) and not hasattr(run, "folder"):
            raise ArgumentError(f"runs must be folders of runs, or runs, and one is {shown(run)}")
        path = run if isinstance(run, str | Path) else run.folder
        if path is None:
            raise ConfigError("a run that is compared must be kept in a folder: give it out= when it is made")
        paths.append(Path(path))
    resolved = [path.resolve() for path in paths]
    for path, place in zip(paths, resolved, strict=True):
        if resolved.count(place) > 1:
            raise ConfigError(f"{path} was given twice")
    return paths


def _require_free(out: Path) -> None:
    """Refuse a folder with files that are not the report of an earlier comparison."""
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file: give a folder")
    held = {path.name for path in out.iterdir() if not path.name.startswith(".")} if out.exists() else set()
    if held and not ("report.html" in held and held <= {"report.html", "figures"}):
        raise RunError(f"{out} is not empty, and holds no comparison of runs: choose another out (--out)")


def _data(runs: Sequence[str | Path | FinishedRun], paths: Sequence[Path]) -> DataSet:
    """The data set of the first run that has it in memory, or else of the first whose settings name it."""
    for run in runs:
        held: DataSet | None = getattr(run, "data", None)
        if held is not None:
            return held
    return opened_data(
        next((folder for folder in map(RunFolder, paths) if "data" in folder.config()), RunFolder(paths[0]))
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """A short unique name for each path: as many trailing folders as needed."""
    for depth in range(1, 1 + max(len(path.resolve().parts) for path in paths)):
        names = ["/".join(path.resolve().parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("different paths have different names")


def _own(contents: Contents, path: Path, name: str) -> Model:
    """The run's own network, under the run's name."""
    model = contents.models[-1]
    if model.log_probs is None:
        why = "; ".join(contents.notes) or "they were too many to keep, or there were no labels"
        raise DataError(f"{path} has no predictions to compare ({why})")
    return dataclasses.replace(model, role=name)


def _same_examples(paths: Sequence[Path], found: Sequence[Contents]) -> None:
    """Refuse runs that were evaluated on different examples, by their digests and labels."""
    first, part = found[0], found[0].judged_on
    for path, contents in zip(paths[1:], found[1:], strict=True):
        if (
            contents.judged_on != part
            or contents.classes != first.classes
            or not np.array_equal(contents.truth, first.truth)
        ):
            raise MismatchError(
                f"{path} was evaluated on different examples than {paths[0]}: only runs with one test set and the same "
                "classes can be compared"
            )


def _same_digests(paths: Sequence[Path]) -> None:
    """Refuse runs whose test sets differ, by their digests; runs without digests are checked later."""
    for path in paths[1:]:
        for part in ("test", "validation"):
            digests = [_digest(one, part) for one in (paths[0], path)]
            if None in digests:
                continue
            if digests[0] != digests[1]:
                raise MismatchError(
                    f"{path} was evaluated on different examples than {paths[0]}: their {part} sets differ, and only "
                    f"runs with one test set can be compared"
                )
            break  # validation counts only where there is no test set


def _digest(path: Path, part: str) -> Any:
    file = path / "identity.json"
    if not file.is_file():
        return None
    kept = read_json(file)
    if not isinstance(kept, dict):
        raise RunError(f"{file} is not a JSON object: restore it from a copy")
    return kept.get(part)


def _sentence(row: ComparedRun, first: ComparedRun, count: int, judged_on: str) -> str:
    assert row.difference is not None and row.p_value is not None, "it was compared"
    errors = [one.scores["test_errors"] for one in (row, first)]
    adjusted = f", adjusted for {count} comparisons" if count > 1 else ""
    said = {
        "fewer": f"{row.name} makes fewer errors than {first.name}",
        "more": f"{row.name} makes more errors than {first.name}",
        "": f"No difference between {row.name} and {first.name} can be shown",
    }[row.shown]
    return (
        f"{said}: {errors[0]} {judged_on} errors against {errors[1]} (95 % interval of the difference: "
        f"{in_points(row.difference)}; p = {row.p_value:.2g}{adjusted})."
        f"{'' if row.shown else both_needed(row.difference)}"
    )


def _page(first: Contents, models: Sequence[Model], told: Sequence[str], out: Path) -> Path:
    contents = dataclasses.replace(
        first,
        title=" / ".join(model.role for model in models),
        models=tuple(models),
        verdict={"sentence": " ".join(told), "helped": None},
        margin=None,
        seeds=(),
        config={},
        temperature=None,
        hard_weight=None,
        way=(),
        spectra=(),
        heard=None,
    )
    return write_report(contents, make_folder(out) / "report.html")
