"""A 429-512-256-512-913 ReLU network as the older script's text."""

__all__ = ["SIZES", "write_relu_network"]

from itertools import pairwise
from pathlib import Path

import numpy as np

from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, write_nnet

SIZES = (429, 512, 256, 512, 913)


def write_relu_network(path: Path, *, decays: tuple[float, ...] | None = None, seed: int = 0) -> Nnet:
    """Write it in the older dialect; with decays, each layer's spectrum falls as a power of the rank."""
    generator = np.random.default_rng(seed)
    parts: list[nc.Component] = []
    for number, (n, m) in enumerate(pairwise(SIZES)):
        weight = generator.standard_normal((m, n))
        if decays is not None:
            left, _, right = np.linalg.svd(weight, full_matrices=False)
            values = np.arange(1.0, min(m, n) + 1) ** -decays[number]
            weight = (left * values) @ right / np.linalg.norm(values)
        weight *= np.sqrt(2 * m) / np.linalg.norm(weight)
        parts.append(nc.AffineTransform(weight.astype(np.float32), np.float32(generator.normal(0, 0.1, m))))
        parts.append(nc.Relu(m))
    parts[-1] = nc.Softmax(SIZES[-1])
    nnet = Nnet(tuple(parts))
    write_nnet(path, nnet, dialect="legacy")
    return nnet
