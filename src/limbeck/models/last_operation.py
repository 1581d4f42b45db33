"""The last operation of a model, from its PyTorch calls and not from its values."""

__all__ = ["ends_in"]

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.system.eager_torch import eager_mode

Ending = Literal["softmax", "sigmoid"]

_OPERATIONS: dict[str, Ending] = {
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "softmax": "softmax",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
}
_SAME = {
    *("_to_copy", "_unsafe_view", "alias", "clone", "contiguous", "detach", "lift_fresh", "reshape", "squeeze", "to"),
    *("unsqueeze", "view", "constant_pad_nd", "index_select"),
}
"""Operations that leave the numbers as they are, or choose some, or put zeros beside them."""


class _Traced(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers what the memory of each tensor was last written by, where that is a softmax or a sigmoid."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.written: dict[int, Ending] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        kind = _OPERATIONS.get(name)
        if kind is None and name in _SAME and args and isinstance(args[0], Tensor):
            kind = self.written.get(_memory(args[0]))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, Tensor):
                # Whatever else writes there, also where freed memory is used again, makes it something else.
                self.written.pop(_memory(one), None)
                if kind is not None:
                    self.written[_memory(one)] = kind
        return made


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


def ends_in(call: Callable[[], Tensor]) -> tuple[Tensor, Ending | None]:
    """What a call of a model gives, and whether that is what a softmax or a sigmoid gave, unchanged but for its type.

    Numbers alone do not tell: a network that is not trained yet may have small logits between 0 and 1 too.

    Args:
        call: Calls the model, and gives its answers.

    Returns:
        The answers, and "softmax", "sigmoid" or None. It is None also where the model cannot be looked into.

    Example:
        >>> with torch.no_grad():
        ...     [ends_in(lambda f=f: f(torch.ones(2, 3)))[1] for f in (torch.sigmoid, lambda x: 2 * torch.sigmoid(x))]
        ['sigmoid', None]
    """
    traced = eager_mode(_Traced)()
    try:
        with traced:
            answers = call()
        memory = _memory(answers)
    except Exception:  # some modules refuse such a mode; a fault of the model's own comes again
        return call(), None
    return answers, traced.written.get(memory) if memory else None
