"""Read a network of any format, and write it in any other."""

__all__ = ["Format", "Network", "format_of_name", "read_network", "write_network"]

from pathlib import Path
from typing import Literal, NamedTuple, get_args

from limbeck.errors import ConfigError, FormatError, RunError
from limbeck.formats.keras_h5 import read_keras_h5, write_keras_h5
from limbeck.kaldi.convert.dense import dense_from_nnet, nnet_from_dense
from limbeck.kaldi.convert.runs import nnet_from_run, write_run
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet, write_nnet
from limbeck.kaldi.formats.nnet1_record import read_nnet_safetensors, write_nnet_safetensors
from limbeck.kaldi.formats.sniff import FileKind, identify

Format = Literal["binary", "text", "legacy", "hdf5", "safetensors", "run"]

_SUFFIXES: dict[str, Format] = {
    ".nnet": "binary",
    ".bin": "binary",
    ".feature_transform": "binary",
    ".txt": "text",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".safetensors": "safetensors",
    "": "run",
}
_FORMATS: dict[FileKind, Format] = {
    "nnet1 binary": "binary",
    "nnet1 text": "text",
    "nnet1 legacy": "legacy",
    "hdf5": "hdf5",
    "safetensors": "safetensors",
    "run": "run",
    "ensemble": "run",
}


class Network(NamedTuple):
    """A network that was read.

    Attributes:
        nnet: The network.
        format: What it was read from.
        notes: What was left out or assumed, in words.
    """

    nnet: Nnet
    format: Format
    notes: tuple[str, ...]


def format_of_name(path: str | Path) -> Format:
    """The format that a file's name asks for.

    Args:
        path: The file to be, or a folder: a name without a dot.

    Returns:
        The format.

    Raises:
        ConfigError: If its suffix says nothing.

    Example:
        >>> format_of_name("exp/final.nnet.txt"), format_of_name("final.h5"), format_of_name("runs/student")
        ('text', 'hdf5', 'run')
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(name for name in _SUFFIXES if name)
        raise ConfigError(
            f"the name {path} says no format (known are {known}, and a name without a dot for a run's folder): give "
            f"--to {', '.join(get_args(Format))}"
        )
    return _SUFFIXES[suffix]


def read_network(path: str | Path, *, activation: str | None = None) -> Network:
    """Read a network; what it is is detected from the magic bytes.

    Args:
        path: An nnet1 file (binary, text, older text), an HDF5 file of dense layers, a safetensors file, or the folder
            of a run.
        activation: What follows the hidden layers of an HDF5 file that does not say so.

    Returns:
        The network.

    Raises:
        FormatError: If it is not a network, or is damaged.
        ConfigError: If the activation is needed and not given.
    """
    kind = identify(path)
    found = _FORMATS.get(kind)
    if kind in ("nnet3", "nnet3 model"):
        raise FormatError(path, "is an nnet3 network, which stays one: limbeck kaldi nnet3-copy writes it anew")
    if found is None:
        raise FormatError(path, f"is not a network: it looks like {_articled(kind)}")
    notes: list[str] = []
    wanted = False
    if found == "hdf5":
        layers = read_keras_h5(path)
        wanted = any(layer.activation is None for layer in layers[:-1])
        nnet = nnet_from_dense(layers, activation=activation)
        if layers[-1].activation != "softmax":
            notes.append("the last layer gets a <Softmax>")
    elif found == "safetensors":
        nnet = read_nnet_safetensors(path)
    elif found == "run":
        nnet, notes = nnet_from_run(path)
    else:
        nnet = read_nnet(path)
    if activation is not None and not wanted:
        notes.append(f"the activation {activation} is not used: {path} says itself what follows its layers")
    return Network(nnet, found, tuple(notes))


def write_network(path: str | Path, nnet: Nnet, format: Format, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a network, whole or not at all.

    Args:
        path: The file or folder; the folder above it must exist.
        nnet: The network.
        format: "binary" and "text" are Kaldi's own, and the network is made what stock Kaldi has
            (:meth:`~limbeck.kaldi.formats.nnet1.Nnet.for_kaldi`); "legacy" is the older text; "hdf5",
            "safetensors", "run".
        overwrite: Whether a file that is there may be replaced; a folder never is.

    Returns:
        What the format has no place for, a note each.

    Raises:
        RunError: If the path is taken, or cannot be written.
        DataError: If the format has no form for the network.
    """
    target = Path(path)
    if target.exists() and not (overwrite and target.is_file()):
        cure = "choose another name" if target.is_dir() else "choose another name, or give --overwrite"
        raise RunError(f"{target} exists already: {cure}")
    notes: list[str] = []
    if format == "run":
        write_run(target, nnet)
    elif format == "safetensors":
        write_nnet_safetensors(target, nnet)
    elif format == "hdf5":
        write_keras_h5(target, dense_from_nnet(nnet))
        notes += _forgotten(nnet)
    elif format == "legacy":
        kept = tuple(part for part in nnet.components if not isinstance(part, nc.Dropout))
        write_nnet(target, Nnet(kept), dialect="legacy")
        notes += _forgotten(nnet)
    else:
        write_nnet(target, nnet.for_kaldi(), dialect=format)
    return tuple(notes)


def _forgotten(nnet: Nnet) -> list[str]:
    notes = []
    if any(isinstance(part, nc.Dropout) for part in nnet.components):
        notes.append("dropout is left out: it has a part in training only")
    rates = (getattr(part, name, 1.0) for part in nnet.components for name in ("learn_rate", "bias_learn_rate"))
    if any(rate != 1.0 for rate in rates) or any(getattr(part, "max_norm", 0.0) for part in nnet.components):
        notes.append("learning-rate factors and norm limits are left out: the format has no place for them")
    return notes


def _articled(kind: FileKind) -> str:
    words = {
        "matrices": "an archive of matrices",
        "vectors": "an archive of vectors",
        "integers": "an archive of integers, such as alignments",
        "posteriors": "an archive of posteriors",
        "scp": "a script file",
        "store": "a store of soft targets",
        "counts": "a vector of counts",
        "fst": "an OpenFst graph",
        "graphs": "an archive of graphs",
        "lattices": "an archive of lattices",
        "words": "a table of words",
    }
    return words.get(kind, f"a {kind}")
