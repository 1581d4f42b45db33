"""How much memory this process holds, now and at most.

On Linux the most is what this program had since :func:`forget_peak`: the usual counter, ``ru_maxrss``, begins with what
the parent held when it forked, which in a test run is more than a small benchmark ever needs.
"""

import contextlib
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def held_bytes() -> int:
    """What the process has in memory now; at most, where the system does not tell."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most that it had since :func:`forget_peak`, or ever where that cannot be forgotten."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Begin to measure the most anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    if _STATUS.exists():
        lines = _STATUS.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    # Kilobytes, but bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
