"""Display names of networks and teachers."""

__all__ = ["title_of"]

import numpy as np
from torch import nn

from limbeck.models import describe


def title_of(subject: object) -> str:
    """A short description of a network or a teacher.

    A teacher has it as an attribute ``title``; a network around another, its ``network``, by a method
    ``title_around``.

    Args:
        subject: A module or a teacher.

    Returns:
        Kind and sizes, or the name of its class.

    Example:
        >>> from limbeck.models import MLP, MLPConfig
        >>> title_of(MLP(MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=(300, 300))))
        'mlp 784-300-300-10'
    """
    if not isinstance(subject, nn.Module):
        return str(getattr(subject, "title", type(subject).__name__))
    around = getattr(type(subject), "title_around", None)
    if around is not None:
        return str(around(subject, title_of(subject.network)))
    description = describe(subject)
    if description is None:
        return type(subject).__name__
    if "input_shape" not in description:
        return type(subject).__name__
    inputs, kind = description["input_shape"], description["model_type"]
    first = str(int(np.prod(inputs))) if kind == "mlp" else "x".join(map(str, inputs))
    channels = [f"conv{width}" for width in description.get("channels", ())]
    sizes = [first, *channels, *map(str, description.get("hidden", ())), str(description["classes"])]
    known = {"widths": "pruned", "ranks": "low rank", "int8": "int8"}
    changes = [words for name, words in known.items() if name in description]
    return ", ".join([f"{kind} {'-'.join(sizes)}", *changes])
