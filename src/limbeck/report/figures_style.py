"""The style of all figures: one colour per role, one typeface, and reproducible SVG.

matplotlib is imported where it is used, and its global state is restored.
"""

__all__ = ["INK", "MUTED", "clean", "colour", "figure", "legend", "number", "styled", "svg", "tidy"]

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
MUTED = "#6b7580"
_GRID = "#e3e7ec"

# Okabe and Ito's palette, which stays apart for the colour-blind; the baseline is the grey to compare with.
_ROLES = {"teacher": "#0072b2", "student": "#d55e00", "baseline": "#7f8790"}
_OTHERS = ("#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#6a3d9a", "#8c510a", "#1b3a6b")

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # class names may hold dollar signs
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "limbeck",
    "svg.fonttype": "path",
}


@contextmanager
def styled() -> Iterator[None]:
    """A context in which matplotlib uses this style, whatever the user's settings.

    Letters that the typeface lacks give no warning.

    Yields:
        Nothing.
    """
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        dict.update(cast("dict[str, Any]", matplotlib.rcParams), _complete_style())
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


@cache
def _complete_style() -> dict[str, Any]:
    """Every setting of matplotlib as this style has it, checked once: that takes 10 ms."""
    import matplotlib

    settings = matplotlib.rcParamsDefault.copy()
    settings.update(_STYLE)
    return {name: value for name, value in settings.items() if name != "backend"}


def figure(width: float, height: float, *, arranged: bool = True) -> "Figure":
    """A new figure outside pyplot's global state.

    Args:
        width: Inches.
        height: Inches.
        arranged: Whether to use constrained layout; else the axes stay where they are put.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width, height))
    drawing.set_layout_engine("constrained" if arranged else "none")
    return drawing


def svg(drawing: "Figure") -> str:
    """A figure as SVG text without date, document type or external references.

    Args:
        drawing: The figure.

    Returns:
        SVG that is equal for equal figures. Letters are paths, so that they look the same everywhere; but
        where the typeface lacks a letter, they stay text and the viewer's own typefaces are used.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.text import Text

    texts = {str(text.get_text()) for text in drawing.findobj(Text)}
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with styled(), matplotlib.rc_context({"svg.fonttype": "path" if _drawable(texts) else "none"}):
        # savefig would draw everything twice, first for the layout, which drawing does too. Matplotlib leaves its
        # canvases untyped.
        dots = drawing.dpi
        try:
            FigureCanvasSVG(drawing).print_svg(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
        finally:
            drawing.dpi = dots
    text = re.sub(r"<\?xml.*?\?>\s*|<!DOCTYPE.*?>\s*", "", buffer.getvalue(), count=2, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in harmless(text).split("\n")).rstrip("\n") + "\n"


_HARMFUL = dict.fromkeys(
    (
        *(code for code in range(0x20) if code not in {0x09, 0x0A}), *range(0x7F, 0xA0),  # most are invalid in XML
        0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A),  # bidirectional overrides
        *range(0xD800, 0xE000), 0xFFFE, 0xFFFF,
    ),
    "\N{REPLACEMENT CHARACTER}",
)  # fmt: skip


def harmless(text: str) -> str:
    """Remove characters from markup that are invalid in XML or reorder text.

    Args:
        text: HTML or SVG with escaped names.

    Returns:
        The same with replacement characters.

    Example:
        >>> harmless(f"<p>cat{chr(27)}[2J</p>") == "<p>cat\N{REPLACEMENT CHARACTER}[2J</p>"
        True
    """
    return text.translate(_HARMFUL)


def _drawable(texts: set[str]) -> bool:
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    known = font.get_charmap()
    return all(ord(letter) in known for text in texts for letter in text if letter != "\n")


def colour(role: str, roles: Sequence[str] = ()) -> str:
    """The colour of a role, the same in every figure.

    Args:
        role: Such as "teacher".
        roles: All roles of the report in order: roles without a fixed colour take the others in turn.

    Returns:
        A hexadecimal colour.

    Example:
        >>> colour("teacher"), colour("int8", ["teacher", "int8"])
        ('#0072b2', '#009e73')
    """
    if role in _ROLES:
        return _ROLES[role]
    rest = [name for name in dict.fromkeys(roles) if name not in _ROLES]
    return _OTHERS[rest.index(role) % len(_OTHERS)] if role in rest else _OTHERS[0]


def clean(text: object, longest: int = 60) -> str:
    r"""Text for a figure: on one line, without control characters, shortened.

    Args:
        text: Anything.
        longest: Letters to keep.

    Returns:
        The text; where it was too long, an ellipsis stands for its middle, for names often differ at the end.

    Example:
        >>> clean("one\ntwo"), clean("abcdefgh", 5)
        ('one two', 'ab…gh')
    """
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    tail = (longest - 1) // 2
    return line if len(line) <= longest else line[: longest - 1 - tail] + "…" + line[len(line) - tail :]


def number(value: float) -> str:
    """Format a count compactly.

    Args:
        value: At least 0.

    Returns:
        Three significant figures and a unit of thousands, millions or thousand millions.

    Example:
        >>> [number(n) for n in (950, 1290, 2_395_210, 1e9)]
        ['950', '1.29k', '2.4M', '1G']
    """
    if not math.isfinite(value):
        return "–"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit * 0.9995:
            return f"{float(f'{value / unit:.3g}'):g}{letter}"
    return f"{float(f'{value:.3g}'):g}"


def tidy(axes: "Axes", *, grid: str = "y") -> None:
    """Style axes: light grid lines along one axis, no tick marks.

    Args:
        axes: To change.
        grid: "x", "y" or "both".
    """
    axes.grid(visible=True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=0)


def legend(drawing: "Figure", handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend above all parts of a figure.

    Args:
        drawing: The figure.
        handles: What the lines or bars look like.
        labels: What they are.
    """
    if handles:
        letters_in_a_row = int(13 * drawing.get_figwidth())
        columns = max(1, min(len(labels), letters_in_a_row // (max(map(len, labels)) + 6)))
        drawing.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=1.6)
