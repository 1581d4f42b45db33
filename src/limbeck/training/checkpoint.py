"""Tensors and plain values in one file, without pickle: safetensors, with a checksum, never half-written."""

__all__ = ["load_latest", "load_tensors", "save_rotating", "save_tensors"]

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from limbeck.errors import FormatError, NonFiniteError, RunError
from limbeck.system.checksums import check_file
from limbeck.system.files import digest_bytes, metadata_in_order, replace_bytes, sync_folder, why


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: object = None) -> None:
    """Write tensors and a JSON value as one safetensors file.

    Args:
        path: The file; its folder must exist.
        tensors: By name.
        state: Any value that JSON can hold.

    Raises:
        NonFiniteError: If a number in ``state`` is NaN or infinite.
        RunError: If memory is short, or it cannot be written; the previous file is unchanged.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        text = json.dumps(state, allow_nan=False)
    except ValueError as error:
        raise NonFiniteError(
            "a loss or a measure became NaN or infinite: try a smaller learning rate or clip_norm"
        ) from error
    try:
        content = metadata_in_order(save(held, {"state": text, "sha256": _digest(held, text)}))
    except MemoryError as error:
        raise RunError(
            f"cannot write {path}: out of memory; what was saved before is as it was: free some memory, and resume "
            "with resume=True (--resume)"
        ) from error
    replace_bytes(path, content)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read what :func:`save_tensors` wrote, and check it.

    Args:
        path: The file.

    Returns:
        The tensors on the CPU, and the value.

    Raises:
        FormatError: If the file is missing, truncated, corrupt, or was not written by Limbeck.
    """
    check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise FormatError(path, "is missing") from error
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise FormatError(path, f"is truncated, corrupt or not a safetensors file: {error}") from error
    if "sha256" not in metadata or "state" not in metadata:
        raise FormatError(path, "holds tensors, but not those of a Limbeck run")
    if _digest(tensors, metadata["state"]) != metadata["sha256"]:
        raise FormatError(path, "does not match its checksum: it was damaged after it was written")
    try:
        return tensors, json.loads(metadata["state"])
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"holds a state that is not valid JSON: {error}") from error


def save_rotating(folder: Path, tensors: Mapping[str, Tensor], state: object) -> None:
    """Write a checkpoint as ``latest.safetensors`` and keep the one before as ``previous.safetensors``.

    Args:
        folder: The checkpoint folder. It is not recreated: a missing one was removed, with the lock of its run.
        tensors: By name.
        state: Any value that JSON can hold.

    Raises:
        RunError: If it cannot be written; existing checkpoints are untouched.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} vanished while the run was writing to it: nothing more is written; start it again")
    try:
        fresh = folder / "next.safetensors"
        save_tensors(fresh, tensors, state)
        latest = folder / "latest.safetensors"
        if latest.exists():
            latest.replace(folder / "previous.safetensors")
        fresh.replace(latest)
        sync_folder(folder)
    except OSError as error:
        raise RunError(f"cannot write a checkpoint to {folder}: {why(error)}") from error


def load_latest(folder: Path) -> tuple[dict[str, Tensor], Any, str | None] | None:
    """Read the latest valid checkpoint.

    Args:
        folder: The checkpoint folder.

    Returns:
        Tensors, value, and a warning where a newer file was damaged; None where there is no checkpoint.

    Raises:
        FormatError: If there are checkpoints, and none can be read.
    """
    damaged: FormatError | None = None
    # A kill between the two renames leaves the newest whole file as next.safetensors.
    for name in ("latest", "next", "previous"):
        path = folder / f"{name}.safetensors"
        if not path.exists() or (name == "next" and (folder / "latest.safetensors").exists()):
            continue
        try:
            tensors, state = load_tensors(path)
        except FormatError as error:
            damaged = damaged or error
        else:
            warning = None if damaged is None else f"{damaged}; continuing from the checkpoint before it"
            return tensors, state, warning
    if damaged is not None:
        raise damaged
    return None


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    pieces: list[bytes | memoryview] = [text.encode()]
    for name in sorted(tensors):
        tensor = tensors[name]
        pieces.append(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        pieces.append(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest_bytes(pieces)
