r"""Decoding of a store's rows to log-probabilities on a device, for every training step.

The float64 versions in the encodings are the reference; these are fast.

Axes: ``N`` rows, ``K`` classes, ``L`` rungs, ``n`` draws; ``T`` is the temperature.
"""

__all__ = ["decoded", "profile_tensors", "share_tail"]

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.errors import MismatchError
from limbeck.losses import softened
from limbeck.softtargets.encodings import Encoding
from limbeck.softtargets.topk import TopK, tail_of, tail_weights


def profile_tensors(encoding: Encoding, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Means and directions of a top-k encoding's profile on a device; None where there is none."""
    top = tail_of(encoding)
    profile = None if top is None else top.profile
    if profile is None:
        return None
    return torch.from_numpy(profile.means).to(device), torch.from_numpy(profile.directions).to(device)


def decoded(
    fields: Mapping[str, Tensor],
    encoding: Encoding,
    classes: int,
    temperature: float,
    profile: tuple[Tensor, Tensor] | None = None,
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
    return _DECODERS[encoding.name](fields, encoding, classes, temperature, profile)


_Profile = tuple[Tensor, Tensor] | None


def _dense(
    fields: Mapping[str, Tensor], encoding: Encoding, classes: int, temperature: float, profile: _Profile
) -> Tensor:
    return softened(fields["scores"].float(), temperature)


def _top(
    fields: Mapping[str, Tensor], encoding: Encoding, classes: int, temperature: float, profile: _Profile
) -> Tensor:
    top = tail_of(encoding)
    assert top is not None, "by its name"
    return share_tail(
        fields["ids"].long(),
        fields["gaps"].float() if top.k > 1 else None,
        fields["tail"].float(),
        fields.get("place"),
        top,
        classes,
        temperature,
        profile,
    )


def _sampled(
    fields: Mapping[str, Tensor], encoding: Encoding, classes: int, temperature: float, profile: _Profile
) -> Tensor:
    if temperature != 1:
        raise MismatchError("sampled soft targets serve the temperature that they were drawn at, and no other")
    ids = fields["ids"].long()
    if "log_weights" in fields:
        each = fields["log_weights"].exp()
    else:
        each = torch.full(ids.shape, 1 / ids.shape[-1], dtype=torch.float32, device=ids.device)
    return torch.zeros(len(ids), classes, dtype=torch.float32, device=ids.device).scatter_add_(1, ids, each).log_()


_DECODERS = {"dense": _dense, "topk": _top, "sampled": _sampled}
"""By the name of the encoding."""


def share_tail(
    ids: Tensor,
    gaps: Tensor | None,
    tail: Tensor,
    place: Tensor | None,
    codec: TopK,
    classes: int,
    temperature: float,
    profile: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    r"""Full log-probabilities out of top-k rows, the tail's mass shared out by the store's profile.

    .. math::
        p_j = \frac{\exp(d_j / T)}{Z} \text{ in the head}, \quad
        p_j = \frac{\exp(\hat d_j / T + r(T))}{Z} \text{ in the tail}

    where r(T) is what the mass known at the rungs has above that of :math:`\hat d`, interpolated
    (:mod:`limbeck.softtargets.topk`).

    Args:
        ids: The head's classes, most probable first, int64 ``(N, k)``.
        gaps: Logits of all but the first minus the first's, ``(N, k - 1)``; None where k is 1.
        tail: The tail's log mass relative to the top-1 class, at each rung, ``(N, L)``.
        place: Steps along the profile's directions, ``(N, q)``; None where it has none.
        codec: Its ladder is that of the rungs.
        classes: K.
        temperature: T, from the first rung up.
        profile: Means and directions, float32 on the rows' device; None shares out evenly.

    Returns:
        Natural logarithms, float32 ``(N, K)``.

    Example:
        >>> tail = torch.tensor([[0.3 / 0.7]]).log()
        >>> share_tail(torch.tensor([[0]]), None, tail, None, TopK(1, (1.0,)), classes=3, temperature=1.0).exp()
        tensor([[0.7000, 0.1500, 0.1500]])
        >>> usual = torch.tensor([[0.0, -2.0, -2.0 + math.log(2)]]), torch.empty(0, 3)
        >>> share_tail(torch.tensor([[0]]), None, tail, None, TopK(1, (1.0,)), 3, 1.0, usual).exp()
        tensor([[0.7000, 0.1000, 0.2000]])
    """
    weights, _ = tail_weights(codec.ladder, temperature)
    head = torch.zeros(ids.shape, dtype=torch.float32, device=tail.device)
    if gaps is not None:
        head[:, 1:] = gaps
    full = torch.zeros(len(ids), classes, dtype=torch.float32, device=tail.device)
    if profile is not None:
        means, directions = profile
        full = means[ids[:, 0]] if len(means) > 1 else means.expand(len(ids), -1).clone()
        if place is not None:
            # Under autocast a product would be rounded to bf16.
            with torch.autocast(tail.device.type, enabled=False):
                full = torch.addmm(full, place.float(), directions)
        full = torch.minimum(full, head[:, -1:])
    full.scatter_(1, ids, -math.inf)
    above = tail.new_zeros(len(ids), 1)
    for number, (rung, weight) in enumerate(zip(codec.ladder, weights.tolist(), strict=True)):
        if weight:
            above += weight * (tail[:, number : number + 1] - (full / rung).logsumexp(1, keepdim=True))
    full = full.div_(temperature).add_(above)
    return torch.log_softmax(full.scatter_(1, ids, head / temperature), 1)
