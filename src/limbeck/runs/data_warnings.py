"""Warnings about suspicious data, given before training starts: duplicates, contradictions, scale, padding."""

__all__ = [
    "tell_contradictions",
    "tell_foreign_teacher",
    "tell_padding",
    "tell_scale_of_training",
    "tell_shared_examples",
    "tell_trained_on",
    "tell_unknown_categories",
]

from collections.abc import Callable, Sequence

import torch
from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.data.duplicates import shared_examples, shared_groups
from limbeck.data.examples import Examples
from limbeck.data.multi_label import seen_within
from limbeck.data.table import Table
from limbeck.data.table_encoding import TableEncoding
from limbeck.data.trained_rows import size_of_inputs
from limbeck.inputs import move
from limbeck.models.calling import call_model, evaluating, presentation_of
from limbeck.options.text import TOKEN_INPUTS, TextPresentation
from limbeck.protocols import Teacher
from limbeck.runs.models import rows_trained_on
from limbeck.system.callbacks import Callback, warn_user

_PADDED = 1e-4
"""Largest change of an output by rounding, in nats."""
_SCALE = 10.0
"""Ratio of the sizes of inputs that is warned about."""


def tell_contradictions(examples: Examples, callback: Callback | None) -> None:
    """Warn of training examples with bitwise equal inputs and different labels.

    Args:
        examples: The training examples; without labels there is no warning.
        callback: Receives the warnings.
    """
    if examples.labels is None:
        return
    rows, first = shared_examples(examples, examples)
    labels = examples.labels.cpu().numpy()
    wrong = labels[rows] != labels[first]
    rows, first = rows[wrong], first[wrong]
    if len(rows):
        (callback or Callback()).on_warning(
            f"{len(rows)} of {len(examples)} training examples duplicate the inputs of an earlier one, "
            f"{_alike(examples)}, with a different label (the first is example {int(rows[0])}, labelled "
            f"{int(labels[rows[0]])}, and example {int(first[0])} is labelled {int(labels[first[0]])}): no model can "
            f"be right about both"
        )


def tell_shared_examples(
    data: DataSet, parts: Sequence[str], callback: Callback | None, *, transfer: Examples | None = None
) -> None:
    """Warn of evaluation examples that are in the training or validation set, of duplicates, and of another scale.

    Errors on training examples say little about new ones; a test set that the epoch was chosen on is not a test set;
    a duplicate counts twice, as if it were more evidence; and no network does well on numbers that are ten times as
    large as those that it was trained on.

    Args:
        data: The data set.
        parts: Which of "validation" and "test" to check.
        callback: Receives the warnings.
        transfer: The transfer set, where there is one.
    """
    tell = (callback or Callback()).on_warning
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
                    "them say little about new examples"
                )
            _tell_groups(part, examples, name, seen, tell)
        rows, found = shared_examples(examples, examples)
        again = rows[rows != found]
        if len(again):
            tell(
                f"{len(again)} of {len(examples)} {part} examples are duplicates within it, {_alike(examples)} (the "
                f"first is {part} example {int(again[0])}): they count as independent evidence, and are not"
            )
        _tell_scale(part, examples, data.train, tell)


def tell_padding(role: str, subject: nn.Module | Teacher, examples: Examples, callback: Callback | None) -> None:
    """Warn of a text model whose output for a short text depends on its padding.

    Texts are padded to the longest of their batch. A model without an attention mask sees the padding, so its outputs
    depend on the other texts of the batch, and stored outputs differ from those of training.

    Args:
        role: Display name of the model.
        subject: A module, or a teacher, whose networks are checked.
        examples: Texts, or positions of texts; others are not checked.
        callback: Receives the warnings.
    """
    lengths = getattr(examples.inputs, "text_lengths", None)
    if lengths is None or not len(examples):
        return
    sizes = lengths()
    pair = torch.tensor([int(sizes.argmin()), int(sizes.argmax())])
    alone = isinstance(subject, nn.Module)
    networks = [(subject, presentation_of(subject))] if isinstance(subject, nn.Module) else subject.modules()
    for network, seen in networks:
        inner = seen_within(seen)
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
            (callback or Callback()).on_warning(
                f"the {name}'s output for a short text changes with its padding, by up to {difference:.2g} nats, "
                f"so that outputs depend on the other texts of the batch.{mask} Let its forward take "
                "attention_mask and ignore masked tokens"
            )


