"""timm models by name, with the weights of a local checkpoint; nothing is downloaded."""

__all__ = [
    "TIMM_PREFIX",
    "TimmModel",
    "build_timm",
    "checkpoint_of",
    "describe_timm",
    "import_timm",
    "make_timm",
    "require_timm",
]

import difflib
import importlib
import json
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from limbeck.errors import ConfigError, FormatError, LimbeckWarning, MissingExtraError
from limbeck.options import ImagePresentation

TIMM_PREFIX = "timm:"
"""What the names of these models begin with."""
_SETTINGS = {"drop_rate": float, "drop_path_rate": float, "global_pool": str, "in_chans": int, "img_size": list}
"""Arguments of ``timm.create_model`` that a file may name: none of them reads another file."""
_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")
_LIBRARIES: list[Any] = []
"""Definitions of operators, which last as long as these."""
_MOST_OPERATORS = 100
_SMALL = 112
"""Images with a side below this are shown without a margin that is cropped off."""


@dataclass(frozen=True)
class TimmModel:
    """The config of a timm model.

    Attributes:
        name: As timm knows it.
        classes: How many.
        settings: Further arguments of ``timm.create_model``.
    """

    name: str
    classes: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9_.\-]{1,200}", self.name):
            raise ConfigError(f"a timm model has a name such as resnet18, not {str(self.name)[:80]!r}")
        if type(self.classes) is not int or not 1 <= self.classes <= 10_000_000:
            raise ConfigError(f"a timm model has a number of classes, not {str(self.classes)[:40]}")
        if not isinstance(self.settings, Mapping):
            raise ConfigError(f"settings of a timm model are named values, not {str(self.settings)[:80]}")
        for name, value in self.settings.items():
            kind = _SETTINGS.get(name)
            number = kind is float and type(value) in {int, float}
            sides = name == "img_size" and isinstance(value, list | tuple) and all(type(side) is int for side in value)
            if kind is None or not (number or sides or (kind is not list and type(value) is kind)):
                raise ConfigError(
                    f"a timm model takes the settings {', '.join(_SETTINGS)}, and not {name} = {str(value)[:60]}"
                )


