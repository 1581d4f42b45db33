"""Export a model to files, each with a parity check against the model."""

__all__ = ["ExportRun", "export", "run_options"]

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.arguments import checked_arguments
from limbeck.data import open_data
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.input_contract import input_contract
from limbeck.data.kinds import NEXT_TOKEN, TABLE, TEXT, WORDS
from limbeck.data.multi_label import ManyLabels
from limbeck.data.registry import kind_of, settings_for
from limbeck.errors import ArgumentError, ConfigError, DataError, FormatError, MismatchError, ParityError, RunError
from limbeck.evaluation.prediction import answers_in_blocks, shown_to
from limbeck.exporters import Card, Exporter
from limbeck.exporters.comparing import pixels_of, plain_view
from limbeck.exporters.parity import Held, Parity, judge_file
from limbeck.exporters.pixels import FromPixels
from limbeck.exporters.protocol import Finetuning
from limbeck.exporters.tempered import Tempered, tempered
from limbeck.exporters.tracing import bare_inputs
from limbeck.inputs import Inputs
from limbeck.keyed import permutation
from limbeck.models.calling import call_model, presentation_of
from limbeck.models.class_names import named_classes
from limbeck.models.copying import copy_module
from limbeck.models.wrapped import unwrapped
from limbeck.options import DataOptions, ImagePresentation
from limbeck.options.checks import shown
from limbeck.options.kinds import every_option
from limbeck.protocols import Batch
from limbeck.runs.calibrating import temperature_for
from limbeck.runs.export_request import checked_formats
from limbeck.runs.folder import RunFolder
from limbeck.runs.inputs import as_part, check_classes
from limbeck.runs.measure import title_of
from limbeck.runs.models_for_data import load_module
from limbeck.runs.parity_files import write_report
from limbeck.runs.samples import samples_of
from limbeck.runs.settings import options_of
from limbeck.system.callbacks import Callback
from limbeck.system.files import make_beside, make_folder, replace_bytes, seal_files, sync_folder, why
from limbeck.system.user_code import refuse_misfit
from limbeck.teachers import Ensemble

_TRACED = 5
"""Batch size of tracing."""
_CALIBRATED, _TOGETHER = 512, 32
"""Number of training examples to calibrate quantised formats with, and their batch size."""
_STEP = 64
"""Batch size of fine-tuning."""

_ROWS = frozenset({TABLE.name, TEXT.name, WORDS.name, NEXT_TOKEN.name})
"""Kinds of data whose models see no others."""


@dataclass(frozen=True, eq=False)
class ExportRun:
    """The result of an export.

    Attributes:
        folder: The folder.
        files: The file, or folder, of each format by name.
        parity: The contents of ``parity.json``.
        sentences: The conclusions of the parity report, one per format.
    """

    folder: Path
    files: Mapping[str, Path]
    parity: Mapping[str, Any]
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.sentences)


