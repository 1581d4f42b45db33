"""``limbeck soften``."""

__all__ = ["soften"]

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.common import GROUPS, Config, Data, Json, Out, Quiet, Views, open_examples
from limbeck.cli.console import print_json, print_text, say
from limbeck.cli.distillation_inputs import tell_unused_of_teachers
from limbeck.cli.kaldi import archive_to_write
from limbeck.errors import ConfigError, RunError
from limbeck.options import Augmentation, DataOptions
from limbeck.system.files import read_json
from limbeck.system.progress import counting

if TYPE_CHECKING:
    from limbeck.data import DataSet
    from limbeck.protocols import Teacher
    from limbeck.system.devices import Device

_STORE = Parameter(group=GROUPS["Store"])


def soften(
    *,
    out: Out,
    teacher: Annotated[list[Path] | None, Parameter(group=GROUPS["Teacher"])] = None,
    posteriors: Annotated[str | None, Parameter(group=GROUPS["Teacher"])] = None,
    from_file: Annotated[Path | None, Parameter(group=GROUPS["Teacher"])] = None,
    answers: Annotated[Literal["auto", "probs", "log_probs", "logits"], Parameter(group=GROUPS["Teacher"])] = "auto",
    index_column: Annotated[str | None, Parameter(group=GROUPS["Teacher"])] = None,
    mean: Annotated[Literal["arithmetic", "geometric"], Parameter(group=GROUPS["Teacher"])] = "arithmetic",
    weights: Annotated[list[float] | None, Parameter(group=GROUPS["Teacher"])] = None,
    teacher_model: Annotated[str | None, Parameter(group=GROUPS["Teacher"])] = None,
    data: Data = DataOptions(),  # noqa: B008
    augmentation: Views = Augmentation(),  # noqa: B008
    encoding: Annotated[Literal["dense", "topk", "sampled"] | None, _STORE] = None,
    dtype: Annotated[Literal["float16", "float32"] | None, _STORE] = None,
    k: Annotated[int | None, _STORE] = None,
    draws: Annotated[int | None, _STORE] = None,
    temperature: Annotated[float | None, _STORE] = None,
    write_posteriors: Annotated[str | None, _STORE] = None,
    min_post: Annotated[float | None, _STORE] = None,
    verify: Annotated[bool, Parameter(group=GROUPS["Store"], negative=())] = False,
    device: Annotated[str, Parameter(group=GROUPS["Run"])] = "auto",
    precision: Annotated[Literal["auto", "float32", "bf16"], Parameter(group=GROUPS["Run"])] = "auto",
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compute a teacher's soft targets for the training set once, and store them for any number of students.

    The same command resumes after a stop. The validation set is left out, so give the same --data and --validation to
    limbeck distill --teacher-targets.

    ```
    limbeck soften --teacher runs/teacher --out runs/targets
    limbeck soften --data letters.mat --teacher runs/cnn --shift 1 --views 8 --out runs/targets
    limbeck soften --data data/train --ali exp/ali --teacher runs/dnn --write-posteriors post.ark --out runs/targets
    limbeck soften --data data/train --ali exp/ali --posteriors post.ark --encoding topk --k 30 --out runs/targets
    limbeck soften --teacher runs/a runs/b --mean geometric --encoding topk --k 5 --out runs/targets
    limbeck soften --data letters.npz --from-file probabilities.npy --out runs/targets
    limbeck soften --data letters.npz --from-file top5.parquet --index-column example --out runs/targets
    limbeck soften --data photos/ --from-file predictions.csv --out runs/targets
    limbeck soften --data reviews.csv --text-column text --teacher hf:bert-finetuned --out runs/targets
    ```

    Args:
        teacher: A run folder, hf:PATH, timm:PATH, or a .onnx or .skops file; several form an ensemble.
        out: Folder of the store to write.
        posteriors: Instead of a teacher: a Kaldi archive, script file or specifier (ark:-) of existing posteriors, as
            matrices or Kaldi's sparse Posterior (detected). With --temperature they are valid for that temperature
            only; without, they are one network's at T = 1.
        from_file: Instead of a teacher: a file of existing outputs, one row per example at T = 1. An .npy array; an
            .npz archive with probs, log_probs or logits, and ids for the top k; or a CSV or parquet table with a column
            for each class under its name, or class_1, prob_1, class_2, ... for the top k.
        answers: What the values of --from-file are; "auto": by their names in the file, or else by their sums.
        index_column: The column, or array, of --from-file with the number or name of each row's example: an image's
            file name, or its value of --id-column. Default: its column "index", that of --id-column or "id", where
            there is one, or else rows are in the order of the data.
        mean: How several teachers' distributions are averaged. An arithmetic mean needs a temperature.
        weights: Weight of each teacher in the mean; default: equal weights.
        teacher_model: The teachers' architecture if it is your own, as package.module:function.
        encoding: "dense"; "topk", which keeps the top-k classes and the mass of the rest; or "sampled". Default: dense,
            and topk for top-k outputs of --from-file.
        dtype: Data type of a dense store; default float16.
        k: Number of classes that topk keeps.
        draws: Number of classes drawn per example, for sampled.
        temperature: Make the targets valid for this temperature only; default: for every temperature.
        write_posteriors: Also write the posteriors of each utterance as a Kaldi archive, at --temperature or T = 1: a
            path (a script file is written beside it) or a specifier.
        min_post: Write them as Kaldi's sparse Posterior, with the pdfs of at least this probability, as prob-to-post
            --min-post; default: matrices.
        verify: Check every byte of the store after writing.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "bf16", "float32", or "auto": measured when the store is created, and kept in its manifest.
        config: A TOML file with any of these settings; flags override it.
        quiet: No progress bar.
        json: Print the fidelity card as JSON.
    """
    from limbeck.runs.models_for_data import load_teacher, options_as_trained
    from limbeck.runs.named_models import require_models
    from limbeck.softtargets import SoftTargets
    from limbeck.softtargets.softening import precision_of
    from limbeck.system.devices import find_device
    from limbeck.system.processes import is_first

    _refuse(
        augmentation, teacher, posteriors, from_file, answers, index_column, min_post=min_post, archive=write_posteriors
    )
    if write_posteriors is not None:
        _refuse_archive(write_posteriors, out, pipes=_may_run(data))
    _refuse_mean(teacher or [], mean, temperature, encoding)
    tell_unused_of_teachers(teacher, mean=mean, weights=weights, own=teacher_model, instead="the outputs are in a file")
    place = find_device(device, precision_of(out) if precision == "auto" else precision)
    if teacher is not None:
        data = options_as_trained(require_models(data, teachers=teacher, own=teacher_model), teacher[0], context=True)
    examples = open_examples(data, quiet=quiet)
    guide: Teacher
    if posteriors is not None:
        guide = _posteriors(posteriors, examples, temperature, data)
    elif from_file is not None:
        guide, kept = _saved(from_file, examples, answers, index_column, data.id_column, quiet=quiet)
        if encoding is None and k is None and kept is not None and kept < len(examples.classes):
            encoding, k = "topk", kept
    else:
        guide = load_teacher(teacher or [], mean=mean, weights=weights, own=teacher_model, data=examples, reading=data)
    guide = guide.to(place.device)
    with counting("softening", not quiet) as show:
        card = SoftTargets.write(
            out,
            guide,
            examples.train,
            classes=examples.classes,
            augmentation=dataclasses.replace(augmentation),
            encoding=encoding or ("dense" if k is None else "topk"),
            k=k,
            draws=draws,
            dtype=dtype,
            temperature=temperature,
            device=place,
            progress=show,
        )
    if not is_first():
        return
    if write_posteriors is not None:
        _archive(write_posteriors, guide, examples, temperature, place, min_post, pipes=_may_run(data), quiet=quiet)
    if verify:
        SoftTargets.open(out, examples=examples.train).verify()
    if json:
        print_json(card.to_dict())
        return
    print_text(str(card))
    say(f"The soft targets are in {out}")


def _refuse(
    augmentation: Augmentation,
    teacher: list[Path] | None,
    posteriors: str | None,
    from_file: Path | None,
    answers: str,
    index_column: str | None,
    *,
    min_post: float | None,
    archive: str | None,
) -> None:
    """Refuse flags that contradict each other."""
    if augmentation.active and augmentation.views is None:
        raise ConfigError("a store holds a fixed number of augmented views: give --views, such as --views 8")
    if sum(given is not None for given in (teacher, posteriors, from_file)) != 1:
        raise ConfigError("give one of --teacher, --posteriors and --from-file")
    if from_file is None and (answers != "auto" or index_column is not None):
        raise ConfigError(f"{'--index-column' if answers == 'auto' else '--answers'} belongs to --from-file: give both")
    if from_file is not None and augmentation.active:
        raise ConfigError("--from-file holds outputs for the unaugmented examples: leave the augmentation out")
    if min_post is not None and archive is None:
        raise ConfigError("--min-post belongs to --write-posteriors: give both")
    if posteriors is not None and archive is not None:
        raise ConfigError("--posteriors are in an archive already: leave --write-posteriors out")


def _refuse_archive(given: str, out: Path, *, pipes: bool) -> None:
    """Refuse to replace files by posteriors, except where the same command wrote them: then the store is there too."""
    target = archive_to_write(given, overwrite=True, allow_pipes=pipes)
    begun = out.is_dir() and any(out.iterdir())
    files = [target.script] if target.writing.is_pipe else [Path(target.writing.archive), target.script]
    if target.writing.archive == given:  # a plain path, which gets a script file
        files = [Path(given), Path(given).with_suffix(".scp")]
    taken = next((path for path in files if path is not None and path.is_file()), None)
    if taken is not None and not begun:
        raise RunError(f"{taken} exists already: give --write-posteriors another name, and nothing there is changed")


def _refuse_mean(teachers: list[Path], mean: str, temperature: float | None, encoding: str | None) -> None:
    """Refuse an arithmetic mean without a temperature before anything is read."""
    if temperature is not None or encoding == "sampled":  # sampling draws at T = 1
        return
    kinds = [mean] if len(teachers) > 1 else []
    for teacher in teachers:
        listed = read_json(teacher / "ensemble.json") if (teacher / "ensemble.json").is_file() else None
        if isinstance(listed, dict) and listed.get("members") != 1:
            kinds.append(str(listed.get("mean")))
    if "arithmetic" in kinds:
        raise ConfigError(
            "the soft targets of an arithmetic mean depend on the temperature: give --temperature, or --mean "
            "geometric, which serves every temperature"
        )


def _saved(
    path: Path,
    examples: "DataSet",
    answers: Literal["auto", "probs", "log_probs", "logits"],
    index_column: str | None,
    id_column: str | None,
    *,
    quiet: bool,
) -> tuple["Teacher", int | None]:
    """A file of outputs as a teacher, and its number of classes per example, None for all."""
    from limbeck.softtargets.answer_files import read_answers

    kind = None if answers == "auto" else answers
    saved = read_answers(
        path,
        classes=examples.outputs,
        kind=kind,
        index_column=index_column,
        id_column=id_column,
        several=examples.outputs != examples.classes,
    )
    if not quiet:
        say(saved.describe())
    return saved.teacher(examples), saved.k


def _posteriors(path: str, examples: "DataSet", temperature: float | None, options: DataOptions) -> "Teacher":
    """A Kaldi archive of posteriors as a teacher."""
    from limbeck.kaldi.posteriors import Posteriors
    from limbeck.teachers import as_teacher

    return as_teacher(Posteriors(path, examples, temperature=temperature, allow_pipes=_may_run(options)))


def _may_run(options: DataOptions) -> bool:
    """Whether commands of specifiers and script files may run."""
    return bool(getattr(options, "allow_pipes", False))


def _archive(
    path: str,
    guide: "Teacher",
    examples: "DataSet",
    temperature: float | None,
    place: "Device",
    least: float | None,
    *,
    pipes: bool,
    quiet: bool,
) -> None:
    """Write the teacher's posteriors as a Kaldi archive; for a plain path also a script file."""
    from limbeck.kaldi.posteriors import write_posteriors

    used = 1.0 if temperature is None else temperature
    target = archive_to_write(path, overwrite=True, allow_pipes=pipes)
    if target.writing.archive == path:  # a plain path
        target = archive_to_write(path, Path(path).with_suffix(".scp"), overwrite=True)
    writer = target.open()
    with counting("writing", not quiet) as show:
        write_posteriors(writer, guide, examples, temperature=used, device=place, least=least, progress=show)
