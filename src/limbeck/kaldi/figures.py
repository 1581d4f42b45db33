"""Figures of speech: a spectrogram, and below it the models' posteriors.

Axes: ``N`` frames, ``D`` features, ``P`` phones.
"""

__all__ = ["draw_heard", "draw_posteriors", "explain_heard", "shown_phones"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbeck.report.contents import Contents
from limbeck.report.figures_style import clean, figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTICED = 0.5
"""A phone that no alignment has is shown where a model gives it this much of a frame."""
_MOST = 28


def shown_phones(posteriors: Sequence[NDArray[np.float32]], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Phones to show, in the order of their first frame.

    Args:
        posteriors: Of each model, ``(N, P)``.
        truth: The right phone of each frame, ``(N,)``.

    Returns:
        Indices of phones: those of the alignment, then those with a high posterior.

    Example:
        >>> shown_phones([np.array([[0.1, 0.2, 0.7], [0.9, 0.1, 0.0]], np.float32)], np.array([1, 1]))
        array([1, 0, 2])
    """
    said = list(dict.fromkeys(truth.tolist()))
    heights = np.max([values.max(0) for values in posteriors], 0)
    others = [phone for phone in np.argsort(-heights, kind="stable").tolist() if phone not in said]
    return np.array((said + [phone for phone in others if heights[phone] > _NOTICED])[:_MOST], np.int64)


def draw_posteriors(
    features: NDArray[np.float32],
    posteriors: Mapping[str, NDArray[np.float32]],
    truth: NDArray[np.int64],
    phones: Sequence[str],
    *,
    frame_shift: float,
) -> "Figure":
    """A spectrogram over time, and below it each model's posteriors of phones, with the right phone as a line.

    Args:
        features: Filterbanks ``(N, D)``.
        posteriors: By model, ``(N, P)``.
        truth: The right phone of each frame, ``(N,)``.
        phones: Names of the phones, ``P`` of them.
        frame_shift: Seconds from one frame to the next.

    Returns:
        The figure.
    """
    from matplotlib.colors import PowerNorm

    rows = shown_phones(list(posteriors.values()), truth)
    length = len(features) * frame_shift
    place = {phone: line for line, phone in enumerate(rows.tolist())}
    path = np.array([place.get(phone, np.nan) for phone in truth.tolist()], float)
    times = (np.arange(len(truth)) + 0.5) * frame_shift
    with styled():
        drawing = figure(10.0, 2.2 + (0.8 + 0.125 * len(rows)) * len(posteriors))
        heights = [1.6, *([0.6 + 0.125 * len(rows)] * len(posteriors))]
        grid = drawing.add_gridspec(1 + len(posteriors), 2, height_ratios=heights, width_ratios=[60, 1])
        top = drawing.add_subplot(grid[0, 0])
        shown = top.imshow(
            features.T, origin="lower", aspect="auto", cmap="magma", extent=(0, length, -0.5, features.shape[1] - 0.5)
        )
        top.set_ylabel("mel channel")
        top.tick_params(labelbottom=False)
        top.set_title("spectrogram (normalised log energies)", loc="left", fontsize=9)
        drawing.colorbar(shown, cax=drawing.add_subplot(grid[0, 1]))
        for number, (name, values) in enumerate(posteriors.items(), 1):
            axes = drawing.add_subplot(grid[number, 0], sharex=top)
            shown = axes.imshow(
                values[:, rows].T,
                aspect="auto",
                cmap="Blues",
                norm=PowerNorm(0.6, 0, 1),
                interpolation="nearest",
                extent=(0, length, len(rows) - 0.5, -0.5),
            )
            axes.plot(times, path, color="#d55e00", linewidth=0.9, drawstyle="steps-mid")
            axes.set_yticks(range(len(rows)), [clean(phones[phone], 8) for phone in rows], fontsize=6)
            axes.set_title(clean(name, 80) + (" (line: the alignment)" if number == 1 else ""), loc="left", fontsize=9)
            axes.label_outer()
            if number == len(posteriors):
                axes.set_xlabel("seconds")
            drawing.colorbar(shown, cax=drawing.add_subplot(grid[number, 1]))
    return drawing


def draw_heard(contents: Contents) -> "Figure | None":
    """The spectrogram of an utterance of a run's test set with its models' posteriors, where there is one."""
    heard = contents.heard
    if heard is None or not heard.posteriors:
        return None
    return draw_posteriors(heard.features, heard.posteriors, heard.truth, heard.phones, frame_shift=heard.frame_shift)


def explain_heard(contents: Contents) -> str:
    """The caption of the spectrogram."""
    assert contents.heard is not None, "explained where it was drawn"
    return (
        f"The utterance {clean(contents.heard.key, 60)}: its features after normalisation, and below them each model's "
        f"phone posteriors per frame, summed over a phone's pdfs. The line is the alignment."
    )
