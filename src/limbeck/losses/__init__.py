"""The losses of distillation, as pure functions: one value per example."""

__all__ = ["distillation_loss", "hard_target_loss", "logit_matching_loss", "soft_target_loss", "softened", "widened"]

from limbeck.losses.soft_targets import (
    distillation_loss,
    hard_target_loss,
    logit_matching_loss,
    soft_target_loss,
    softened,
    widened,
)
