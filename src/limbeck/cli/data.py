"""``limbeck data``."""

__all__ = ["data"]

from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.common import Json
from limbeck.cli.console import print_json, print_rows, say

_KINDS = (
    ("mnist", "60,000 and 10,000 digits, 28x28; inside the package"),
    ("FILE.mat", "any split of EMNIST in its official layout"),
    ("FILE.npz", "arrays x and y, or x_train, val_images, test_labels and the like; and classes, where there are"),
    ("FOLDER of IDX files", "the four files of MNIST, Fashion-MNIST, EMNIST, ...; gzipped or not"),
    ("FOLDER of images", "one sub-folder for each class; or train, val and test folders of such"),
    ("Kaldi data directory", "feats.scp, with cmvn.scp and utt2spk where there are; alignments by --ali"),
)


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
        if json:
            print_json(dict(_KINDS))
        else:
            print_rows(("--data", "what it is"), _KINDS)
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
