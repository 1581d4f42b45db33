"""The model folder of a run, and its verified config."""

__all__ = ["open_model_folder"]

from pathlib import Path
from typing import Any

from limbeck.errors import FormatError
from limbeck.system.checksums import SUMS, check_file, tell_unlisted
from limbeck.system.files import read_json


def open_model_folder(run: Path) -> tuple[Path, dict[str, Any]]:
    """Where a run's model is, and what ``config.json`` says of it.

    Args:
        run: A run's folder, or a model's own.

    Returns:
        The model's folder, and the description.

    Raises:
        FormatError: If there is none, or a file is not what its digest says.
    """
    folder = run
    if not folder.exists():
        raise FormatError(folder, "there is no such folder, so it is not a run with a model")
    if folder.is_file():
        cure = (
            "; ONNX files may be teachers (--teacher), and limbeck evaluate takes them; else they are for onnxruntime"
            if folder.suffix == ".onnx"
            else ""
        )
        raise FormatError(folder, f"is a file, and the folder of a run or a model is needed{cure}")
    if (folder / "model").is_dir():
        check_file(folder / "model" / SUMS, folder=folder)
        folder = folder / "model"
    if not (folder / "config.json").exists():
        raise FormatError(folder, "is not a run with a model: it has no model/config.json; is the run finished?")
    tell_unlisted(folder)
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise FormatError(folder / "config.json", "is not a JSON object")
    return folder, config
