"""The process that reads an HDF5 file for :mod:`limbeck.formats.keras_h5`:  python -m ... FILE BYTES."""

import sys

from limbeck.errors import FormatError
from limbeck.formats._subprocess import answer_apart, limit_memory
from limbeck.formats.keras_h5 import read_here


def main() -> None:
    """Read the file, and write its layers or the error."""
    path, octets = sys.argv[1:]
    limit_memory(int(octets))
    try:
        layers = read_here(path)
    except FormatError as error:
        answer_apart(error.reason)
    except MemoryError:
        answer_apart("needs more memory than a file of its size can")
    else:
        answer_apart(
            [
                (
                    {"name": layer.name, "activation": layer.activation},
                    [value for value in (layer.kernel, layer.bias) if value is not None],
                )
                for layer in layers
            ]
        )


if __name__ == "__main__":
    main()
