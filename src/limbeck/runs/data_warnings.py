"""What is odd about the examples of a run, though it is not an error: told before hours are spent on it."""

__all__ = ["tell_contradictions", "tell_padding", "tell_shared_examples"]

from collections.abc import Callable, Sequence

import torch
from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.data.duplicates import shared_examples, shared_groups
from limbeck.data.examples import Examples
from limbeck.data.multi_label import ManyLabels
from limbeck.inputs import move
from limbeck.models.calling import call_model, evaluating, presentation_of
from limbeck.options.text import TOKEN_INPUTS, TextPresentation
from limbeck.protocols import Teacher
from limbeck.system.callbacks import Callback

_PADDED = 1e-4
"""Nats by which rounding may change an answer."""


def tell_contradictions(examples: Examples, callback: Callback | None) -> None:
    """Warn of training examples with the same inputs, to the bit, and other labels.

    Args:
        examples: What is learnt from; without labels there is nothing to tell.
        callback: Is told.
    """
    if examples.labels is None:
        return
    rows, first = shared_examples(examples, examples)
    labels = examples.labels.cpu().numpy()
    wrong = labels[rows] != labels[first]
    rows, first = rows[wrong], first[wrong]
    if len(rows):
        (callback or Callback()).warn(
            f"{len(rows)} of {len(examples)} training examples have the inputs of an earlier one, {_alike(examples)}, "
            f"and another label (the first is example {int(rows[0])}, labelled {int(labels[rows[0]])}, and example "
            f"{int(first[0])} is labelled {int(labels[first[0]])}): no model can be right on both"
        )


def tell_shared_examples(
    data: DataSet, parts: Sequence[str], callback: Callback | None, *, transfer: Examples | None = None
) -> None:
    """Warn of judged examples that something learnt from or chose by, and of such as come more than once.

    Errors on examples that were learnt from say little of new ones; a test set that the epoch was chosen on is no test
    set; and an example that comes twice counts twice, as if it were more evidence.

    Args:
        data: The data set.
        parts: Which of "validation" and "test" are looked at.
        callback: Is told.
        transfer: What the student learns from instead of the training set, where that is something else.
    """
    tell = (callback or Callback()).warn
    for part in parts:
        examples = data.parts().get(part)
        if examples is None:
            continue
        others = {"training": data.train, "transfer": transfer}
        others |= {"validation": data.validation} if part == "test" else {}
        for name, seen in others.items():
            if seen is None:
                continue
            rows, found = shared_examples(examples, seen)
            if len(rows):
                tell(
                    f"{len(rows)} of {len(examples)} {part} examples are in the {name} set too, {_alike(examples)} "
                    f"(the first is {part} example {int(rows[0])}, which is {name} example {int(found[0])}): errors on "
                    "them say little of new examples"
                )
            _tell_groups(part, examples, name, seen, tell)
        rows, found = shared_examples(examples, examples)
        again = rows[rows != found]
        if len(again):
            tell(
                f"{len(again)} of {len(examples)} {part} examples have come before in it, {_alike(examples)} (the "
                f"first is {part} example {int(again[0])}): they count as if each were more evidence, and are not"
            )


def tell_padding(role: str, subject: nn.Module | Teacher, examples: Examples, callback: Callback | None) -> None:
    """Warn of a model of texts whose answer to a short one depends on a long one beside it.

    Texts of a batch are padded to the longest of it. A model that takes no mask sees the padding, so its answers depend
    on which texts are answered together, and stored ones are not those of training.

    Args:
        role: What to call the model.
        subject: A module, or a teacher, whose networks are looked at.
        examples: Texts, or positions of such; of others nothing is told.
        callback: Is told.
    """
    lengths = getattr(examples.inputs, "text_lengths", None)
    if lengths is None or not len(examples):
        return
    sizes = lengths()
    pair = torch.tensor([int(sizes.argmin()), int(sizes.argmax())])
    alone = isinstance(subject, nn.Module)
    networks = [(subject, presentation_of(subject))] if isinstance(subject, nn.Module) else subject.modules()
    for network, seen in networks:
        inner = seen.inner if isinstance(seen, ManyLabels) else seen
        if not isinstance(inner, TextPresentation):
            continue
        device = next((each.device for each in network.parameters()), torch.device("cpu"))
        with evaluating(network), torch.no_grad():
            beside, by_itself = (
                call_model(network, move(examples.as_seen(rows, seen), device))[0].log_softmax(-1)
                for rows in (pair, pair[:1])
            )
        difference = float((beside - by_itself).abs().max())
        if difference > _PADDED:
            name = role if alone else f"{role} {type(network).__name__}"
            mask = "" if "attention_mask" in (inner.names or TOKEN_INPUTS) else " It takes no attention_mask."
            (callback or Callback()).warn(
                f"the {name} answers a short text otherwise beside a long one, by up to {difference:.2g} nats, so that "
                f"answers depend on what they are padded with.{mask} Let its forward take attention_mask and leave out "
                "what that masks"
            )


def _alike(examples: Examples) -> str:
    """How far examples agree that are called the same."""
    return str(getattr(examples.inputs, "alike", "to the bit"))


def _tell_groups(part: str, examples: Examples, name: str, seen: Examples, tell: Callable[[str], None]) -> None:
    """Warn of groups on both sides of a division, which files that were given apart may have."""
    groups, count = shared_groups(examples, seen)
    if groups:
        shown = ", ".join(map(repr, groups[:3])) + (", ..." if len(groups) > 3 else "")
        tell(
            f"{len(groups)} groups of {part} examples are in the {name} set too ({shown}), with {count} of "
            f"{len(examples)} {part} examples: errors on them say little of new groups"
        )
