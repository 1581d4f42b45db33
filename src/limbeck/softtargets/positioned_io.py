"""Positioned reads and writes from several threads, also on systems without pread and pwrite."""

__all__ = ["BINARY", "read_at", "write_at"]

import os
import threading

BINARY = getattr(os, "O_BINARY", 0)
"""Flag of files that are not text, which Windows tells apart."""
_MOVING = threading.Lock()
"""Held while a file is moved to a place and read or written there."""


def read_at(handle: int, count: int, place: int) -> bytes:
    """Read at most ``count`` bytes from a place."""
    if hasattr(os, "pread"):
        return os.pread(handle, count, place)
    with _MOVING:
        os.lseek(handle, place, os.SEEK_SET)
        return os.read(handle, count)


def write_at(handle: int, octets: memoryview, place: int) -> int:
    """Write at a place, and return how many bytes were written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(handle, octets, place)
    with _MOVING:
        os.lseek(handle, place, os.SEEK_SET)
        return os.write(handle, octets)
