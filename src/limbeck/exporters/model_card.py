"""The model card of an exported model: description, results, data, and limits."""

__all__ = ["model_card"]

import json
from collections.abc import Iterator, Mapping
from typing import Any

from limbeck.data.table_encoding import TableEncoding
from limbeck.evaluation.score_table import score_cell
from limbeck.evaluation.verdicts import sentences
from limbeck.exporters.protocol import Card
from limbeck.options import ImagePresentation, TextPresentation

_ROWS = (
    ("test_errors", "errors", "{:,}"),
    ("test_examples", "examples", "{:,}"),
    ("accuracy", "accuracy", "{:.2%}"),
    ("nll", "negative log-likelihood (nats)", "{:.4f}"),
    ("ece", "calibration error", "{:.2%}"),
    ("calibration_temperature", "calibration temperature", "{:.3g}"),
    ("calibrated_ece", "calibration error, calibrated", "{:.2%}"),
    ("agreement_with_teacher", "agreement with the teacher", "{:.2%}"),
    ("agreement_with_original", "agreement with the original network", "{:.2%}"),
    ("parameters", "parameters", "{:,}"),
    ("file_bytes", "bytes of the weights", "{:,}"),
    ("multiply_adds", "multiply-adds per example", "{:,}"),
)
_SHOWN = 50
"""Classes that are listed."""


def model_card(card: Card, presentation: Any, *, library: str, loading: str) -> str:
    """The card as Markdown with the front matter that the Hugging Face Hub reads.

    Args:
        card: What is known of the model.
        presentation: How it sees examples.
        library: As the hub calls what loads it.
        loading: Python that loads it; ``{task}`` stands for the name of the task.

    Returns:
        The text of ``README.md``.

    Example:
        >>> text = model_card(Card("mlp 4-2", ("no", "yes")), None, library="pytorch", loading="import torch")
        >>> text.splitlines()[:3], "## Intended use and limits" in text
        (['---', 'library_name: pytorch', 'tags:'], True)
    """
    task, pipeline = "SequenceClassification", "text-classification"
    if isinstance(presentation, ImagePresentation):
        task, pipeline = "ImageClassification", "image-classification"
    elif not isinstance(presentation, TextPresentation):
        pipeline = ""
    head = ["---", f"library_name: {library}", "tags:", "- limbeck", "- knowledge-distillation"]
    head += [f"pipeline_tag: {pipeline}"] if pipeline else []
    parts = ["\n".join([*head, "---"]), f"# {_plain(card.title)}", *_about(card)]
    parts += ["## Loading it", f"```python\n{loading.replace('{task}', task)}\n```"]
    said = sentences(card.metrics)
    parts += ["## Verdict", *said] if said else []
    parts += list(_results(card.metrics))
    parts += ["## Data", *_data(card), "## Intended use and limits", "\n".join(_limits(card, presentation))]
    return "\n\n".join(parts) + "\n"


def _about(card: Card) -> Iterator[str]:
    made = "distilled from a larger one" if "temperature" in card.settings else "made"
    yield (
        f"A classifier of {len(card.classes)} classes, {made} with Limbeck. How its files were compared with the model "
        "they were made of is in `parity.json` beside this folder."
    )
    if card.temperature is not None:
        yield (
            f"Its logits are divided by {card.temperature:.4g}, a calibration temperature that changes no prediction."
        )


def _results(metrics: Mapping[str, Any]) -> Iterator[str]:
    """A table of the models that were evaluated together."""
    stages = metrics.get("stages")
    models = stages if isinstance(stages, Mapping) else metrics
    names = [name for name in models if isinstance(models[name], Mapping) and "title" in models[name]]
    if not names:
        return
    yield f"## Results on {metrics.get('judged_on') or 'no'} examples"
    lines = ["| | " + " | ".join(_plain(name) for name in names) + " |", "|---|" + "---:|" * len(names)]
    for key, label, form in _ROWS:
        values = [models[name].get(key) for name in names]
        if any(value is not None for value in values):
            cells = [score_cell(models[name], key, form.format, "–") for name in names]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    yield "\n".join(lines)
    if len(metrics.get("seeds") or ()) > 1:
        yield "The verdict is over all seeds, and the table and the files are of the first."
    if metrics.get("judged_on") == "validation":
        yield "There was no test set: these results are on the validation set, on which settings may have been chosen."


def _data(card: Card) -> Iterator[str]:
    named = card.settings.get("data")
    yield f"Trained on {_plain(named)}." if named else "The data were given in memory, and have no name."
    if card.data:
        yield "SHA-256 of what the parts hold, as Limbeck digests them:"
        yield "\n".join(["| part | digest |", "|---|---|", *[f"| {n} | `{d}` |" for n, d in card.data.items()]])


def _limits(card: Card, presentation: Any) -> Iterator[str]:
    names = ", ".join(json.dumps(_plain(name), ensure_ascii=False) for name in card.classes[:_SHOWN])
    more = f" and {len(card.classes) - _SHOWN} more" if len(card.classes) > _SHOWN else ""
    yield f"- It distinguishes these classes, for inputs like those it was trained on: {names}{more}."
    yield "- Any other input is also assigned to one of these classes, at times with high confidence."
    if isinstance(presentation, ImagePresentation):
        size = "x".join(map(str, presentation.size))
        yield f"- Images are resized and cropped to {size} and normalised as `preprocessor_config.json` says."
    if isinstance(presentation, TableEncoding):
        names = ", ".join(json.dumps(_plain(each.name), ensure_ascii=False) for each in presentation.columns[:_SHOWN])
        more = f" and {len(presentation.columns) - _SHOWN} more" if len(presentation.columns) > _SHOWN else ""
        yield (
            f"- Its inputs are made of the columns {names}{more} in this order, as `presentation` in `config.json` "
            "says: a number less `mean`, divided by `std`, with `median` at a gap and, where `marked`, a 1 beside it; "
            "a category as a 1 at its place in `categories`, in which an empty text is a gap, or at one more place "
            "where it is not among them."
        )
    if isinstance(presentation, TextPresentation):
        yield f"- Texts are truncated to {presentation.max_length} tokens."
    yield (
        "- The results above are on examples like the training data. Other sources, times, people or sensors were not "
        "tested, and neither was fairness towards groups of people: evaluate it on your own data first."
    )


def _plain(text: object) -> str:
    r"""Text on one line that is no Markdown: names of classes and models may be untrusted."""
    line = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!" else letter for letter in line)
