"""The report of a study: one page of tables and figures, and the same as Markdown with SVG files."""

__all__ = ["Drawing", "Study", "Table", "write_study"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.report.figures_style import harmless, svg
from limbeck.report.page import embedded
from limbeck.system.files import make_folder, replace_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: What it shows.
        heading: Names of the columns.
        rows: The cells of each row.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure of a study.

    Attributes:
        name: Of its file.
        title: Its heading.
        words: The caption.
        figure: The figure.
    """

    name: str
    title: str
    words: str
    figure: "Figure"


@dataclass(frozen=True, eq=False)
class Study:
    """The contents of the page and the Markdown.

    Attributes:
        name: Of the Markdown file, and first part of the names of the figures' files.
        title: The heading.
        about: The question, in a paragraph.
        answer: The result, in a paragraph.
        command: The command line that made it.
        facts: When, where, how long.
        tables: In the order of reading.
        drawings: In the order of reading.
        remarks: How choices were made, and what is missing; one per paragraph.
    """

    name: str
    title: str
    about: str
    answer: str
    command: str
    facts: tuple[str, ...]
    tables: tuple[Table, ...]
    drawings: tuple[Drawing, ...] = ()
    remarks: tuple[str, ...] = ()


def write_study(study: Study, page: Path, results: Path) -> Path:
    """Write the page, and the Markdown with its figures.

    Args:
        study: What to show.
        page: The HTML file.
        results: Folder for ``NAME.md`` and ``NAME-FIGURE.svg``; made if it is missing.

    Returns:
        The Markdown file.
    """
    drawn = {drawing.name: svg(drawing.figure) for drawing in study.drawings}
    make_folder(results)
    make_folder(page.parent)
    for name, text in drawn.items():
        replace_text(results / f"{study.name}-{name}.svg", text)
    replace_text(page, _html(study, drawn))
    replace_text(results / f"{study.name}.md", markdown(study))
    return results / f"{study.name}.md"


def markdown(study: Study) -> str:
    r"""A study as Markdown; its figures are links to files beside it.

    Args:
        study: What to show.

    Returns:
        The text.

    Example:
        >>> table = Table("Errors", ("what", "ours"), (("a | b", "3"),))
        >>> print(markdown(Study("some", "Some", "Why.", "", "limbeck ...", ("today",), (table,))))
        # Some
        <BLANKLINE>
        Why.
        <BLANKLINE>
        ## Errors
        <BLANKLINE>
        | what | ours |
        |---|---|
        | a \| b | 3 |
        <BLANKLINE>
        ## How it was done
        <BLANKLINE>
        today.
        <BLANKLINE>
        ```
        limbeck ...
        ```
        <BLANKLINE>
    """
    parts = [f"# {study.title}", study.about]
    if study.answer:
        parts.append(f"**{study.answer}**")
    for table in study.tables:
        parts += [f"## {table.title}", "\n".join(_lines(table))]
    for drawing in study.drawings:
        parts += [f"## {drawing.title}", drawing.words, f"![{drawing.title}]({study.name}-{drawing.name}.svg)"]
    parts += ["## How it was done", *study.remarks, "; ".join(study.facts) + ".", f"```\n{study.command}\n```"]
    return "\n\n".join(parts) + "\n"


def _lines(table: Table) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(table.heading), "|" + "---|" * len(table.heading), *map(line, table.rows)]


def _html(study: Study, drawn: dict[str, str]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("limbeck.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plates = [
        embedded(drawn[drawing.name]) | {"name": drawing.name, "title": drawing.title, "words": drawing.words}
        for drawing in study.drawings
    ]
    return harmless(environment.get_template("study.html.j2").render(study=study, plates=plates))
