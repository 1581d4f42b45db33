"""``limbeck convert``."""

__all__ = ["convert"]

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.console import print_text, say
from limbeck.cli.kaldi import Overwrite


def convert(
    source: Annotated[Path, Parameter(help="A network: nnet1, HDF5, safetensors, or a run folder.")],
    target: Annotated[Path, Parameter(help="The file or folder to write.")],
    /,
    *,
    to: Literal["binary", "text", "legacy", "hdf5", "safetensors", "run"] | None = None,
    activation: Literal["relu", "sigmoid", "tanh", "linear"] | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a network to another format.

    The format of the source is detected from its content. Kaldi's formats get what stock Kaldi reads: a ReLU becomes a
    `<ParametricRelu>` with slopes 1 and 0, an affine transform with zero bias before an identity a
    `<LinearTransform>`. A run's network, which outputs logits, gets a `<Softmax>`.

    ```
    limbeck convert final.nnet final.nnet.txt
    limbeck convert runs/student student.nnet
    limbeck convert final.nnet runs/teacher
    limbeck convert weights.h5 final.nnet --activation sigmoid
    limbeck convert final.nnet old.txt --to legacy
    ```

    Args:
        source: A network: nnet1 (binary, text, older text), HDF5, safetensors, or a run folder.
        target: The file or folder to write.
        to: The format; default: by the extension of the target: .nnet and .bin binary, .txt text, .h5 HDF5 in Keras's
            layout, .safetensors, and no extension a run folder.
        activation: The activation of the hidden layers of an HDF5 file that does not name it.
        overwrite: Replace the file if it exists; a folder is never replaced.
    """
    from limbeck.kaldi.convert import format_of_name, read_network, write_network

    form = to or format_of_name(target)
    network = read_network(source, activation=activation)
    notes = network.notes + write_network(target, network.nnet, form, overwrite=overwrite)
    for note in dict.fromkeys(notes):
        say(f"note: {note}")
    print_text(f"{target}: {form}, {network.nnet.input_dim:,} inputs, {network.nnet.output_dim:,} outputs")
