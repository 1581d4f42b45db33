"""The console that tables are drawn on; rich is imported with this module, so it is imported where used."""

__all__ = ["print_table"]

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from limbeck.cli.console import clean

_WIDE = 100_000


class _CleanConsole(Console):
    """A console that escapes the control characters of all texts."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean(segment.text), segment.style)


def print_table(table: Table) -> None:
    """Print a table on the output stream: cells are folded where a terminal is narrow, and never for a file or a pipe.

    Args:
        table: The table.
    """
    shown = sys.stdout.isatty()
    console = _CleanConsole(highlight=False, emoji=False, width=None if shown else _WIDE)
    console.print(table, crop=shown)
