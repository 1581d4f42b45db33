"""Checks that other processes can import the main module."""

__all__ = ["require_importable"]

import ast
import sys
from pathlib import Path
from types import FrameType

from limbeck.errors import ConfigError


def require_importable(payload: bytes, *, elsewhere: bool = False) -> None:
    """Refuse work for other processes that these could not begin.

    A process imports the script that started it. Where the script has no ``if __name__ == "__main__":`` around the
    call, the process would begin everything anew; and what a notebook, ``python -c`` or a script on the standard
    input defines cannot be imported at all.

    Args:
        payload: Pickled work.
        elsewhere: Whether the processes have another main module, as those of a Ray cluster do.

    Raises:
        ConfigError: If so; the message says what to do.
    """
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None and spec.name.endswith("__main__"):
        return  # a package that is run, which processes do not import
    named = file is not None and Path(file).is_file()  # a program on the standard input calls its file <stdin>
    unnamed = b"__main__" in payload and (elsewhere or not named)
    if unnamed or (not elsewhere and file is not None and not named):
        where = "the program that was started" if named else "a notebook or on the standard input"
        raise ConfigError(
            f"a model or a function for other processes is defined in {where}, which they cannot import: move it into "
            "a module of its own, a .py file that is imported, or leave jobs and ray out"
        )
    line = _calling_line()
    if elsewhere or file is None or line is None or _guarded(Path(file), line):
        return
    raise ConfigError(
        f"jobs starts processes, each of which imports {Path(file).name} first and would come to line {line} again: "
        'put what the script does under  if __name__ == "__main__":  or leave jobs out'
    )


def _calling_line() -> int | None:
    """The line of the main module, outside its functions, that is being run."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__" and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return None


def _guarded(file: Path, line: int) -> bool:
    """Whether an ``if`` about ``__name__`` is around a line or before it; True where the file cannot be read."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    tests = [(node, ast.walk(node.test)) for node in tree.body if isinstance(node, ast.If)]
    return any(
        node.lineno <= line and any(isinstance(part, ast.Name) and part.id == "__name__" for part in parts)
        for node, parts in tests
    )
