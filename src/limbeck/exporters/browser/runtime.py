"""ONNX Runtime Web, from a folder or an archive, or fetched by npm."""

__all__ = ["VERSION", "Runtime", "onnxruntime_web"]

import base64
import gzip
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from limbeck.errors import ConfigError, FormatError

VERSION = "1.30.0"
"""The version that npm is asked for."""
_INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of that version's archive, as the registry publishes it: a page holds no other code than this."""
_SCRIPT, _WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
_EXPORTS = re.compile(r"\bexport\s*\{([^{}]*)\}\s*;?\s*(//# sourceMappingURL=\S*\s*)?$")
_NAMED = re.compile(r"Runtime Web v([\w.-]+)")
_SECONDS = 300


@dataclass(frozen=True)
class Runtime:
    """What a page holds of it.

    Attributes:
        version: Such as "1.30.0".
        script: A module that sets ``globalThis.ort``.
        wasm: Its WebAssembly, gzipped.
    """

    version: str
    script: str
    wasm: bytes


def onnxruntime_web(place: Path | None) -> Runtime:
    """Read the runtime.

    Args:
        place: The folder of the npm package ``onnxruntime-web``, or its archive ``.tgz``; None to fetch it by npm.

    Returns:
        The runtime.

    Raises:
        ConfigError: If it is not there, or there is no npm to fetch it.
        FormatError: If its form is unknown.
    """  # noqa: DOC502
    if place is None:
        with tempfile.TemporaryDirectory() as folder:
            return _read(_fetched(Path(folder)))
    return _read(place)


def _fetched(folder: Path) -> Path:
    """The archive that npm fetched, of known content."""
    npm = shutil.which("npm")
    command = f"npm pack onnxruntime-web@{VERSION}"
    if npm is None:
        raise ConfigError(
            f"a page of this network holds onnxruntime-web, and there is no npm here to fetch it: run  {command}  "
            f"where npm is, and name the file with ort_web (--ort-web onnxruntime-web-{VERSION}.tgz)"
        )
    try:
        done = subprocess.run(
            [npm, *command.split()[1:]], cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        said = done.stderr
    except subprocess.TimeoutExpired:
        said = f"no answer in {_SECONDS} seconds"
    archive = folder / f"onnxruntime-web-{VERSION}.tgz"
    if not archive.is_file():
        reason = " ".join(said.split())[-200:]
        raise ConfigError(
            f"onnxruntime-web cannot be fetched: {command}: {reason}: fetch it elsewhere, and name the file with "
            "ort_web (--ort-web)"
        )
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != _INTEGRITY:
        raise ConfigError(f"{command} fetched a file of digest {found}, and {_INTEGRITY} is known: it is not used")
    return archive


def _read(place: Path) -> Runtime:
    try:
        script, wasm = _from_archive(place) if place.is_file() else _from_folder(place)
        source = script.decode()
    except (OSError, tarfile.TarError, KeyError, UnicodeDecodeError, EOFError) as error:
        raise ConfigError(
            f"{place} does not hold the npm package onnxruntime-web, with {_SCRIPT} and {_WASM}: run  npm pack "
            f"onnxruntime-web@{VERSION}  and give that file ({type(error).__name__})"
        ) from error
    found, named = _EXPORTS.search(source), _NAMED.search(source)
    if found is None or named is None or "</script" in source.lower() or "<!--" in source:
        raise FormatError(place, f"its {_SCRIPT} is of another form than that of version {VERSION}: give that version")
    pairs = [each.split(" as ") for each in found[1].split(",")]
    members = ", ".join(f"{pair[-1].strip()}: {pair[0].strip()}" for pair in pairs)
    return Runtime(named[1], f"\n{source[: found.start()]}\nglobalThis.ort = {{ {members} }};\n", _zipped(wasm))


def _zipped(wasm: bytes) -> bytes:
    return gzip.compress(wasm, 9, mtime=0)


def _from_archive(place: Path) -> tuple[bytes, bytes]:
    with tarfile.open(place) as archive:
        parts = [archive.extractfile(f"package/{name}") for name in (_SCRIPT, _WASM)]
        script, wasm = (b"" if part is None else part.read() for part in parts)
    return script, wasm


def _from_folder(place: Path) -> tuple[bytes, bytes]:
    return (place / _SCRIPT).read_bytes(), (place / _WASM).read_bytes()
