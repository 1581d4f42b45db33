"""One writer a folder: a lock that goes when its holder does, however it ends."""

__all__ = ["only_writer"]

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limbeck.errors import RunError


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for writing.

    The system releases the lock when the process ends, also when it is killed; what is left is a file that says who
    held it last, or is empty if that writer finished.

    Args:
        folder: An existing folder.

    Yields:
        Nothing; the folder is held meanwhile.

    Raises:
        RunError: If another process holds it, or the lock cannot be made.
    """
    path = folder / ".lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"cannot lock {folder}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(handle, 300, 0).decode(errors="replace").strip() or "another process"
            raise RunError(f"{folder} is being written by {holder}: wait for it, or choose another folder") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)
