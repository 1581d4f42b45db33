r"""Comparison of two models' outputs: differences, and how much of them rounding explains.

Rounding is measured on the original: how far its outputs in float32 are from those in float64. A changed prediction
where the original's two top classes are closer than that was a tie.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["Comparison", "compare", "plain_view", "rounding_of"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.data.examples import Examples
from limbeck.data.viewing import Viewing, in_parts
from limbeck.evaluation.blocks import MOST, block_size
from limbeck.exporters.tracing import portable
from limbeck.inputs import Inputs, mapped
from limbeck.models.calling import call_model, presentation_of, require_logits
from limbeck.options import ImagePresentation
from limbeck.protocols import Batch

_ROUNDINGS = 32
"""How many roundings of the largest logit are allowed to any network, also where float64 shows fewer."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The comparison of two models' outputs.

    Attributes:
        rows: Rows of the examples, int64 ``(N,)``.
        labels: True classes ``(N,)``, or None.
        answers: Top-1 class of the original and of the exported model, int64 ``(2, N)``.
        confidence: The probabilities of these, float64 ``(2, N)``.
        true_log_probs: Log-probability of the true class, float64 ``(2, N)``; zeros where there are no labels.
        margin: By how much the original's logit of its own answer is above that of the exported model's, ``(N,)``.
        differences: The largest difference of any logit (of any probability where ``probabilities``), ``(N,)``;
            infinite where an answer is not a number.
        divergence: KL of the exported model's answer from the original's, nats, ``(N,)``.
        scale: The largest absolute logit of the original.
        probabilities: Whether the exported model answers with probabilities.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    answers: NDArray[np.int64]
    confidence: NDArray[np.float64]
    true_log_probs: NDArray[np.float64]
    margin: NDArray[np.float64]
    differences: NDArray[np.float64]
    divergence: NDArray[np.float64]
    scale: float
    probabilities: bool

    @property
    def flips(self) -> NDArray[np.int64]:
        """Places of the examples whose top-1 class differs, those of the largest margin first."""
        places = np.flatnonzero(self.answers[0] != self.answers[1])
        return places[np.argsort(-self.margin[places], kind="stable")]


def plain_view(examples: Examples, model: nn.Module | None) -> ImagePresentation | None:
    """How a model's images are seen without normalisation: their pixels, resized and cropped, on [0, 1].

    Args:
        examples: Images.
        model: Whose own presentation counts first; or None.

    Returns:
        The presentation; None where images in memory are seen as they are.
    """
    seen = (None if model is None else presentation_of(model)) or examples.presentation
    if not isinstance(seen, ImagePresentation):
        return None
    return replace(seen, mean=(0.0,) * seen.channels, std=(1.0,) * seen.channels)


def compare(
    model: nn.Module,
    exported: nn.Module,
    examples: Examples,
    *,
    rows: Tensor,
    pixels: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Run both models on the same examples.

    Args:
        model: The original, in evaluation mode on the CPU.
        exported: The exported one.
        examples: As the original sees them.
        rows: Which of them, int64 ``(N,)``.
        pixels: Whether the exported model takes pixels, uint8 ``(N, C, H, W)``, and answers with probabilities.
        progress: Called with the examples done and all.

    Returns:
        What is kept.
    """
    plain = plain_view(examples, model) if pixels else None
    viewing = Viewing(examples, presentations=[plain])
    found: list[dict[str, Any]] = []
    done = 0
    for batch in viewing.batches(rows, in_parts(len(rows), _block(model, examples, rows, viewing))):
        with torch.no_grad():
            logits = call_model(model, batch.inputs)
            require_logits(logits, len(batch.index))
            answered = call_model(exported, pixels_of(batch, plain) if pixels else batch.inputs)
            found.append(_kept(logits.double(), answered.double(), batch.labels, probabilities=pixels))
        done += len(batch.index)
        if progress is not None:
            progress(done, len(rows))
    labels = None if examples.labels is None else examples.labels[rows].long().cpu().numpy()
    parts = {name: np.concatenate([each[name] for each in found], -1) for name in found[0] if name != "scale"}
    scale = max(each["scale"] for each in found)
    return Comparison(rows.cpu().numpy(), labels, scale=scale, probabilities=pixels, **parts)


def pixels_of(batch: Batch, plain: ImagePresentation | None) -> Inputs:
    """The pixels of some images as bytes, ``(n, C, H, W)``.

    Args:
        batch: The images.
        plain: From :func:`plain_view`.

    Returns:
        uint8.
    """
    return mapped(batch.seen_as(plain), lambda seen: (seen * 255).round().to(torch.uint8))


def _kept(logits: Tensor, answered: Tensor, labels: Tensor | None, *, probabilities: bool) -> dict[str, Any]:
    """Of some examples, what :class:`Comparison` holds."""
    one = logits.log_softmax(-1)
    other = answered.log() if probabilities else answered.log_softmax(-1)
    answers = torch.stack([logits.argmax(-1), answered.nan_to_num(-math.inf).argmax(-1)])
    place = torch.arange(len(logits))
    apart = (one.exp() - answered if probabilities else logits - answered).abs().amax(-1)
    # Where the original has no mass nothing is lost.
    terms = torch.where(one == -math.inf, 0.0, one.exp() * (one - other))
    true = torch.zeros(2, len(logits), dtype=torch.float64)
    if labels is not None:
        true = torch.stack([one[place, labels], other[place, labels]])
    return {
        "answers": answers.numpy(),
        "confidence": torch.stack([one[place, answers[0]].exp(), other[place, answers[1]].exp()]).numpy(),
        "true_log_probs": true.numpy(),
        "margin": (logits[place, answers[0]] - logits[place, answers[1]]).numpy(),
        "differences": apart.nan_to_num(math.inf, posinf=math.inf).numpy(),
        "divergence": terms.sum(-1).clamp_min(0).nan_to_num(math.inf, posinf=math.inf).numpy(),
        "scale": float(logits.abs().max()),
    }


def _block(model: nn.Module, examples: Examples, rows: Tensor, viewing: Viewing) -> int:
    """The batch size, from the memory that the original takes."""
    together = examples.together_at_once
    most = max(1, min(MOST, math.ceil(len(rows) / together)))

    def answer(few: int) -> object:
        largest = examples.largest(few)
        with torch.no_grad():
            return call_model(model, viewing.batch(rows[:few] if largest is None else largest).inputs)

    return max(1, int(block_size(answer, most, torch.device("cpu")) * together))


def rounding_of(model: nn.Module, inputs: Sequence[Inputs], scale: float) -> float:
    """How far a model's logits in its own precision are from those in float64, at most.

    Args:
        model: In evaluation mode on the CPU.
        inputs: Some batches.
        scale: The largest absolute logit.

    Returns:
        At least 32 roundings of the largest logit in float32. A model that cannot be computed in float64 is taken to
        have these.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> 0 < rounding_of(net, [torch.ones(1, 2)], 1.0) < 1e-5
        True
    """
    least = _ROUNDINGS * float(np.finfo(np.float32).eps) * max(scale, 1e-30)
    try:
        double = portable(model).double()
        with torch.no_grad():
            found = [float((call_model(model, each) - call_model(double, each)).abs().max()) for each in inputs]
    except Exception:  # of a model with parts in float32 alone; the original was asked before, and can answer
        return least
    return max([least, *(each for each in found if math.isfinite(each))])
