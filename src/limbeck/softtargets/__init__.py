"""Soft targets, computed once and stored: a folder of fixed-width shards, a manifest and a fidelity card.

::

    manifest.json                what the store holds, seals of the shards, and its own checksum
    shard-00000.safetensors ...  rows of fixed width, about 64 MB each, view by view
    tail.safetensors             for top-k: how the mass of the classes left out is shared out
    index.safetensors            the examples' numbers, where they are not 0, 1, 2, ...
    card.json                    what the store costs and what it loses

The bytes (:class:`Store`, :func:`write_arrays`) are numpy alone; :class:`SoftTargets`, which runs a teacher and is one,
brings torch.
"""

__all__ = [
    "Card",
    "Dense",
    "Sampled",
    "SoftTargets",
    "Store",
    "TopK",
    "teacher_digest",
    "write_arrays",
]

import importlib
from typing import TYPE_CHECKING, Any

from limbeck.softtargets.encodings import Dense
from limbeck.softtargets.fidelity_card import Card
from limbeck.softtargets.reader import Store
from limbeck.softtargets.sampled import Sampled
from limbeck.softtargets.topk import TopK
from limbeck.softtargets.writer import write_arrays

if TYPE_CHECKING:
    from limbeck.softtargets.digests import teacher_digest
    from limbeck.softtargets.teacher import SoftTargets

_HOMES = {"SoftTargets": "limbeck.softtargets.teacher", "teacher_digest": "limbeck.softtargets.digests"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # these import torch
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'limbeck.softtargets' has no attribute {name!r}")
