"""``limbeck data``."""

__all__ = ["data"]

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from limbeck.cli.common import Json
from limbeck.cli.console import print_json, print_rows, say
from limbeck.options.kinds import DATA_KINDS
from limbeck.system.extras import entry_points

if TYPE_CHECKING:
    from limbeck.data.examples import Examples


def data(
    source: Annotated[str | None, Parameter(help="A data set to describe; default: list the kinds.")] = None,
    /,
    *,
    image_size: int | None = None,
    layout: Literal["NCHW", "NHWC"] | None = None,
    text_column: str | None = None,
    words_column: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    label_columns: tuple[str, ...] | None = None,
    label_separator: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    category_columns: tuple[str, ...] | None = None,
    leave_out: tuple[str, ...] | None = None,
    validation_data: str | None = None,
    test_data: str | None = None,
    json: Json = False,
) -> None:
    """Describe a data set, or list the supported kinds.

    ```
    limbeck data
    limbeck data mnist
    limbeck data pictures/ --image-size 32 --json
    limbeck data reviews.csv --text-column text --label-column stars
    limbeck data customers.csv --label-column tags --label-separator ";" --leave-out name
    ```

    Args:
        source: A data set to describe; default: list the kinds.
        image_size: Resize a folder's images to this many pixels, square.
        layout: Axes of the images in an .npz file: NHWC or NCHW.
        text_column: In CSV, JSON lines or parquet, the column of the texts.
        words_column: In CSV, JSON lines or parquet, the column of lists of words.
        image_column: In CSV, JSON lines or parquet, the column of paths of images.
        label_column: The column of the labels.
        label_columns: Columns of 0 and 1, one per label.
        label_separator: What separates several labels in the label column.
        group_column: A column of groups, such as authors.
        id_column: A column that identifies the rows.
        category_columns: Columns of a table whose numbers are categories, such as postcodes, and not quantities.
        leave_out: Columns of a table to ignore.
        validation_data: A file of validation examples.
        test_data: A file of test examples.
        json: Print the description as JSON.
    """
    if source is None:
        told = list(DATA_KINDS.values())
        if entry_points(group="limbeck.sources"):  # kinds of other packages may import anything
            from limbeck.data.registry import kinds

            told = [kind.what for kind in kinds()]
        if json:
            print_json(dict(told))
        else:
            print_rows(("--data", "what it is"), told)
        return
    from limbeck.data import open_data

    found = open_data(
        source,
        image_size=image_size,
        layout=layout,
        text_column=text_column,
        words_column=words_column,
        image_column=image_column,
        label_column=label_column,
        label_columns=label_columns,
        label_separator=label_separator,
        group_column=group_column,
        id_column=id_column,
        category_columns=category_columns,
        leave_out=leave_out,
        validation_data=validation_data,
        test_data=test_data,
    )
    for note in found.notes:
        say(note)
    if json:
        print_json(found.describe())
        return
    if found.outputs != found.classes:
        counts = {name: _label_counts(part, len(found.outputs)) for name, part in found.parts().items()}
        known = f"{len(found.outputs)} labels (multi-label)"
    else:
        counts = {name: part.class_counts(len(found.classes)) for name, part in found.parts().items()}
        known = f"{len(found.classes)} classes"
    shape = "x".join(str(size) for size in found.train.shape)
    totals = ", ".join(f"{len(part):,} {name}" for name, part in found.parts().items())
    print_rows(
        (f"{found.name}: {known}, examples of {shape}, {totals}", *counts),
        [(name, *(f"{column[k]:,}" for column in counts.values())) for k, name in enumerate(found.outputs)],
    )


def _label_counts(part: "Examples", labels: int) -> list[int]:
    """The number of examples with each label."""
    assert part.labels is not None, "labels were read"
    which: Any = part.inputs
    return [int(part.labels[which.which == label].sum()) for label in range(labels)]
