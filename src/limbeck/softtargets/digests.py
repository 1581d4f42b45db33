"""Digests that identify a teacher: weights and structure, not the file they came from."""

__all__ = ["mean_kind", "network_identity", "teacher_digest", "teacher_fingerprint"]

import hashlib
import json
from typing import Any

import torch
from torch import nn

from limbeck.protocols import Answering


def teacher_digest(teacher: nn.Module | Answering) -> str | None:
    """SHA-256 of a teacher.

    A module's digest covers, part by part, its type, its plain settings (numbers, texts and tuples of such, as a
    convolution's stride) and its weights; whether it is in training mode, and on which device, does not count. An
    ensemble's covers its mean, its weights and its members.

    Args:
        teacher: A module; a teacher that holds one as ``model``; one with ``members``, ``mean`` and ``weights``; or one
            that names its digest as ``teacher_digest``.

    Returns:
        The digest in hexadecimal, or None for a teacher of another kind.

    Example:
        >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> teacher_digest(one) == teacher_digest(one), teacher_digest(one) == teacher_digest(other)
        (True, False)
    """
    if isinstance(teacher, nn.Module):
        return _module_digest(teacher)
    named = getattr(teacher, "teacher_digest", None)
    if isinstance(named, str):
        return named
    model = getattr(teacher, "model", None)
    if isinstance(model, nn.Module):
        return _module_digest(model)
    members = getattr(teacher, "members", None)
    if members:
        parts = [teacher_digest(member) for member in members]
        if None not in parts:
            weights = [float(weight) for weight in getattr(teacher, "weights", ())]
            described = {"mean": getattr(teacher, "mean", None), "weights": weights, "members": parts}
            return hashlib.sha256(json.dumps(described).encode()).hexdigest()
    settings = getattr(teacher, "settings", None)
    if callable(settings):
        networks = [_module_digest(module) for module, _ in teacher.modules()]  # type: ignore[attr-defined]
        described = {"kind": type(teacher).__name__, **settings(), "networks": networks}
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()
    return None


def teacher_fingerprint(teacher: nn.Module | Answering) -> Any:
    """A teacher's fingerprint for resuming: plain values for JSON.

    It is :func:`teacher_digest` where there is one; of a store its own digest, since two stores of one teacher differ;
    of a user's teacher without a digest some of its outputs, to be compared with a tolerance.

    Args:
        teacher: A module or a teacher, bound to its examples.

    Returns:
        A digest, lists of numbers, or None where nothing is known.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> teacher_fingerprint(net) == teacher_digest(net)
        True
    """
    own = None if isinstance(teacher, nn.Module) else getattr(teacher, "fingerprint", None)
    if own is not None:
        return own
    members = () if isinstance(teacher, nn.Module) else tuple(getattr(teacher, "members", ()))
    if members and teacher_digest(teacher) is None:
        weights = [float(weight) for weight in getattr(teacher, "weights", ())]
        return [str(getattr(teacher, "mean", None)), weights, [teacher_fingerprint(member) for member in members]]
    return teacher_digest(teacher)


def mean_kind(teacher: nn.Module | Answering) -> str:
    """How a teacher averages: "arithmetic" if any average in it is so, else "geometric", or "none".

    Only an arithmetic mean of several makes soft targets that hold for one temperature alone.

    Args:
        teacher: A module or a teacher.

    Returns:
        The kind.

    Example:
        >>> mean_kind(nn.Linear(2, 2))
        'none'
    """
    members = () if isinstance(teacher, nn.Module) else tuple(getattr(teacher, "members", ()))
    if not members:
        stored = getattr(teacher, "mean", None)
        return stored if stored in {"arithmetic", "geometric"} else "none"
    kinds = {mean_kind(member) for member in members}
    if len(members) > 1:
        kinds.add(str(getattr(teacher, "mean", "arithmetic")))
    return next((kind for kind in ("arithmetic", "geometric") if kind in kinds), "none")


def network_identity(module: nn.Module, role: str) -> dict[str, str]:
    """A network's fingerprint before training, for ``identity.json``.

    Args:
        module: The network with its initial weights.
        role: Its role, such as "student".

    Returns:
        Digests of its architecture, by the role, and of its weights, under "first weights".

    Example:
        >>> one, other = network_identity(nn.Linear(2, 2), "student"), network_identity(nn.Linear(2, 2), "student")
        >>> one["student"] == other["student"], one["first weights"] == other["first weights"]
        (True, False)
    """
    return {role: _module_digest(module, weights=False), "first weights": _module_digest(module)}


_UNCOUNTED = frozenset({"training", "classes", "reading"})
"""Plain attributes outside the network: loading a run adds the last two, which a model just trained lacks."""


def _module_digest(module: nn.Module, *, weights: bool = True) -> str:
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        settings = {
            key: value
            for key, value in sorted(vars(part).items())
            if not key.startswith("_") and key not in _UNCOUNTED and _plain(value)
        }
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        digest.update(json.dumps([name, kind, settings]).encode())
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            held = tensor.detach().cpu().contiguous()
            digest.update(f"{name}{held.dtype}{tuple(held.shape)}".encode())
            if weights:
                digest.update(held.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
