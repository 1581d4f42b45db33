"""``limbeck soften``."""

__all__ = ["soften"]

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.common import Config, Data, Json, Out, Quiet, Views, open_examples
from limbeck.cli.console import Bar, print_json, print_text, say
from limbeck.options import Augmentation, DataOptions

if TYPE_CHECKING:
    from limbeck.protocols import Teacher

_STORE = Parameter(group="Store")


def soften(
    *,
    out: Out,
    teacher: Annotated[list[Path] | None, Parameter(group="Teacher")] = None,
    posteriors: Annotated[Path | None, Parameter(group="Teacher")] = None,
    from_file: Annotated[Path | None, Parameter(group="Teacher")] = None,
    answers: Annotated[Literal["auto", "probs", "log_probs", "logits"], Parameter(group="Teacher")] = "auto",
    index_column: Annotated[str | None, Parameter(group="Teacher")] = None,
    mean: Annotated[Literal["arithmetic", "geometric"], Parameter(group="Teacher")] = "arithmetic",
    weights: Annotated[list[float] | None, Parameter(group="Teacher")] = None,
    teacher_model: Annotated[str | None, Parameter(group="Teacher")] = None,
    data: Data = DataOptions(),  # noqa: B008
    augmentation: Views = Augmentation(),  # noqa: B008
    encoding: Annotated[Literal["dense", "topk", "sampled"] | None, _STORE] = None,
    dtype: Annotated[Literal["float16", "float32"] | None, _STORE] = None,
    k: Annotated[int | None, _STORE] = None,
    draws: Annotated[int | None, _STORE] = None,
    temperature: Annotated[float | None, _STORE] = None,
    write_posteriors: Annotated[Path | None, _STORE] = None,
    min_post: Annotated[float | None, _STORE] = None,
    verify: Annotated[bool, Parameter(group="Store", negative=())] = False,
    device: Annotated[str, Parameter(group="Run")] = "auto",
    precision: Annotated[Literal["auto", "float32", "bf16"], Parameter(group="Run")] = "auto",
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Ask a teacher about the training set once, and keep its answers for any number of students.

    A write that was stopped is continued by the same command. The validation set is left out, so give the same
    --data and --validation to limbeck distill --teacher-targets.

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
        teacher: Folder of a run; several make an ensemble.
        out: Folder for the store.
        posteriors: Instead of a teacher: a Kaldi archive (or .scp) of posteriors that somebody else wrote, a matrix an
            utterance or Kaldi's sparse Posterior, which are told apart. With --temperature they hold for that one
            alone; without, they are one network's at T = 1.
        from_file: Instead of a teacher: a file of answers that exist already, a row for each example at T = 1. An .npy
            array; an .npz archive with probs, log_probs or logits, and ids for the top k; or a CSV or parquet table
            with a column for each class under its name, or class_1, prob_1, class_2, ... for the top k.
        answers: What the numbers of --from-file are; "auto": as they are named there, or else as they sum.
        index_column: The column, or array, of --from-file with the number or name of each row's example: the file of
            an image, or what --id-column has. None: its column "index", that of --id-column or "id", where there is
            one, or else rows are in the order of the data.
        mean: How several teachers' distributions are averaged. An arithmetic mean needs a temperature.
        weights: How much each teacher counts in the mean; default: all alike.
        teacher_model: The teachers' architecture where it is your own, as package.module:function.
        encoding: "dense"; "topk", which keeps the likeliest classes and the mass of the rest; or "sampled". Default:
            dense, and topk for top-k answers of --from-file.
        dtype: Numbers of a dense store; default float16.
        k: Classes that topk keeps.
        draws: Classes drawn for each example, for sampled.
        temperature: The only temperature that the targets will hold for; none: they serve every temperature.
        write_posteriors: Also write the posteriors of each utterance as a Kaldi archive, at --temperature or T = 1.
        min_post: Write them as Kaldi's sparse Posterior, with the pdfs of at least this probability, as prob-to-post
            --min-post; left out: matrices.
        verify: Check every byte of the store after writing.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "bf16", "float32", or "auto": measured when the store is begun, and kept in its manifest.
        config: A TOML file with any of these settings; flags win.
        quiet: No progress bar.
        json: Print the fidelity card as JSON.
    """
    from limbeck.errors import ConfigError
    from limbeck.runs.inputs import load_teacher, options_as_trained
    from limbeck.runs.named_models import require_models
    from limbeck.runs.posteriors import Posteriors
    from limbeck.runs.posteriors import write_posteriors as archive
    from limbeck.softtargets import SoftTargets
    from limbeck.softtargets.answer_files import read_answers
    from limbeck.softtargets.softening import precision_of
    from limbeck.system.devices import find_device
    from limbeck.system.processes import is_first
    from limbeck.teachers import as_teacher

    if augmentation.active and augmentation.views is None:
        raise ConfigError("random views that are kept have to be counted: give --views, such as --views 8")
    if sum(given is not None for given in (teacher, posteriors, from_file)) != 1:
        raise ConfigError("give one of --teacher, --posteriors and --from-file")
    if from_file is None and (answers != "auto" or index_column is not None):
        raise ConfigError(f"{'--index-column' if answers == 'auto' else '--answers'} belongs to --from-file: give both")
    if from_file is not None and augmentation.active:
        raise ConfigError("--from-file holds answers to the examples as they are: leave the random views out")
    if min_post is not None and write_posteriors is None:
        raise ConfigError("--min-post belongs to --write-posteriors: give both")
    if posteriors is not None and write_posteriors is not None:
        raise ConfigError("--posteriors are in an archive already: leave --write-posteriors out")
    place = find_device(device, precision_of(out) if precision == "auto" else precision)
    if teacher is not None:
        data = options_as_trained(require_models(data, teachers=teacher, own=teacher_model), teacher[0], context=True)
    examples = open_examples(data, quiet=quiet)
    guide: Teacher
    if posteriors is not None:
        guide = as_teacher(Posteriors(posteriors, examples, temperature=temperature, allow_pipes=data.allow_pipes))
    elif from_file is not None:
        saved = read_answers(
            from_file,
            classes=examples.outputs,
            kind=None if answers == "auto" else answers,
            index_column=index_column,
            id_column=data.id_column,
            several=examples.outputs != examples.classes,
        )
        if not quiet:
            say(saved.describe())
        guide = saved.teacher(examples)
        if encoding is None and k is None and saved.k is not None and saved.k < len(examples.classes):
            encoding, k = "topk", saved.k
    else:
        guide = load_teacher(teacher or [], mean=mean, weights=weights, own=teacher_model, data=examples, reading=data)
    guide = guide.to(place.device)
    with Bar("softening", quiet=quiet) as bar:
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
            progress=bar.show,
        )
    if not is_first():
        return
    if write_posteriors is not None:
        with Bar("writing", quiet=quiet) as bar:
            used = 1.0 if temperature is None else temperature
            archive(
                write_posteriors,
                guide,
                examples,
                temperature=used,
                device=place,
                least=min_post,
                progress=bar.show,
            )
    if verify:
        SoftTargets.open(out, examples=examples.train).verify()
    if json:
        print_json(card.to_dict())
        return
    print_text(str(card))
    say(f"The soft targets are in {out}")