@checked_arguments
def export(
    model: nn.Module | Ensemble | str | Path,
    example: Any = None,
    *,
    out: str | Path,
    formats: Sequence[str] = ("onnx",),
    data: Any = None,
    classes: Sequence[str] | None = None,
    with_preprocessing: bool = False,
    calibrate: bool = False,
    temperature: float | None = None,
    margin: float | None = None,
    calibration: Any = None,
    finetune_epochs: int = 0,
    parity_examples: int | None = None,
    metrics: Mapping[str, Any] | None = None,
    source: str | Path | None = None,
    ort_web: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    callback: Callback | None = None,
) -> ExportRun:
    """Export a model to files, with a parity report on held-out examples.

    Each file is loaded again and run on held-out examples. A float32 format may change a prediction only at a tie, or
    only the report is kept; a quantised one must be as good within the margin, or it is removed, and the others stay.

    Args:
        model: A module, or a run folder, whose data are opened again.
        example: A batch of inputs for the model, to compare on where no data are given.
        out: A folder that does not exist yet.
        formats: Names of formats: "onnx", "int8", "torch", "hub", "browser", and those of other packages.
        data: Held-out examples: a :class:`~limbeck.DataSet` (its test part, or else its validation part), or examples
            as for :func:`limbeck.evaluate`. None for those of the run.
        classes: Names of the classes; None for those of the model or the data.
        with_preprocessing: For images: the file takes uint8 pixels and gives probabilities.
        calibrate: Temperature scaling, fitted on the validation part of the data; files are then compared with the
            calibrated model.
        temperature: Instead of calibrate: divide the logits by this temperature.
        margin: Non-inferiority margin in percentage points of the error rate; None for 0.5 in quantised formats.
        calibration: Calibration examples for quantised formats; None for training examples of the data. They must not
            be those that files are evaluated on.
        finetune_epochs: For int8: epochs of quantisation-aware self-distillation over all calibration examples; used
            where it loses less.
        parity_examples: Number of examples to compare on, drawn evenly; None for all.
        metrics: The model's metrics, for the model card.
        source: The model's origin, for the record.
        ort_web: Folder or archive of the npm package onnxruntime-web, which a "browser" page embeds where the network
            is not Limbeck's own; None to fetch it by npm.
        progress: Called with the number of examples done and the total of a file.
        callback: Receives the conclusions.

    Returns:
        The files, and what the report says.

    Raises:
        ArgumentError: If the model is not a network.
        ConfigError: If a format is unknown, or does not support the model.
        MismatchError: If the model cannot take the examples.
        RunError: If the folder exists, or cannot be written.
        ParityError: If a file's predictions differ from the model's; where one that rounds missed the margin the
            others are there.

    Example:
        >>> import tempfile
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> done = export(net, torch.randn(20, 4), out=Path(tempfile.mkdtemp()) / "shipped", formats=["torch"])
        >>> sorted(path.name for path in done.folder.iterdir())
        ['SHA256SUMS', 'model.pt2', 'parity.html', 'parity.json']
    """
    place = Path(out)
    chosen = checked_formats(
        formats, place, margin=margin, parity_examples=parity_examples, finetune_epochs=finetune_epochs,
        calibrate=calibrate, temperature=temperature,
    )  # fmt: skip
    if isinstance(model, str | Path):
        source, run = source or model, RunFolder(model)
        data = open_data(run_options(run.path)) if data is None else data
        metrics = metrics or (run.metrics() if run.finished else {})
        model = load_module(run.path, data=data) if isinstance(data, DataSet) else _loaded(run.path)
    if isinstance(model, Ensemble):
        raise ConfigError(f"an ensemble of {len(model.members)} networks cannot be exported: distil it into one first")
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"model must be a torch.nn.Module or the folder of a run, and is {shown(model)}: distil other teachers "
            "into a network first"
        )
    original = copy_module(unwrapped(model)).cpu().eval()
    held = _held(original, example, data, parity_examples, pixels=with_preprocessing)
    if calibrate or temperature is not None:
        temperature = temperature_for(original, data, given=temperature, calibrate=calibrate)
        original = tempered(original, temperature, _few(held).inputs)
    card = _card(original, data, classes, held, metrics or {}, source, temperature)
    samples = samples_of(original, held, len(card.classes), images=_has_pixels(held.examples, original))
    card = dataclasses.replace(card, samples=samples, onnxruntime_web=None if ort_web is None else Path(ort_web))
    if calibration is None and isinstance(data, DataSet):
        calibration = data.train
    if calibration is not None:
        given = as_part("calibration", calibration)
        tuning = None if not finetune_epochs else _finetuning(original, given, held, finetune_epochs)
        card = dataclasses.replace(card, calibration=_calibrating(original, given, held), finetuning=tuning)
    subject, inputs = _subject(original, held)
    seen = _presentation(original, held)
    card = dataclasses.replace(card, presentation=seen, contract=input_contract(inputs, seen, pixels=held.pixels))
    for exporter in chosen:
        refusal = exporter.refusal(subject)
        if refusal is not None:
            raise ConfigError(f"{exporter.name}: {refusal}")
    tunable = {each.name for each in chosen if not each.exact and not finetune_epochs}
    make_folder(place.parent)
    fresh = _beside(place)
    try:
        found = [_ship(each, fresh, subject, original, inputs, held, card, margin, progress) for each in chosen]
        parity = write_report(fresh, found, held, card)
        for each in found:
            (callback or Callback()).on_note(each.sentence())
        refused = [each for each in found if each.refused]
        ours = any(each.ours for each in refused)
        if ours or len(refused) == len(found):
            raise ParityError(_refused(refused, _keep_report(fresh, place), tunable), ours=ours)
        for each in refused:
            _remove(fresh / each.file)
        _put(fresh, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    files = {each.name: place / each.file for each in found if not each.refused}
    if refused:
        raise ParityError(_refused(refused, place / "parity.html", tunable, kept=files), ours=False)
    return ExportRun(place, files, parity, tuple(each.sentence() for each in found))


def run_options(folder: Path, *, data: str | None = None, allow_pipes: bool = False) -> DataOptions:
    """The data settings of a run.

    Args:
        folder: The run.
        data: Other data to read with the same settings.
        allow_pipes: Run shell commands in script files; never because the run's folder says so.

    Returns:
        The settings.

    Raises:
        ConfigError: If the run does not name its data.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is {'a file' if folder.exists() else 'not there'}: give the folder of a run")
    if not (folder / "config.toml").exists() and not (folder / "model").is_dir() and data is None:
        raise ConfigError(f"{folder} is not a run: it has no config.toml and no model")
    config = RunFolder(folder).config() if (folder / "config.toml").exists() else {}
    names = {field.name for field in dataclasses.fields(every_option())} - {"allow_pipes"}
    known = {name: value for name, value in config.items() if name in names}
    if data is not None:
        if "data" in known:
            _require_kind(folder, data, options_of(folder, known))
        known = {name: value for name, value in known.items() if name not in {"validation_data", "test_data"}}
    if data is None and "data" not in known:
        raise ConfigError(
            f"{folder} does not name its data, which the files are compared on: give them (--data, or data=)"
        )
    return options_of(folder, {**known, **({} if data is None else {"data": data}), "allow_pipes": allow_pipes})


def _require_kind(folder: Path, data: str, known: DataOptions) -> None:
    """Refuse rows for a run on something else, and the reverse: the run's settings say how to read its own kind."""
    try:
        before = kind_of(known.data, known)
    except (ConfigError, FormatError):  # the run's own data are gone
        return
    now = kind_of(data, settings_for(data, dataclasses.replace(known, data=data)))
    if before.name != now.name and not {before.name, now.name}.isdisjoint(_ROWS):
        raise ConfigError(
            f"data (--data): {data} is {now.name}, and {folder} was trained on {known.data}, {before.name}: give "
            "held-out data of the same kind"
        )


def _loaded(folder: Path) -> nn.Module | Ensemble:
    from limbeck.runs.models import load

    return load(folder)


def _held(model: nn.Module, example: Any, data: Any, most: int | None, *, pixels: bool) -> Held:
    """The held-out examples that files are compared on."""
    if isinstance(data, DataSet):
        check_classes("model", model, data)
        part = "test" if data.test is not None else "validation"
        examples = data.test or data.validation
        if examples is None:
            raise DataError(f"{data.name} has no test or validation examples to compare the files on")
    elif data is not None:
        part, examples = "held-out", as_part("held-out", data)
    elif example is not None:
        part, examples = "example", as_part("example", example).without_labels()
    else:
        raise ConfigError("give data, held-out examples to compare the files on, or at least an example of inputs")
    examples = shown_to(model, examples)
    if pixels and not _has_pixels(examples, model):
        raise ConfigError(
            f"with_preprocessing is for images, uint8 or in files, and these examples are {examples.kind}: leave it out"
        )
    rows = torch.arange(len(examples))
    if most is not None and most < len(examples):
        rows = permutation(len(examples), seed=0, epoch=0)[:most].sort().values
    held = Held(examples, part, rows, pixels)
    with (
        refuse_misfit("model", examples.shape, "the example" if part == "example" else f"the {part} examples"),
        torch.no_grad(),
    ):
        call_model(model, _few(held).inputs)
    return held


def _subject(model: nn.Module, held: Held) -> tuple[nn.Module, Inputs]:
    """The module to write, and inputs to trace it with: the longest texts, since a length of 1 would become static."""
    examples, batch = held.examples, _few(held)
    if not held.pixels:
        return model, bare_inputs(batch.inputs)[0]
    return FromPixels(model, presentation_of(model) or examples.presentation).eval(), pixels_of(
        batch, plain_view(examples, model)
    )


def _few(held: Held) -> Batch:
    """A few examples; the longest of texts."""
    examples = held.examples
    largest = examples.largest(_TRACED)
    return examples.batch(torch.arange(min(_TRACED, len(examples))) if largest is None else largest[:_TRACED])


def _calibrating(model: nn.Module, examples: Examples, held: Held) -> Callable[[], Iterator[Inputs]]:
    """Make a function that gives batches of calibration examples."""
    if examples.digest == held.examples.digest:
        raise ConfigError("the calibration examples are those that the files are evaluated on: give others")
    shown = shown_to(model, examples.without_labels())
    rows = permutation(len(shown), seed=0, epoch=0)[:_CALIBRATED]

    def batches() -> Iterator[Inputs]:
        for part in torch.split(rows, _TOGETHER):
            batch = shown.batch(part)
            yield pixels_of(batch, plain_view(shown, model)) if held.pixels else bare_inputs(batch.inputs)[0]

    return batches


def _finetuning(model: nn.Module, examples: Examples, held: Held, epochs: int) -> Finetuning:
    """All training examples, shuffled each epoch, for fine-tuning."""
    shown = shown_to(model, examples.without_labels())
    if isinstance(presentation_of(model) or shown.presentation, ManyLabels):
        raise ConfigError("finetune_epochs is for models with one answer per example: leave it out")

    def batches(epoch: int) -> Iterator[Inputs]:
        for part in torch.split(permutation(len(shown), seed=0, epoch=epoch), _STEP):
            batch = shown.batch(part)
            yield pixels_of(batch, plain_view(shown, model)) if held.pixels else bare_inputs(batch.inputs)[0]

    return Finetuning(epochs, -(-len(shown) // _STEP), batches)


def _has_pixels(examples: Examples, model: nn.Module) -> bool:
    seen = presentation_of(model) or examples.presentation
    return isinstance(seen, ImagePresentation) or (seen is None and examples.kind == "uint8 images")


def _presentation(model: nn.Module, held: Held) -> Any:
    """The model's presentation; images in memory as pixels on [0, 1] of their own size."""
    examples = held.examples
    seen = presentation_of(model) or examples.presentation
    if seen is None and examples.kind == "uint8 images" and len(examples.shape) == 3 and examples.shape[0] in {1, 3}:
        channels, height, width = examples.shape
        return ImagePresentation.plain((height, width), channels=channels)
    return seen


def _card(
    model: nn.Module,
    data: Any,
    classes: Sequence[str] | None,
    held: Held,
    metrics: Mapping[str, Any],
    source: str | Path | None,
    temperature: float | None,
) -> Card:
    """The model card; the number of classes is found by running the model."""
    few = dataclasses.replace(held.examples.take(held.rows[:1]), labels=None)
    _, answers = next(answers_in_blocks(model, few))
    known = classes if classes is not None else data.outputs if isinstance(data, DataSet) else None
    known = known if known is not None else named_classes(model)
    if known is None:
        known = [str(number) for number in range(answers.shape[1])]
    elif not isinstance(presentation_of(model) or held.examples.presentation, ManyLabels):
        if len(known) != answers.shape[1]:
            raise MismatchError(f"the model outputs {answers.shape[1]} classes, and {len(known)} are named")
    digests = {name: part.digest for name, part in data.parts().items()} if isinstance(data, DataSet) else {}
    folder = None if source is None else RunFolder(source)
    settings = folder.config() if folder is not None and (folder.path / "config.toml").exists() else {}
    named = tuple(map(str, known))
    title = title_of(model.model if isinstance(model, Tempered) else model)
    return Card(title, named, metrics, digests, settings, str(source or ""), temperature=temperature)


def _ship(
    exporter: Exporter,
    folder: Path,
    subject: nn.Module,
    model: nn.Module,
    example: Inputs,
    held: Held,
    card: Card,
    margin: float | None,
    progress: Callable[[int, int], None] | None,
) -> Parity:
    """Write one file and check it."""
    path = folder / (f"model{exporter.suffix}" if exporter.suffix else exporter.name)
    try:
        noted = exporter.write(subject, example, path, card)
    except OSError as error:  # of libraries that write by themselves
        raise RunError(f"cannot write {path.name} into {folder.parent}: {why(error)}") from error
    try:
        return judge_file(exporter, path, model, held, noted=noted, margin=margin, progress=progress)
    except FormatError as error:
        raise ParityError(f"the written {exporter.name} file cannot be opened: {error}") from error


def _refused(
    refused: Sequence[Parity], report: Path, tunable: Set[str], *, kept: Mapping[str, Path] | None = None
) -> str:
    """What was refused, where the report is, and what would help."""
    said = "; ".join(f"{each.name}: {'; '.join(each.refused).removesuffix('.')}" for each in refused)
    rounds = any(each.name in tunable for each in refused)
    more = "fine-tune the network that rounds by finetune_epochs (--finetune-epochs), " if rounds else ""
    cure = f"; {more}compare on more examples, or allow a wider margin (--margin)"
    cure = "" if all(each.ours for each in refused) else cure
    files = ", ".join(str(path) for path in (kept or {}).values())
    rest = f"{files} {'are' if len(kept or {}) > 1 else 'is'} kept" if kept else "no model is kept"
    return f"the export is refused, and {rest}: {said}; see {report}{cure}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _beside(place: Path) -> Path:
    try:
        return make_beside(place)
    except OSError as error:
        raise RunError(f"cannot write into {place.parent}: {why(error)}") from error


def _put(fresh: Path, place: Path) -> None:
    """Rename the finished folder to its place."""
    files = [path.relative_to(fresh).as_posix() for path in sorted(fresh.rglob("*")) if path.is_file()]
    seal_files(fresh, files)
    try:
        os.replace(fresh, place)
        sync_folder(place.parent)
    except OSError as error:
        raise RunError(f"cannot write {place}: {why(error)}") from error


def _keep_report(fresh: Path, place: Path) -> Path:
    """Keep only the report, in a folder beside: it shows why the export was refused."""
    kept = make_folder(place.with_name(f"{place.name}.refused"))
    for name in ("parity.json", "parity.html"):
        replace_bytes(kept / name, (fresh / name).read_bytes())
    return kept / "parity.html"
