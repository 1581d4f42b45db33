"""Whole commands on a few files at once: ``limbeck forward`` and ``limbeck decode``, in this process.

An input is a bundle: names and contents one after the other, so that it is bytes like any other target's.
"""

__all__ = ["decode", "forward", "pack", "unpack"]

import contextlib
import io
import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.cli.decode import decode as decode_command
from limbeck.cli.forward import forward as forward_command
from limbeck.errors import ConfigError, LimbeckError
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions, SearchOptions
from limbeck.kaldi.formats.table import read_ark

_FILES = {
    "net", "net2", "feats.ark", "feats.scp", "transform", "counts", "cmvn.scp", "cmvn.ark", "utt2spk",
    "HCLG.fst", "words.txt", "final.mdl", "loglikes.ark", "text", "ali.1.gz",
}  # fmt: skip
_FEATURES = {"cmvn": str, "norm_vars": bool, "deltas": int, "left_context": int, "right_context": int}
_OUTPUTS = {"no_softmax": bool, "apply_log": bool, "prior_scale": float, "prior_floor": float}
_SEARCH = {"beam": float, "max_active": int}
_DECODE = {"acoustic_scale": float, "frame_shift": float, "prior_scale": float, "prior_floor": float}


def pack(members: Mapping[str, bytes]) -> bytes:
    """One input out of some files."""
    return b"".join(
        struct.pack("<BI", len(name), len(content)) + name.encode() + content for name, content in members.items()
    )


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of an input; what a damaged one promises beyond its end is not there."""
    members, at = {}, 0
    while len(data) - at > 5:
        length, size = struct.unpack_from("<BI", data, at)
        at += 5 + length
        members[data[at - length : at].decode("latin-1")] = data[at : at + size]
        at += size
    return members


def _lay_out(members: Mapping[str, bytes], folder: Path) -> dict[str, Path]:
    """Write the files of an input; returns where they are."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in _FILES & members.keys():
        (folder / name).write_bytes(members[name])
    return {name: folder / name for name in members if name in _FILES}


def _options(members: Mapping[str, bytes]) -> dict[str, Any]:
    """Numbers and choices, from a JSON object."""
    try:
        chosen = json.loads(members.get("options", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return chosen if isinstance(chosen, dict) else {}


def _some(chosen: Mapping[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    """Those of some names that are of the type that the command line would make of them."""
    found = {name: value for name, value in chosen.items() if name in kinds}
    return {
        name: float(value) if kinds[name] is float else value
        for name, value in found.items()
        if type(value) is kinds[name] or (kinds[name] is float and type(value) is int and abs(value) < 1 << 60)
    }


def _features(files: Mapping[str, Path], chosen: Mapping[str, Any]) -> FeatureOptions:
    flags = {"feature_transform": files.get("transform")}
    if "cmvn" in chosen:
        flags |= {"cmvn_scp": files.get("cmvn.scp"), "utt2spk": files.get("utt2spk")}
    if chosen.get("cmvn", "none") not in ("none", "speaker", "utterance"):
        raise ConfigError("cyclopts refuses other words")
    return FeatureOptions(**flags, **_some(chosen, _FEATURES))  # type: ignore[arg-type]


def _run(command: Callable[[], None], folder: Path) -> None:
    """Run a command; where it fails it must leave no file, not even a part of one."""
    before = set(folder.iterdir())
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            command()
    except LimbeckError as error:
        left = set(folder.iterdir()) - before
        assert not left, f"an error left {sorted(left)}: {error}"
        raise


def _nets(files: Mapping[str, Path]) -> list[Path]:
    return [files[name] for name in ("net", "net2") if name in files]


def forward(data: bytes, folder: Path) -> None:
    """Outputs of networks over features; what is written must be finite.

    Raises:
        ConfigError: If something is missing.
    """
    members = unpack(data)
    files, chosen = _lay_out(members, folder), _options(members)
    feats, out = files.get("feats.scp", files.get("feats.ark")), folder / "out.ark"
    if feats is None or not _nets(files):
        raise ConfigError("the command line wants both")
    features = _features(files, chosen)
    outputs = OutputOptions(class_frame_counts=files.get("counts"), **_some(chosen, _OUTPUTS))
    mean = chosen["mean"] if chosen.get("mean") in ("arithmetic", "geometric") else None
    _run(
        lambda: forward_command(*_nets(files), feats=feats, out=out, features=features, outputs=outputs, mean=mean,
                                text=chosen.get("text") is True, quiet=True),
        folder,
    )  # fmt: skip
    for key, values in read_ark(out):
        assert np.isfinite(values).all(), f"the outputs of {key} are not finite"


def decode(data: bytes, folder: Path) -> None:
    """Words of utterances, from log-likelihoods or from a network.

    Raises:
        ConfigError: If something is missing.
    """
    members = unpack(data)
    files, chosen = _lay_out(members, folder), _options(members)
    if "final.mdl" not in files:
        raise ConfigError("the command line wants it")
    given: dict[str, Any] = {"loglikes": files.get("loglikes.ark")}
    if "loglikes.ark" not in files:
        given = {
            "model": _nets(files), "feats": files.get("feats.scp", files.get("feats.ark")),
            "ali": files.get("ali.1.gz"), "class_frame_counts": files.get("counts"),
            "features": _features(files, chosen),
        }  # fmt: skip
    search = SearchOptions(**_some(chosen, _SEARCH))
    out = folder / "hypotheses"
    _run(
        lambda: decode_command(graph=folder, mdl=files["final.mdl"], out=out, text=files.get("text"), search=search,
                               quiet=True, **given, **_some(chosen, _DECODE)),
        folder,
    )  # fmt: skip
    json.loads(out.with_suffix(".json").read_text())
