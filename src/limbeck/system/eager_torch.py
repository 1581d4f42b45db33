"""Parts of PyTorch without their import of the compiler, which takes 2.4 seconds of each process that trains.

They import it to keep it away from code that is never compiled here. What they compute stays theirs: methods below are
PyTorch's own, without the wrapper that imports the compiler. Where another version of PyTorch has no such wrapper,
nothing is taken away.
"""

__all__ = ["SGD", "AdamW", "eager_mode"]

import inspect
import sys
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_WRAPPED = ("add_param_group", "state_dict", "load_state_dict")
_Mode = TypeVar("_Mode", bound=TorchDispatchMode)


def _eager(kind: type[torch.optim.Optimizer]) -> Any:
    """The same optimiser with its methods unwrapped."""
    inside = inspect.unwrap(kind.step)

    def step(self: torch.optim.Optimizer, closure: None = None) -> None:
        with torch.no_grad():
            inside(self)

    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _WRAPPED}
    return type(kind.__name__, (kind,), {"step": step, **methods, "__module__": __name__})


if TYPE_CHECKING:
    from torch.optim import SGD, AdamW
else:
    AdamW, SGD = map(_eager, (torch.optim.AdamW, torch.optim.SGD))


def eager_mode(mode: type[_Mode]) -> type[_Mode]:
    """A mode that sees each operation, without the import of the compiler at the first of them.

    Args:
        mode: The class of the mode.

    Returns:
        The class itself where the compiler is there already, as after ``torch.compile``: then it has to be kept away.

    Example:
        >>> class Counted(TorchDispatchMode):
        ...     made = 0
        ...
        ...     def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        ...         self.made += 1
        ...         return func(*args, **(kwargs or {}))
        >>> with eager_mode(Counted)() as counted:
        ...     _ = torch.ones(2) + 1
        >>> counted.made
        2
    """
    if "torch._dynamo" in sys.modules:
        return mode
    made: Any = type(mode.__name__, (mode,), {"__module__": mode.__module__})
    made.__torch_dispatch__ = inspect.unwrap(mode.__torch_dispatch__)
    return cast("type[_Mode]", made)
