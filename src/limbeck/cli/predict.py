"""``limbeck predict``."""

__all__ = ["predict"]

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.common import Quiet
from limbeck.cli.console import Bar, say


def predict(
    run: Annotated[Path, Parameter(help="Folder of a run, or of a model.")],
    data: Annotated[str, Parameter(help="What is asked about: labels are not needed.")],
    /,
    *,
    out: Path | None = None,
    top: int | None = None,
    id_column: str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    words_column: str | None = None,
    next_token: Annotated[bool, Parameter(negative=())] = False,
    image_column: str | None = None,
    image_size: int | None = None,
    layout: Literal["NCHW", "NHWC"] | None = None,
    calibrate: Annotated[bool, Parameter(negative=())] = False,
    temperature: float | None = None,
    model: str | None = None,
    device: str = "auto",
    quiet: Quiet = False,
) -> None:
    """Label new examples: classes and their probabilities, to CSV, parquet or JSON lines.

    Examples are read as the run's own were: a folder of images (resized as the model sees them), a table (encoded as
    the training rows were), texts, words, or an .npz file with x. Columns are those that the run was trained on, where
    no flag says otherwise. Each row has the name of its file, what the id column has, or its number; of words the
    number of the sentence and the place in it, such as 12:3.

    ```
    limbeck predict runs/student photos/ --out predictions.csv
    limbeck predict runs/table new.parquet --id-column customer --out predictions.parquet
    limbeck predict runs/tagger new.conll --out tags.jsonl
    limbeck predict runs/student new.npz --top 5 --out predictions.jsonl
    limbeck predict runs/student new.npz --calibrate | head
    ```

    Args:
        run: Folder of a run, or of a model.
        data: A folder of images, a table, a file of texts, or an .npz file.
        out: A .csv, .parquet or .jsonl file; none: CSV on the standard output.
        top: Write this many of the likeliest classes, in order; none: the probability of every class.
        id_column: The column that names the rows; none: they are numbered from 0.
        text_column: The column of the texts, for a model of texts; default: as the run's own, or "text".
        pair_column: The column of second texts, for models that answer about two.
        words_column: The column of lists of words, for a model of words; default: as the run's own, or "tokens".
        next_token: Ask a model of texts for the next token at each position.
        image_column: The column of paths of images, where data is a list of them.
        image_size: Resize images to this many pixels, square, where the model does not say how it sees them.
        layout: Where images in an .npz file have their channels: NHWC on the last axis, NCHW on the second.
        calibrate: Divide logits by the temperature that was fitted on the run's validation set, so that probabilities
            fit how often the model is right; labels stay what they are.
        temperature: Instead: divide them by this number.
        model: The architecture where it is your own, as package.module:function.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        quiet: No progress bar.
    """
    from limbeck.options import DataOptions
    from limbeck.runs.calibrating import temperature_of_run
    from limbeck.runs.predicting import load_own
    from limbeck.runs.predicting import predict as ask
    from limbeck.runs.prediction_files import format_of

    if out is not None:
        format_of(out)  # before anything is read
    options = DataOptions(
        data=data,
        text_column=text_column,
        pair_column=pair_column,
        words_column=words_column,
        next_token=next_token,
        image_column=image_column,
        image_size=image_size,
        layout=layout,
    )
    loaded = run if model is None else load_own(run, model, data, options)
    if calibrate and model is not None and temperature is None:
        temperature, calibrate = temperature_of_run(run), False
    found = ask(
        loaded, data, options=options, id_column=id_column, calibrate=calibrate, temperature=temperature, device=device
    )
    with Bar("predicting", quiet=quiet or out is None) as bar:
        found.write(sys.stdout if out is None else out, top=top, progress=bar.show)
    if out is not None and not quiet:
        say(f"{len(found):,} predictions are in {out}")
