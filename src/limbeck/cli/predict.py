"""``limbeck predict``."""

__all__ = ["predict"]

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.common import Quiet
from limbeck.cli.console import say
from limbeck.system.progress import counting


def predict(
    run: Annotated[Path, Parameter(help="A run folder or a model folder.")],
    data: Annotated[str, Parameter(help="The examples; labels are not needed.")],
    /,
    *,
    out: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
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
    """Predict new examples: classes and probabilities, to CSV, parquet or JSON lines.

    Examples are read like the run's own: a folder of images (resized for the model), a table (encoded like the training
    rows), texts, words, or an .npz file with x. Column names default to those of the run's data. Each row is identified
    by its file name, its value in the id column, or its number; words by the number of the sentence and the position in
    it, such as 12:3.

    ```
    limbeck predict runs/student photos/ --out predictions.csv
    limbeck predict runs/table new.parquet --id-column customer --out predictions.parquet
    limbeck predict runs/tagger new.conll --out tags.jsonl
    limbeck predict runs/student new.npz --top 5 --out predictions.jsonl
    limbeck predict runs/student new.npz --calibrate | head
    ```

    Args:
        run: A run folder or a model folder.
        data: A folder of images, a table, a file of texts, or an .npz file.
        out: A .csv, .parquet or .jsonl file; default: CSV on stdout.
        overwrite: Replace the file if it exists.
        top: Write the top-k classes; default: the probability of every class.
        id_column: The column that identifies the rows; default: they are numbered from 0.
        text_column: The column of the texts, for a model of texts; default: as the run's own, or "text".
        pair_column: The column of second texts, for text-pair models.
        words_column: The column of lists of words, for a model of words; default: as the run's own, or "tokens".
        next_token: Predict the next token at each position.
        image_column: The column of image paths, where data is a list of them.
        image_size: Resize images to this many pixels, square, for models without an input size of their own.
        layout: Axes of the images in an .npz file: NHWC or NCHW.
        calibrate: Temperature scaling, fitted on the run's validation set: probabilities become calibrated; predicted
            classes do not change.
        temperature: Instead of calibrate: divide the logits by this temperature.
        model: The architecture if it is your own, as package.module:function.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        quiet: No progress bar.
    """
    from limbeck.options import DataOptions
    from limbeck.runs.calibrating import temperature_of_run
    from limbeck.runs.predicting import load_own
    from limbeck.runs.predicting import predict as ask
    from limbeck.runs.prediction_files import require_target
    from limbeck.runs.unused import tell_own_unused

    if out is not None:
        require_target(out, overwrite=overwrite, data=data)  # before any data are read
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
    tell_own_unused("--model", model, [run])
    loaded = run if model is None else load_own(run, model, data, options)
    if calibrate and model is not None and temperature is None:
        temperature, calibrate = temperature_of_run(run), False
    found = ask(
        loaded, data, options=options, id_column=id_column, calibrate=calibrate, temperature=temperature, device=device
    )
    with counting("predicting", not quiet and out is not None) as show:
        found.write(sys.stdout if out is None else out, top=top, overwrite=overwrite, progress=show)
    if out is not None and not quiet:
        say(f"{len(found):,} predictions are in {out}")
