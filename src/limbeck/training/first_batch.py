"""Checks before the first step: labels in range, and batches that the network and the method can process."""

__all__ = ["refuse_coupled", "refuse_labels", "smallest_part", "try_one"]

import torch
from torch import nn

from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.errors import ConfigError, DataError, UserCodeError
from limbeck.models.calling import call_model
from limbeck.protocols import Batch, Objective
from limbeck.system.devices import Device


def refuse_labels(examples: Examples, part: str, classes: int) -> None:
    """Every label is checked once here, so that no step has to."""
    if examples.labels is None:
        return
    outside = (examples.labels < 0) | (examples.labels >= classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise DataError(
            f"the model gives {classes} classes, and there is a label {int(examples.labels[row])}: {part} example "
            f"{int(examples.index[row])} has it"
        )


def refuse_coupled(objective: Objective, feed: Feed) -> None:
    """Refuse to compute a batch in parts where the loss of an example depends on the others in its batch."""
    if feed.accumulate > 1 and getattr(objective, "coupled", False):
        raise ConfigError(
            f"accumulate is {feed.accumulate}, and in this method an example's loss depends on the others in its "
            "batch, so that parts would have another loss than the whole: leave accumulate out, or take another method"
        )


def smallest_part(feed: Feed) -> int:
    """Examples in the smallest part of a batch."""
    sizes = (feed.batch_size, (len(feed.examples) - 1) % feed.batch_size + 1)
    return min(size // feed.parts_of(size) for size in sizes)


def try_one(model: nn.Module, batch: Batch, feed: Feed, device: Device) -> None:
    """Refuse a last batch of one example, before training, where batch normalisation has nothing to compare it with."""
    if not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        return
    kept = {name: value.clone() for name, value in model.named_buffers()}
    draws = torch.get_rng_state()
    try:
        model.train()
        with torch.no_grad(), device.autocast():
            call_model(model, batch.inputs)
    except UserCodeError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        count = len(feed.examples)
        if feed.accumulate > 1:
            raise ConfigError(
                f"accumulate {feed.accumulate} leaves a part of one example of batches of {feed.batch_size}, of which "
                "batch normalisation has no variance: set accumulate lower, or batch_size higher"
            ) from error
        raise ConfigError(
            f"batch_size {feed.batch_size} leaves the last of {count} examples in a batch of its own, of which batch "
            f"normalisation has no variance: set batch_size to {_without_remainder(count, feed.batch_size)}"
        ) from error
    finally:
        torch.set_rng_state(draws)
        model.eval()
        with torch.no_grad():
            for name, value in model.named_buffers():
                if name in kept:
                    value.copy_(kept[name])


def _without_remainder(count: int, size: int) -> int:
    """The nearest batch size, at least 2, without a last batch of one example."""
    return min(
        (other for other in range(2, count + 1) if count % other != 1), key=lambda other: abs(other - size), default=2
    )
