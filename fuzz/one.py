"""Fuzz one reader with atheris, or try files that were found:  python fuzz/one.py TARGET [libFuzzer flags] [FILES]."""

import os
import resource
import sys

import atheris

# The coverage that guides the search is that of Limbeck's own code; that of libraries would slow it down.
with atheris.instrument_imports(
    include=["limbeck.formats", "limbeck.training.checkpoint", "limbeck.system.files", "limbeck.softtargets"]
):
    from targets import TARGETS

from limbeck.errors import LimbeckError
from seeds import make_seeds

_ROOM = 100 << 20
"""Bytes by which a reader may make the process larger, beside four times the file's size."""


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Read the target's name, then hand over to libFuzzer."""
    name, flags = sys.argv[1], sys.argv[2:]
    read = TARGETS[name]
    for content in make_seeds(name):
        try:
            read(content)
        except LimbeckError:
            pass
    base = _peak()

    def test(data: bytes) -> None:
        nonlocal base
        try:
            read(data)
        except LimbeckError:
            pass
        peak = _peak()
        if peak - base > _ROOM + 4 * len(data):
            raise MemoryError(f"{len(data)} bytes made the process {(peak - base) >> 20} MiB larger")
        # What libFuzzer itself keeps grows slowly, and is not the reader's.
        base = max(base, peak - (_ROOM >> 1))

    atheris.Setup([sys.argv[0], *flags], test)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
