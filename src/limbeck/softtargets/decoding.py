r"""Rows of a store as log-probabilities on a device: what training uses at every step.

The float64 versions in the encodings say what is meant; these are as quick as a look-up should be.

Axes: ``N`` rows, ``K`` classes, ``L`` rungs, ``n`` draws; ``T`` is the temperature.
"""

__all__ = ["decoded", "profile_tensors", "share_tail"]

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import MismatchError
from limbeck.losses import softened
from limbeck.softtargets.encodings import Encoding
from limbeck.softtargets.sampled import Sampled
from limbeck.softtargets.tail import DEEPEST, mean_weights
from limbeck.softtargets.topk import NODES, TopK, tail_weights


def profile_tensors(encoding: Encoding, device: torch.device) -> tuple[Tensor, Tensor | None] | None:
    """The profile of a top-k encoding on a device; None where there is none."""
    profile = encoding.profile if isinstance(encoding, TopK) else None
    if profile is None:
        return None
    covariance = None if profile.covariance is None else torch.from_numpy(profile.covariance).to(device)
    return torch.from_numpy(profile.means).to(device), covariance


def decoded(
    fields: Mapping[str, Tensor],
    encoding: Encoding,
    classes: int,
    temperature: float,
    profile: tuple[Tensor, Tensor | None] | None = None,
) -> Tensor:
    """Log-probabilities out of the fields of some rows.

    Args:
        fields: As the encoding lays them out, ``(N, width)`` each, ids as int32 or int64.
        encoding: Which.
        classes: K.
        temperature: T; 1 where the targets hold for one temperature alone.
        profile: That of a top-k encoding, from :func:`profile_tensors`.

    Returns:
        Natural logarithms, float32 ``(N, K)``.

    Raises:
        MismatchError: If the encoding cannot serve the temperature.
    """
    if isinstance(encoding, TopK):
        return share_tail(
            fields["ids"].long(),
            fields["gaps"].float() if encoding.k > 1 else None,
            fields["tail"].float(),
            encoding,
            classes,
            temperature,
            profile,
        )
    if isinstance(encoding, Sampled):
        if temperature != 1:
            raise MismatchError("sampled soft targets serve the temperature that they were drawn at, and no other")
        ids = fields["ids"].long()
        if "log_weights" in fields:
            each = fields["log_weights"].exp()
        else:
            each = torch.full(ids.shape, 1 / encoding.draws, device=ids.device)
        return torch.zeros(len(ids), classes, device=ids.device).scatter_add_(1, ids, each).log_()
    return softened(fields["scores"].float(), temperature)


def share_tail(
    ids: Tensor,
    gaps: Tensor | None,
    tail: Tensor,
    codec: TopK,
    classes: int,
    temperature: float,
    profile: tuple[Tensor, Tensor | None] | None = None,
) -> Tensor:
    r"""Full log-probabilities out of top-k rows, the tail's mass shared out by the store's profile.

    .. math::
        p_j = \frac{\exp(d_j / T)}{Z} \text{ in the head}, \quad
        p_j = \frac{\exp g(T)}{Z} \frac{\exp(\hat c_j / T)}{\sum_{\text{tail}} \exp(\hat c_i / T)} \text{ in the tail},
        \quad Z = \sum_{\text{head}} \exp(d_j / T) + \exp g(T)

    with the expected scores of :mod:`limbeck.softtargets.tail`.

    Args:
        ids: The head's classes, likeliest first, int64 ``(N, k)``.
        gaps: Scores of all but the first below the first, ``(N, k - 1)``; None where k is 1.
        tail: The tail's log mass relative to the likeliest class, at each rung, ``(N, L)``.
        codec: Its ladder is that of the rungs.
        classes: K.
        temperature: T, from the first rung up.
        profile: Means and covariance, float32 on the rows' device; None shares out evenly.

    Returns:
        Natural logarithms, float32 ``(N, K)``.

    Example:
        >>> tail = torch.tensor([[0.3 / 0.7]]).log()
        >>> share_tail(torch.tensor([[0]]), None, tail, TopK(1, (1.0,)), classes=3, temperature=1.0).exp()
        tensor([[0.7000, 0.1500, 0.1500]])
        >>> means = torch.tensor([[0.0, 0.0, math.log(2)]])
        >>> share_tail(torch.tensor([[0]]), None, tail, TopK(1, (1.0,)), 3, 1.0, (means - means.mean(), None)).exp()
        tensor([[0.7000, 0.1000, 0.2000]])
    """
    left = math.log(classes - codec.k)
    mass = _mixed(tail, *tail_weights(codec.ladder, temperature), left)
    head = torch.zeros(ids.shape, device=tail.device)
    if gaps is not None:
        head[:, 1:] = gaps
    full = torch.zeros(len(ids), classes, device=tail.device)
    if profile is not None:
        known = head.clamp_min(DEEPEST)
        mean = _mixed(tail, *mean_weights(codec.ladder, NODES), left) * (classes - codec.k)
        full = _expected(ids, known - (mean + known.sum(1, keepdim=True)) / classes, *profile) / temperature
    full.scatter_(1, ids, -math.inf)
    full = full + (mass - full.logsumexp(1, keepdim=True))
    return torch.log_softmax(full.scatter_(1, ids, head / temperature), 1)


def _mixed(tail: Tensor, weights: NDArray[np.float64], last: float, left: float) -> Tensor:
    """Rungs weighed and added up, ``(N, 1)``."""
    # No matrix product, here and below: under autocast it would be rounded to bf16.
    return (tail * torch.as_tensor(weights, dtype=torch.float32, device=tail.device)).sum(1, keepdim=True) + last * left


def _expected(ids: Tensor, centred: Tensor, means: Tensor, covariance: Tensor | None) -> Tensor:
    """Scores of all classes given the head's: :meth:`TailProfile.expected` in float32."""
    found = means[ids[:, 0]] if len(means) > 1 else means.expand(len(ids), -1)
    if covariance is not None:
        between = covariance[ids]
        within = between.gather(2, ids.unsqueeze(1).expand(-1, ids.shape[1], -1))
        shares = torch.linalg.solve(within, centred - found.gather(1, ids))
        found = found + (shares.unsqueeze(2) * between).sum(1)
    return torch.minimum(found, centred[:, -1:])