def import_timm() -> Any:
    """Import timm, also where torchvision, which it imports, was built for another PyTorch.

    Torchvision then stops at the first of its compiled operators that is missing. Each gets a declaration without a
    kernel: what needs the operator fails when it is called, and all else works.

    Returns:
        The module.

    Raises:
        MissingExtraError: If timm is not installed.
        RuntimeError: If it fails for another reason.
    """
    for _ in range(_MOST_OPERATORS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of timm and torchvision about themselves
                return importlib.import_module("timm")
        except ModuleNotFoundError as error:
            raise MissingExtraError(str(error.name or "timm"), "vision") from error
        except RuntimeError as error:
            missing = _MISSING.search(str(error))
            if missing is None:
                raise
            library = torch.library.Library("torchvision", "FRAGMENT" if _LIBRARIES else "DEF")  # type: ignore[no-untyped-call]
            library.define(f"{missing[1]}() -> ()")  # type: ignore[no-untyped-call]
            _LIBRARIES.append(library)
            for name in [name for name in sys.modules if name.split(".")[0] in {"torchvision", "timm"}]:
                del sys.modules[name]
    raise MissingExtraError("torchvision, of a build that fits the installed torch", "vision")


def make_timm(
    model: str,
    *,
    classes: int,
    input_shape: tuple[int, ...] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Make a timm model, with a head for the classes of the data.

    Its attribute ``presentation`` says how it sees images: the mean, the deviation and the interpolation of timm's
    configuration, in the size of that configuration where weights come from a checkpoint, or the network takes no
    other, and in the size of the data elsewhere.

    Args:
        model: ``timm:NAME``, for weights drawn anew; ``timm:NAME@CHECKPOINT`` for those of a ``.safetensors`` file, or
            a ``.pth`` or ``.pt`` file of tensors; ``timm:FOLDER`` for a folder as timm saves it, of a ``config.json``
            that names the architecture and ``model.safetensors``.
        classes: How many. A checkpoint with another number gets a head with new weights, and a warning.
        input_shape: Shape of an example, ``(C, H, W)``; None for that of timm's configuration.
        settings: Further arguments of ``timm.create_model``, of those that :class:`TimmModel` knows.

    Returns:
        The network, in training mode.

    Raises:
        ConfigError: If timm does not know the name, or a setting cannot be used.
        FormatError: If a checkpoint is missing, damaged, or does not fit the network.
        MissingExtraError: If timm is not installed.

    Warns:
        LimbeckWarning: If the checkpoint's head is of other classes.
    """  # noqa: DOC502
    timm = import_timm()
    name, checkpoint, given = _parsed(model)
    channels = 3 if input_shape is None else input_shape[0]
    size = None if input_shape is None or len(input_shape) != 3 else input_shape[1:]
    if input_shape is not None and (len(input_shape) != 3 or channels not in {1, 3}):
        raise ConfigError(f"{model} takes images of 1 or 3 channels, and an example has shape {input_shape}")
    wanted = {**({"in_chans": channels} if channels != 3 else {}), **(settings or {})}
    made = _create(timm, TimmModel(name, classes, wanted))
    config = {**dict(getattr(made, "pretrained_cfg", None) or {}), **given}
    presentation = replace(ImagePresentation.from_timm({**config, "crop_mode": _crop_mode(config)}), channels=3)
    if checkpoint is None and not config.get("fixed_input_size") and size is not None:
        pct = presentation.crop_pct if min(size) >= _SMALL else 1.0
        presentation = replace(presentation, size=(size[0], size[1]), crop_pct=pct)
    made.presentation = replace(presentation, channels=wanted.get("in_chans", 3))  # type: ignore[assignment]
    if checkpoint is not None:
        _load(made, checkpoint, str(config.get("classifier", "")))
    return made


def require_timm(model: str) -> None:
    """Refuse a name that timm does not know, or a checkpoint that is not there, before data are read.

    Args:
        model: As for :func:`make_timm`.

    Raises:
        ConfigError: If timm does not know the name.
        FormatError: If a checkpoint is missing.
        MissingExtraError: If timm is not installed.
    """  # noqa: DOC502
    timm = import_timm()
    name, checkpoint, _ = _parsed(model)
    _require_name(timm, name)
    if checkpoint is not None and not checkpoint.is_file():
        raise FormatError(checkpoint, "there is no such checkpoint; nothing is downloaded, so give a file that is here")


def checkpoint_of(model: str) -> Path | None:
    """The file that holds the weights of a network.

    Args:
        model: As for :func:`make_timm`.

    Returns:
        The file, or None where weights are drawn anew.

    Raises:
        ConfigError: If it is neither a name nor a folder.
        FormatError: If a folder does not hold a timm model.
    """  # noqa: DOC502
    return _parsed(model)[1]


def build_timm(fields: Mapping[str, Any]) -> nn.Module:
    """Make a timm model from its description in a run's ``config.json``.

    Args:
        fields: ``name``, ``classes`` and ``settings``.

    Returns:
        The network, with fresh weights.

    Raises:
        ConfigError: If a field is unknown, missing or cannot be used.
        MissingExtraError: If timm is not installed.
    """  # noqa: DOC502
    if not {"name", "classes"} <= set(fields) <= {"name", "classes", "settings"}:
        raise ConfigError(f"a timm model is described by name, classes and settings, not by {sorted(fields)}"[:300])
    return _create(import_timm(), TimmModel(fields["name"], fields["classes"], fields.get("settings", {})))


def describe_timm(model: nn.Module) -> dict[str, Any] | None:
    """The description from which :func:`build_timm` makes a network again; None where it is not one of timm's.

    Args:
        model: Any module.

    Returns:
        Plain values by name.
    """
    made = getattr(model, "made_by_timm", None)
    if not isinstance(made, TimmModel):
        return None
    return {"name": made.name, "classes": made.classes, "settings": dict(made.settings)}


def _require_name(timm: Any, name: str) -> None:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), 3)
        raise ConfigError(
            f"timm {timm.__version__} knows no network {name!r}"
            + (f": did you mean {', '.join(near)}?" if near else "")
        )


def _create(timm: Any, model: TimmModel) -> nn.Module:
    _require_name(timm, model.name)
    try:
        made: nn.Module = timm.create_model(
            model.name, pretrained=False, num_classes=model.classes, **dict(model.settings)
        )
    except Exception as error:  # each architecture refuses settings in its own way
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"timm cannot make {model.name} with {dict(model.settings)}: {reason}") from error
    made.made_by_timm = model  # type: ignore[assignment]
    return made.train()


def _parsed(model: str) -> tuple[str, Path | None, dict[str, Any]]:
    """Name, checkpoint, and what a folder's configuration says of the presentation."""
    words = model.removeprefix(TIMM_PREFIX)
    folder = Path(words)
    if folder.is_dir() and (folder / "config.json").exists():
        try:
            found = json.loads((folder / "config.json").read_text("utf-8"))
            name, shown = str(found["architecture"]), dict(found.get("pretrained_cfg") or {})
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(folder / "config.json", f"names no architecture of timm: {error!r}"[:300]) from error
        files = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
        file = next((each for each in files if each.exists()), None)
        if file is None:
            raise FormatError(folder, "has no model.safetensors")
        return name, file, shown
    name, _, checkpoint = words.partition("@")
    if "/" in name or ":" in name:
        raise ConfigError(
            f"{model} is neither a name of timm's nor a folder with config.json and model.safetensors: nothing is "
            "downloaded, so give timm:NAME, timm:NAME@CHECKPOINT or timm:FOLDER"
        )
    return name, Path(checkpoint) if checkpoint else None, {}


def _crop_mode(config: Mapping[str, Any]) -> str:
    """Images are cropped at the centre unless they are to be squashed; timm's border differs from it at edges alone."""
    return "squash" if config.get("crop_mode") == "squash" else "center"


def _load(model: nn.Module, file: Path, classifier: str) -> None:
    """Load a checkpoint; a head of other classes stays as it was drawn."""
    weights = _weights(file)
    own = model.state_dict()
    heads = tuple(f"{name}." for name in (classifier, "head", "fc", "classifier") if name)
    other = [
        name for name, value in weights.items()
        if name in own and own[name].shape != value.shape and name.startswith(heads)
    ]  # fmt: skip
    if other:
        warnings.warn(
            f"{file.name} has a head of {len(weights[other[0]])} classes: a new one is drawn for the data's "
            f"{len(own[other[0]])}",
            LimbeckWarning,
            stacklevel=3,
        )
    try:
        model.load_state_dict({**weights, **{name: own[name] for name in other}})
    except RuntimeError as error:
        raise FormatError(file, f"does not fit the network: {' '.join(str(error).split())[:300]}") from error


def _weights(file: Path) -> dict[str, Tensor]:
    """Tensors by name; of a training's checkpoint those of the model."""
    if not file.is_file():
        raise FormatError(file, "there is no such checkpoint; nothing is downloaded, so give a file that is here")
    try:
        if file.suffix == ".safetensors":
            found: Any = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, EOFError, AttributeError) as error:
        raise FormatError(file, f"is not a checkpoint of tensors: {' '.join(str(error).split())[:200]}") from error
    except Exception as error:  # what weights_only refuses is of a type of pickle's
        raise FormatError(
            file, f"contains more than tensors, and Limbeck executes no code from files: {type(error).__name__}"
        ) from error
    for key in ("state_dict_ema", "state_dict", "model_ema", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise FormatError(file, "must hold tensors by name")
    return {str(name).removeprefix("module."): value for name, value in found.items()}