def tell_trained_on(role: str, subject: nn.Module | Teacher, data: DataSet, callback: Callback | None) -> None:
    """Warn of test examples that a network was trained on, as far as its folder has hashes of its training inputs.

    A teacher that knows the answers of the test set looks better than it is, and what it knows reaches its student.

    Args:
        role: Display name of the model.
        subject: A module, or a teacher, whose networks are checked.
        data: The data set.
        callback: Receives the warnings.
    """
    if data.test is None:
        return
    networks = [subject] if isinstance(subject, nn.Module) else [network for network, _ in subject.modules()]
    for network in networks:
        trained_on = rows_trained_on(network)
        if trained_on is None:
            continue
        rows, known = trained_on.find(data.test)
        if not len(rows):
            continue
        count = f"{len(rows)} of {known} test examples"
        if known < len(data.test):
            count = f"{count} that were compared, of {len(data.test)},"
        (callback or Callback()).on_warning(
            f"the {role} was trained on {count} (the first is test example {int(rows[0])}): its errors on them say "
            "little about new examples, and a student's are fewer with its help; give examples that it has not seen as "
            "test (--test-data)"
        )
        return


def tell_foreign_teacher(teacher: Teacher, data: DataSet, callback: Callback | None) -> None:
    """Say where the test set was cut from data that a teacher from elsewhere may have been trained on.

    Args:
        teacher: The teacher.
        data: The data set.
        callback: Receives the note.
    """
    networks = teacher.modules()
    known = bool(networks) and all(rows_trained_on(network) is not None for network, _ in networks)
    if not teacher.live or known or data.test is None or data.test.source != data.train.source:
        return
    (callback or Callback()).on_note(
        f"{len(data.test)} test examples were set aside from the training data: if the teacher was trained on all of "
        "these data, it has seen them, and looks better than it is; then give examples that it has not seen as test "
        "(--test-data)"
    )


def _alike(examples: Examples) -> str:
    """In what sense examples are equal, for a message."""
    return str(getattr(examples.inputs, "alike", "to the bit"))


def _tell_scale(part: str, examples: Examples, seen: Examples, tell: Callable[[str], None]) -> None:
    """Warn of inputs that are much larger or smaller than those of the training set, such as 0 to 255 beside 0 to 1."""
    if examples.kind != "integers" and seen.kind != "integers":
        said = _scales(size_of_inputs(examples), size_of_inputs(seen))
        if said is not None:
            tell(f"the inputs of the {part} examples are {said}: are both scaled in the same way?")


def tell_scale_of_training(role: str, subject: nn.Module | Teacher, examples: Examples) -> None:
    """Warn of inputs much larger or smaller than those that a network was trained on, as far as its folder tells.

    Such as of pixels from 0 to 255 as int64 or float32 for a network that was trained on uint8 images, which are seen
    on [0, 1].

    Args:
        role: Display name of the model.
        subject: A module, or a teacher, whose networks are checked.
        examples: What it is to answer.
    """
    networks = [subject] if isinstance(subject, nn.Module) else [network for network, _ in subject.modules()]
    for network in networks:
        known = rows_trained_on(network)
        said = None if known is None or known.size is None else _scales(size_of_inputs(examples), known.size)
        if said is not None:
            pixels = examples.kind != "uint8 images" and len(examples.shape) > 1
            cure = "; pixels from 0 to 255 are given as uint8" if pixels else ""
            warn_user(f"the inputs for the {role} are {said}: are both scaled in the same way?{cure}")
            return


def _scales(mine: float | None, theirs: float | None) -> str | None:
    """What is said of inputs of another size than those of the training examples; None where they are alike."""
    if mine is None or theirs is None:
        return None
    ratio = mine / theirs
    factor = max(ratio, 1 / ratio)
    if factor < _SCALE:
        return None
    return (
        f"{'larger' if ratio > 1 else 'smaller'} than those of the training examples by a factor of about {factor:.0f} "
        f"({mine:.3g} beside {theirs:.3g}, the median of the examples' root mean squares)"
    )


def _tell_groups(part: str, examples: Examples, name: str, seen: Examples, tell: Callable[[str], None]) -> None:
    """Warn of groups in both parts of a split, which separately given files may have."""
    groups, count = shared_groups(examples, seen)
    if groups:
        shown = ", ".join(map(repr, groups[:3])) + (", ..." if len(groups) > 3 else "")
        tell(
            f"{len(groups)} groups of {part} examples are in the {name} set too ({shown}), with {count} of "
            f"{len(examples)} {part} examples: errors on them say little about new groups"
        )


def tell_unknown_categories(seen: TableEncoding, table: Table) -> None:
    """Warn of categories that a model's training rows did not have.

    Args:
        seen: How the model sees rows.
        table: The rows to predict or to evaluate on.
    """
    for column, (count, first) in seen.unknown(table.values, table.categories).items():
        warn_user(
            f"{count} of {len(table)} rows have a category in column {column!r} that the training rows did not have, "
            f"such as {repr(first) if first else 'an empty field'}: the model sees all of these as one unknown category"
        )
