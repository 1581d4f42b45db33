"""The initial weights of a run's trainings, saved in its folder until all of them are finished."""

__all__ = ["keep_first_weights"]

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from limbeck.errors import FormatError
from limbeck.runs.cleanup import FIRST_WEIGHTS
from limbeck.runs.folder import RunFolder
from limbeck.system.files import seal_files
from limbeck.system.processes import on_first
from limbeck.training.checkpoint import load_tensors, save_tensors


def keep_first_weights(folder: RunFolder | None, models: Sequence[nn.Module]) -> None:
    """Save the initial weights of networks, or restore those that the run started with.

    A resumed run may be given a module with other initial weights. Trainings that have started have a checkpoint; those
    that have not must start as they would have, a student like its baseline above all.

    Args:
        folder: The run's folder; None to save nothing. Of several processes only the first uses it: the engine
            broadcasts its weights to the others.
        models: One per seed or member; changed in place where the run has started.

    Raises:
        FormatError: If the saved weights are damaged, or of other networks.
    """  # noqa: DOC502
    on_first(lambda: None if folder is None or folder.finished else _keep(folder, models))


def _keep(folder: RunFolder, models: Sequence[nn.Module]) -> None:
    path = folder.path / FIRST_WEIGHTS
    if not path.exists():
        first = _tensors(models[0])
        kept = {f"0.{name}": value for name, value in first.items()}
        for number, model in enumerate(models[1:], 1):  # one module for all seeds is saved once
            kept |= {
                f"{number}.{name}": value for name, value in _tensors(model).items() if not _same(first, name, value)
            }
        save_tensors(path, kept, len(models))
        seal_files(folder.path, (FIRST_WEIGHTS,))
        return
    found, _ = load_tensors(path)
    for number, model in enumerate(models):
        weights = {}
        for name, wanted in _tensors(model).items():
            value = found.get(f"{number}.{name}", found.get(f"0.{name}"))
            if value is None or (value.shape, value.dtype) != (wanted.shape, wanted.dtype):
                what = "missing" if value is None else f"{value.dtype} of shape {tuple(value.shape)}"
                raise FormatError(
                    path,
                    f"does not hold the initial weights of this network: {number}.{name} is {what}, and "
                    f"{wanted.dtype} of shape {tuple(wanted.shape)} is needed; restore it from a copy",
                )
            weights[name] = value
        model.load_state_dict(weights, strict=False)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by name, in separate memory; lazily created ones have no values yet."""
    held = model.state_dict().items()
    return {name: value.detach().clone() for name, value in held if isinstance(value, Tensor) and not is_lazy(value)}


def _same(first: dict[str, Tensor], name: str, value: Tensor) -> bool:
    return name in first and first[name].dtype == value.dtype and first[name].equal(value)
