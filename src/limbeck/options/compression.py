"""Settings of compression."""

__all__ = ["FineTuning", "RankRule"]

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from limbeck.errors import ConfigError
from limbeck.options.checks import check_types, require
from limbeck.options.training import Distillation, Training


@dataclass(frozen=True, kw_only=True)
class RankRule:
    """The rank rule: exactly one of these.

    Attributes:
        rank: The same rank for all layers, or one for each layer in order.
        energy: Share of each layer's energy (sum of squared singular values) to keep, in (0, 1].
        singular_share: Share of each layer's sum of singular values to keep, in (0, 1].
        layer_share: Share of each layer's weights to keep, in (0, 1].
        parameters: Parameter budget of the whole network, allocated to the layers with the least loss: a share up to 1,
            or a count.
        flops: Budget of multiply-adds of the whole network: a share up to 1, or a count.
        size: Budget of bytes of the whole network's weights: a share up to 1 of the file before, or a size such
            as 200KB.
        latency: Latency budget for one example on this machine with one thread, such as 2ms: plans are timed, and the
            fast enough one with the least loss is used.
    """

    rank: tuple[int, ...] | None = None
    energy: float | None = None
    singular_share: float | None = None
    layer_share: float | None = None
    parameters: float | None = None
    flops: float | None = None
    size: str | None = None
    latency: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.size, int | float) and not isinstance(self.size, bool):  # a share, or bytes, as a number
            object.__setattr__(self, "size", f"{self.size}")
        check_types(self)
        names = [field.name for field in dataclasses.fields(self)]
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"one rank rule is needed, and {' and '.join(given)} are given: leave all but one out")
        for name in ("energy", "singular_share", "layer_share"):
            value = getattr(self, name)
            require(value is None or 0 < value <= 1, name, value, "in (0, 1]")
        for name in ("parameters", "flops"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, name, value, "a share in (0, 1], or a count above 1")
        require(self.rank is None or all(rank >= 1 for rank in self.rank), "rank", self.rank, "at least 1")
        if self.rank == ():
            raise ConfigError("rank needs a number: rank=(50,) (--rank 50), or one for each layer in order")

    @property
    def name(self) -> str | None:
        """The name of the given rule, or None.

        Returns:
            The field's name.

        Example:
            >>> RankRule(energy=0.9).name
            'energy'
        """
        return next((field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None), None)


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Fine-tuning of a compressed network by distillation from the original.

    Attributes:
        finetune_epochs: Epochs of distillation from the original after the low-rank factorisation; 0: none.
        temperature: Temperature T of the soft targets; above 0.
        hard_weight: Weight of the hard labels in [0, 1]; the soft targets have the rest. 0 needs no labels.
        batch_size: Examples per step.
        learning_rate: Peak learning rate of AdamW, with cosine decay to zero.
        warmup_epochs: Epochs of linear warm-up from 0.
        seed: Seed of the order, the augmentation, dropout and the choice of calibration examples.
        precision: "bf16", "float32", or "auto": measured when the run starts.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    finetune_epochs: int = 0
    temperature: float = 4.0
    hard_weight: float = 0.1
    batch_size: int = 256
    learning_rate: float = 0.0005
    warmup_epochs: float = 0.0
    seed: int = 0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        require(self.finetune_epochs >= 0, "finetune_epochs", self.finetune_epochs, "at least 0")
        self.aims  # noqa: B018  (checks its fields)
        self.training(max(1, self.finetune_epochs))

    @property
    def aims(self) -> Distillation:
        """The distillation settings."""
        return Distillation(temperature=self.temperature, hard_weight=self.hard_weight)

    def training(self, epochs: int) -> Training:
        """The training settings.

        Args:
            epochs: Number of epochs.

        Returns:
            The settings.
        """
        return Training(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_epochs=self.warmup_epochs,
            seed=self.seed,
            precision=self.precision,
            device=self.device,
        )
