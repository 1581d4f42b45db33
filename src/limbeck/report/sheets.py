"""Tables of a report beside that of the results.

Classes that lost or gained, the teacher's mistakes that are repeated, and examples on which models differ.
"""

__all__ = ["Sheet", "sheets_of"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.report.contents import Contents, Model
from limbeck.report.figures_errors import differing_groups
from limbeck.report.figures_style import clean

_MOST_ROWS, _MOST_COLUMNS = 6, 8
_MOST_LETTERS = 400
_MOST_PARTS = 20
"""Classes, and groups, whose inherited mistakes are listed."""


@dataclass(frozen=True)
class Sheet:
    """A table with its heading and an explanation.

    Attributes:
        name: Its anchor on the page.
        title: Its heading.
        words: What it shows.
        heading: Names of the columns.
        rows: A text per column.
    """

    name: str
    title: str
    words: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets_of(contents: Contents) -> list[Sheet]:
    """The tables whose data are there.

    Args:
        contents: What the report shows.

    Returns:
        Tables in the order of reading.
    """
    return [*_harm(contents), *_inherited(contents), *_differing(contents)]


def _harm(contents: Contents) -> Iterator[Sheet]:
    """Classes on which the student is shown to err more often, or less often, than its baseline."""
    harm = (contents.verdict or {}).get("harm")
    if not isinstance(harm, Mapping):
        return
    changed = [(outcome, change) for outcome in ("lost", "gained") for change in harm.get(outcome, ())]
    rows = tuple(
        (
            clean(str(change["name"]), 40), "more errors" if outcome == "lost" else "fewer errors",
            f"{change['examples']:,}", f"{change['before']:g}", f"{change['errors']:g}", f"{change['p_value']:.2g}",
        )
        for outcome, change in changed
    )  # fmt: skip
    tested = (
        f"{harm.get('classes', 0):,} classes with examples were tested, and p-values are adjusted for their number. "
    )
    found = (
        "Those on which the student is shown to differ from its baseline:"
        if rows
        else "On none of them is the student shown to make more errors than its baseline, or fewer."
    )
    heading = ("true class", "the student makes", "examples", "errors of the baseline", "of the student", "p")
    yield Sheet("harm", "Class by class", tested + found, heading, rows)


def _inherited(contents: Contents) -> Iterator[Sheet]:
    """The teacher's mistakes that student and baseline repeat, by true class and by named group."""
    inherited = contents.inherited or {}
    counted = (
        f"counts are means over {len(contents.seeds)} seeds"
        if len(contents.seeds) > 1
        else "counts are those of one student"
    )
    words = (
        f"A mistake counts as repeated where the answer is the same wrong one; {counted}. What the student repeats "
        "beyond the baseline it has of its teacher. No row is tested by itself."
    )
    for name, part, plural in (("class", "true class", "classes"), ("group", "group", "groups")):
        found = inherited.get(f"by_{name}") or ()
        every = inherited.get("groups", len(found)) if name == "group" else len(found)
        shown = found[:_MOST_PARTS]
        if not shown:
            continue
        most = (
            f" The {len(shown)} of {every:,} {plural} with most mistakes of the teacher:" if every > len(shown) else ""
        )
        with_baseline = shown[0].get("baseline") is not None
        heading = (part, "examples", "the teacher's mistakes", *(["the baseline repeats"] if with_baseline else []))
        rows = tuple(
            (
                clean(str(row["name"]), 40), _number(row.get("examples")), _number(row["mistakes"]),
                *([_repeated(row["baseline"], row["mistakes"])] if with_baseline else []),
                _repeated(row["student"], row["mistakes"]),
            )
            for row in shown
        )  # fmt: skip
        title = f"The teacher's mistakes, {name} by {name}"
        yield Sheet(f"inherited-{name}", title, words + most, (*heading, "the student repeats"), rows)


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:,}"


def _repeated(count: float, mistakes: int) -> str:
    """A mean count and its share."""
    return f"{count:.4g} ({100 * count / mistakes:.0f}\N{NO-BREAK SPACE}%)"


def _differing(contents: Contents) -> Iterator[Sheet]:
    """Texts, or rows of a table, on which models differ, group by group."""
    if contents.given is None or contents.images is not None:
        return
    for number, (title, chosen) in enumerate(differing_groups(contents)):
        shown = chosen[:_MOST_ROWS]
        found = contents.given(shown) if len(shown) else None
        if found is None:
            continue
        models = contents.answering[:4]
        columns, cells = _cells(found)
        rows = tuple(
            (
                clean(contents.classes[contents.truth[row]], 40),
                *(_answer(contents, model, row) for model in models),
                *cells[place],
            )
            for place, row in enumerate(shown.tolist())
        )
        words = (
            f"{len(chosen):,} of {len(contents.truth):,} {contents.judged_on} examples; the surest answers come first."
        )
        heading = ("true class", *(clean(model.role, 20) for model in models), *columns)
        yield Sheet(f"differing-{number + 1}", title, words, heading, rows)


def _answer(contents: Contents, model: Model, row: int) -> str:
    name = clean(contents.classes[model.predicted[row]], 40)
    return f"{name} ({100 * model.confidence[row]:.0f}\N{NO-BREAK SPACE}%)"


def _cells(given: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of what was given: a text in one column, a table's row in as many as there are, up to some."""
    if not isinstance(given[0], Mapping):
        return ["text"], [[_clipped(str(value))] for value in given]
    names = list(given[0])
    shown = names[:_MOST_COLUMNS]
    left = len(names) - len(shown)
    columns = [clean(str(name), 24) for name in shown] + ([f"{left} more columns"] if left else [])
    rows = [[_value(row[name]) for name in shown] + (["..."] if left else []) for row in given]
    return columns, rows


def _value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else clean(str(value), 60)


def _clipped(text: str) -> str:
    whole = " ".join(text.split())
    return clean(whole if len(whole) <= _MOST_LETTERS else f"{whole[:_MOST_LETTERS]}...", _MOST_LETTERS + 3)
