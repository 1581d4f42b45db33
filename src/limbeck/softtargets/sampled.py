r"""Sampled encoding: classes drawn from each row's distribution, an unbiased estimate.

Classes :math:`c_1, \dots, c_n` are drawn with replacement from :math:`q \propto p^t`, and stand for

.. math::
    \hat p_k = \frac{1}{n} \sum_{i=1}^{n} \frac{p_k}{q_k} [c_i = k], \qquad \mathbb{E}\,\hat p_k = p_k

whatever t is, so the gradient of the soft-target loss is right on average too, which no cut to the top-1 classes
gives. At t = 1 every draw weighs 1/n, nothing but ids is kept and the weights sum to 1. At another t they sum to 1 on
average only, and the loss is that of a distribution of that mass. Targets hold for one temperature: the softmax at
another is not an average of these. Draws are keyed by seed, view and example, so they are the same whenever they are
made.

Axes: ``N`` rows, ``K`` classes, ``n`` draws.
"""

__all__ = ["Sampled"]

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, MismatchError
from limbeck.softtargets.counter_rng import uniforms
from limbeck.softtargets.encodings import Field, below_largest, log_softmax
from limbeck.softtargets.topk import id_dtype


@dataclass(frozen=True)
class Sampled:
    """Classes drawn with replacement.

    Attributes:
        draws: Number of draws per row, n.
        proposal: The exponent t of the distribution drawn from; 1 draws from the teacher's own.
        seed: Seed of the draws, in [0, 2**63).

    Raises:
        ConfigError: If a value is out of its range.

    References:
        Anshumann et al., `Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs
        <https://arxiv.org/abs/2503.16870>`_, ACL 2025.

    Example:
        >>> sampled = Sampled(draws=4)
        >>> row = sampled.encode(np.log([[0.999, 0.001]]).astype(np.float32), np.array([0]), np.array([0]))
        >>> row["ids"].tolist(), np.exp(sampled.decode(row, 2, temperature=1.0)).tolist()
        ([[0, 0, 0, 0]], [[1.0, 0.0]])
    """

    draws: int
    proposal: float = 1.0
    seed: int = 0

    keeps_logits: ClassVar[bool] = False
    estimates: ClassVar[bool] = True
    has_tail: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ConfigError(f"draws must be at least 1, and is {self.draws}")
        if not 0 <= self.proposal < math.inf:
            raise ConfigError(f"proposal must be at least 0 and finite, and is {self.proposal}")
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"seed must be in [0, 2**63), and is {self.seed}")

    @property
    def name(self) -> str:
        """Its encoding name in the manifest."""
        return "sampled"

    def parameters(self) -> dict[str, Any]:
        """Its settings, as JSON can hold them."""
        return {"draws": self.draws, "proposal": self.proposal, "seed": self.seed}

    def fields(self, classes: int) -> tuple[Field, ...]:
        """Ids, and log weights where they differ."""
        ids = Field("ids", id_dtype(classes), self.draws)
        return (ids,) if self.proposal == 1 else (Field("log_weights", "<f4", self.draws), ids)

    def encode(
        self, scores: NDArray[np.float32], index: NDArray[np.int64], view: NDArray[np.int64], first_row: int = 0
    ) -> dict[str, NDArray[Any]]:
        """Draw classes for logits ``(N, K)`` of examples ``index (N,)`` in views ``view (N,)``."""
        log_p = log_softmax(below_largest(scores, first_row), 1.0)
        log_q = log_softmax(self.proposal * log_p, 1.0)
        upto = np.cumsum(np.exp(log_q), 1)
        upto /= upto[:, -1:]
        numbers = uniforms(index, view, self.draws, seed=self.seed)
        ids = np.stack([(upto < numbers[:, [draw]]).sum(1) for draw in range(self.draws)], 1)
        found: dict[str, NDArray[Any]] = {"ids": ids.astype(id_dtype(scores.shape[1]))}
        if self.proposal != 1:
            ratio = np.take_along_axis(log_p - log_q, ids, 1)
            found["log_weights"] = (ratio - math.log(self.draws)).astype("<f4")
        return found

    def decode(self, fields: Mapping[str, NDArray[Any]], classes: int, temperature: float) -> NDArray[np.float64]:
        """Logarithms of the estimates ``(N, K)``, ``-inf`` where a class was not drawn.

        Args:
            fields: What :meth:`encode` gave.
            classes: K.
            temperature: 1, the temperature that the classes were drawn at.

        Returns:
            Natural logarithms; they are normalised where ``proposal`` is 1.

        Raises:
            MismatchError: If another temperature is asked for.
        """
        if temperature != 1:
            raise MismatchError("sampled soft targets serve the temperature that they were drawn at, and no other")
        ids = fields["ids"].astype(np.int64)
        estimate = np.zeros((len(ids), classes))
        each = np.exp(fields["log_weights"].astype(np.float64)) if self.proposal != 1 else 1 / self.draws
        np.add.at(estimate, (np.arange(len(ids))[:, None], ids), each)
        with np.errstate(divide="ignore"):
            return np.log(estimate)
