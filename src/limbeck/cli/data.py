"""``limbeck data``."""

__all__ = ["data"]

from importlib.metadata import entry_points
from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.common import Json
from limbeck.cli.console import print_json, print_rows, say
from limbeck.options.kinds import DATA_KINDS


def data(
    source: Annotated[str | None, Parameter(help="A data set to describe; leave out to list the kinds.")] = None,
    /,
    *,
    image_size: int | None = None,
    layout: Literal["NCHW", "NHWC"] | None = None,
    json: Json = False,
) -> None:
    """List the data sets there are, or describe one.

    ```
    limbeck data
    limbeck data mnist
    limbeck data pictures/ --image-size 32 --json
    ```

    Args:
        source: A data set to describe; leave out to list the kinds.
        image_size: Resize a folder's images to this many pixels, square.
        layout: Where images in an .npz file have their channels: NHWC on the last axis, NCHW on the second.
        json: Print the description as JSON.
    """
    if source is None:
        told = list(DATA_KINDS.values())
        if entry_points(group="limbeck.sources"):  # kinds of other packages, which may import anything
            from limbeck.data.registry import kinds

            told = [kind.what for kind in kinds()]
        if json:
            print_json(dict(told))
        else:
            print_rows(("--data", "what it is"), told)
        return
    from limbeck.data import open_data

    found = open_data(source, image_size=image_size, layout=layout)
    for note in found.notes:
        say(note)
    if json:
        print_json(found.describe())
        return
    counts = {name: part.class_counts(len(found.classes)) for name, part in found.parts().items()}
    shape = "x".join(str(size) for size in found.train.shape)
    totals = ", ".join(f"{len(part):,} {name}" for name, part in found.parts().items())
    print_rows(
        (f"{found.name}: {len(found.classes)} classes, examples of {shape}, {totals}", *counts),
        [(name, *(f"{column[k]:,}" for column in counts.values())) for k, name in enumerate(found.classes)],
    )
