"""All figures of a report, in the order of reading, and their files."""

__all__ = ["PLATES", "Plate", "draw_all", "save_figures", "write_figures"]

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.report import (
    figures_compression,
    figures_errors,
    figures_pareto,
    figures_size,
    figures_softness,
    figures_training,
)
from limbeck.report.contents import Contents
from limbeck.report.figures_style import svg
from limbeck.system.files import make_folder, replace_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plate:
    """One figure of the report.

    Attributes:
        name: Of the figure and its file.
        title: Its heading.
        draw: Draws it, or returns None where its data are missing.
        explain: Gives the caption.
    """

    name: str
    title: str
    draw: "Callable[[Contents], Figure | None]"
    explain: Callable[[Contents], str]


def _named(place: str) -> Callable[[Contents], Any]:
    """A function of a package above this one, imported when it is called."""
    module, name = place.split(":")

    def call(contents: Contents) -> Any:
        return getattr(import_module(module), name)(contents)

    return call


PLATES = (
    Plate("networks", "Network sizes, to scale", figures_size.draw_networks, figures_size.explain_networks),
    Plate("way", "Accuracy and file size by stage", figures_compression.draw_way, figures_compression.explain_way),
    Plate("pareto", "Size, latency and errors", figures_pareto.draw_pareto, figures_pareto.explain_pareto),
    Plate(
        "spectrum",
        "Singular values",
        figures_compression.draw_spectrum,
        figures_compression.explain_spectrum,
    ),
    Plate("tradeoff", "Errors against size", figures_size.draw_tradeoff, figures_size.explain_tradeoff),
    Plate(
        "learning_curves",
        "Learning",
        figures_training.draw_learning_curves,
        figures_training.explain_learning_curves,
    ),
    Plate(
        "temperature",
        "Softened outputs by temperature",
        figures_softness.draw_temperature,
        figures_softness.explain_temperature,
    ),
    Plate(
        "dark_knowledge",
        "Dark knowledge: class similarities",
        figures_softness.draw_dark_knowledge,
        figures_softness.explain_dark_knowledge,
    ),
    Plate(
        "disagreements",
        "Examples on which the models differ",
        figures_errors.draw_disagreements,
        figures_errors.explain_disagreements,
    ),
    Plate(
        "confusions",
        "Confusion matrices",
        figures_errors.draw_confusions,
        figures_errors.explain_confusions,
    ),
    Plate(
        "posteriors",
        "Spectrogram and phone posteriors",
        _named("limbeck.kaldi.figures:draw_heard"),
        _named("limbeck.kaldi.figures:explain_heard"),
    ),
    Plate("reliability", "Confidence", figures_errors.draw_reliability, figures_errors.explain_reliability),
)


def draw_all(contents: Contents) -> "dict[str, Figure]":
    """Draw every figure whose data are available.

    Args:
        contents: What the report shows.

    Returns:
        Figures by name, in the order of reading.
    """
    drawn = {plate.name: plate.draw(contents) for plate in PLATES}
    return {name: drawing for name, drawing in drawn.items() if drawing is not None}


def save_figures(contents: Contents, folder: Path) -> dict[str, Path]:
    """Draw every figure and save it as SVG.

    Args:
        contents: What the report shows.
        folder: The folder; created if it is missing. Figures of the same names are replaced.

    Returns:
        The files by the figures' names.
    """
    return write_figures({name: svg(drawing) for name, drawing in draw_all(contents).items()}, folder)


def write_figures(figures: dict[str, str], folder: Path) -> dict[str, Path]:
    """Save figures that are SVG text already.

    Args:
        figures: SVG by name.
        folder: The folder; created if it is missing.

    Returns:
        The files by the figures' names.

    Raises:
        RunError: If the folder cannot be made.
    """  # noqa: DOC502
    make_folder(folder)
    files = {name: folder / f"{name}.svg" for name in figures}
    for name, path in files.items():
        replace_text(path, figures[name])
    return files
