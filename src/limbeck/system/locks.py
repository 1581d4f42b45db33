"""Folder locks: one process per folder, released when the process ends.

The operating system keeps the lock, with ``fcntl`` or on Windows with ``msvcrt``; the file ``.lock`` names the holder.
A lock also covers the folders above and below.
"""

__all__ = ["LOCK", "hold"]

import contextlib
import errno
import importlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck.errors import RunError
from limbeck.system.callbacks import warn_user
from limbeck.system.files import why

LOCK = ".lock"
_ATTEMPTS, _PAUSE = 5, 0.02
"""Checks from a folder above or below hold the lock briefly: number of tries, and seconds between them."""
_OPEN: set[int] = set()
"""Handles of the folders that this process holds."""
_HELD = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK})
"""What the system answers where another has the lock; anything else means that there are no locks here."""


def _module(name: str) -> Any:
    """A module of some systems alone, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Lock a folder, so that no other process writes in it, above it or below it.

    The system releases the lock when the process ends, also when it is killed; what is left is a file that says who
    held it, where that process was killed, and is empty else. On file systems without locks a warning says so.

    Args:
        folder: An existing folder.

    Yields:
        Nothing; the folder is held meanwhile.

    Raises:
        RunError: If another process holds it or one above or below it, or it cannot be written.
    """
    path = folder / LOCK
    fresh = not path.exists()
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"cannot lock {folder}: {why(error)}") from error
    _OPEN.add(handle)
    try:
        if not _take(handle, folder):
            raise RunError(f"{folder} is in use by {_holder(path)}: wait for it, or choose another folder")
        if not _same(handle, path):
            raise RunError(f"{folder} was removed by another run just now: try again")
        _note(handle, f"{_WORD}{os.getpid()} on {socket.gethostname()}\n")
        try:
            try:
                _look_around(folder)
            except RunError:
                if fresh:
                    path.unlink(missing_ok=True)
                raise
            yield
        finally:
            _note(handle, "")
    finally:
        _OPEN.discard(handle)
        _release(handle)
        os.close(handle)


def _leave_to_parent() -> None:
    """Close what a forked process inherits: a lock lasts as long as any handle, and is to go when its holder dies."""
    for handle in _OPEN:
        with contextlib.suppress(OSError):
            os.close(handle)
    _OPEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _take(handle: int, folder: Path) -> bool:
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE)
        taken = _try(handle)
        if taken is None:
            warn_user(f"{folder} is on a file system without locks: make sure that nothing else writes there meanwhile")
        if taken is not False:
            return True
    return False


def _try(handle: int, *, shared: bool = False) -> bool | None:
    """Whether the lock could be had, alone or with others who only look; None where there are no locks."""
    fcntl, msvcrt = _module("fcntl"), _module("msvcrt")
    try:
        if fcntl is not None:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(handle, _FAR, os.SEEK_SET)  # beyond the words in the file, which stay readable
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            return None
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


_FAR = 1 << 20
_WORD = "process "
"""What a holder's note begins with."""


def _release(handle: int) -> None:
    msvcrt = _module("msvcrt")
    if msvcrt is not None:  # elsewhere closing is enough
        with contextlib.suppress(OSError):
            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)


def _same(handle: int, path: Path) -> bool:
    """Whether the lock is that of this folder, and not of one that was removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _look_around(folder: Path) -> None:
    """Refuse a folder that lies in one in use, or in which one in use lies."""
    place = folder.resolve()
    for above in place.parents:
        if _in_use(above / LOCK):
            raise RunError(
                f"{folder} lies in {above}, which is in use by {_holder(above / LOCK)}: wait for it, or choose another "
                "folder"
            )
    for below in _locks_below(place):
        if _in_use(below):
            raise RunError(
                f"{below.parent} lies in {folder} and is in use by {_holder(below)}: wait for it, or choose another "
                "folder"
            )


def _locks_below(place: Path) -> Iterator[Path]:
    """Locks of the folders in a folder; not by recursion, for untrusted folders may be nested thousands deep."""
    waiting = [str(place)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:  # removed meanwhile, not ours to read, or its path is too long for a run to be there
            continue
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    if os.path.lexists(lock := os.path.join(entry.path, LOCK)):
                        yield Path(lock)


def _in_use(path: Path) -> bool:
    """Whether a run holds a folder; other programs have files of this name too, and theirs say something else."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:  # none there, or somebody else's
        return False
    try:
        taken = _try(handle, shared=True)  # many may look at once, and none takes another who looks for a holder
        if taken:
            _release(handle)
        return taken is False and _holder(path).startswith(_WORD)
    finally:
        os.close(handle)


def _holder(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")[:300].strip() or "another process"
    except OSError:
        return "another process"


def _note(handle: int, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, text.encode())
