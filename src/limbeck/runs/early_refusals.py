"""Checks before data are read, which may take minutes."""

__all__ = ["refuse_early"]

from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import ConfigError
from limbeck.methods import make_method
from limbeck.options.methods import method_parts, names_code, spelled
from limbeck.runs.folder import RunFolder
from limbeck.system.processes import on_first


def refuse_early(
    out: Path,
    *,
    resume: bool,
    command: str,
    kept: str = "config.toml",
    student: str | None = None,
    method: str | None = None,
    method_options: Sequence[str] = (),
    temperature: float = 4.0,
) -> None:
    """Refuse a folder that is taken, options that a method does not have, and a student that it cannot teach.

    Args:
        out: The folder of the run.
        resume: Whether a run is resumed.
        command: Which command makes such runs.
        kept: A file by which a run of this kind is known.
        student: The student as ``--student`` has it, or None.
        method: The method as ``--method`` has it, or None. User code is not run yet.
        method_options: Its options.
        temperature: Of the soft targets.

    Raises:
        RunError: If the folder holds something, and is not resumed.
        ConfigError: If method, options and student do not belong together.
    """  # noqa: DOC502
    on_first(lambda: RunFolder(out).require_free(resume=resume, kept=kept, command=command))
    if method is None or names_code(method):
        return
    make_method(method, method_options, temperature=temperature)
    names = [part.name for part in method_parts(spelled(method))]
    if student == "mlp" and "attention" in names:
        raise ConfigError(
            f"--method {method} compares maps with height and width, and the layers of --student mlp have none: give "
            "--student cnn or a model of yours, or a method on logits or features, which limbeck methods lists"
        )
