"""Calling of model factories."""

__all__ = ["make_model", "seeded"]

import inspect
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from limbeck.errors import ConfigError
from limbeck.system.user_code import introduce_error

_BY_NAME = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of torch, numpy and Python, and restore their states afterwards.

    Args:
        seed: In [0, 2**63).

    Yields:
        Nothing.
    """
    of_numpy, of_python = np.random.get_state(), random.getstate()
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        np.random.seed(seed % (1 << 32))
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)


def make_model(
    maker: Callable[..., nn.Module], seed: int, *, named: Mapping[str, Any] | None = None, what: str | None = None
) -> nn.Module:
    """Call a function that makes a model, with the arguments it takes, under a seed.

    It may take the seed, as ``seed`` or as its one required argument, or nothing: the generators of torch, numpy and
    Python are seeded around the call either way, so that ``lambda: nn.Linear(8, 4)`` differs by seed and is repeatable.

    Args:
        maker: The function, or a class.
        seed: Of the weights.
        named: Further arguments, each given where the function takes one of that name.
        what: What to call it in a message; None for its own name.

    Returns:
        The model.

    Raises:
        ConfigError: If it needs other arguments, or returns what is not a module.
        UserCodeError: If it raises an error.

    Example:
        >>> same = [make_model(make, 3) for make in (lambda: nn.Linear(2, 2), lambda seed: nn.Linear(2, 2))]
        >>> torch.equal(same[0].weight, same[1].weight)
        True
    """
    called = str(what or getattr(maker, "__name__", type(maker).__name__))
    if not callable(maker):
        cure = ": open a run with limbeck.load(path)" if isinstance(maker, str | os.PathLike) else ""
        raise ConfigError(f"a torch.nn.Module or a function that makes one is needed, and a {called} was given{cure}")
    positional, by_name = _arguments(maker, seed, named or {}, called)
    with seeded(seed):
        try:
            made = maker(*positional, **by_name)
        except Exception as error:  # any error of the user's function
            introduce_error(error, called, f"a call with seed {seed}")
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{called} returned a {type(made).__name__}, and a torch.nn.Module is needed")
    return made


def _arguments(
    maker: Callable[..., nn.Module], seed: int, named: Mapping[str, Any], called: str
) -> tuple[list[int], dict[str, Any]]:
    try:
        parameters = list(inspect.signature(maker).parameters.values())
    except (TypeError, ValueError):  # built in, without a signature
        return [seed], {}
    kinds = {parameter.kind for parameter in parameters}
    offered = {**named, "seed": seed}
    chosen = {p.name: offered[p.name] for p in parameters if p.kind in _BY_NAME and p.name in offered}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        chosen |= named
    needed = [
        p
        for p in parameters
        if p.default is p.empty
        and p.name not in chosen
        and p.kind not in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    ]
    takes_seed = "seed" not in chosen and not inspect.isclass(maker)
    if not needed:
        starred = inspect.Parameter.VAR_POSITIONAL in kinds and not chosen
        return [seed] if starred and takes_seed else [], chosen
    if len(needed) == 1 and takes_seed and needed[0].kind is not inspect.Parameter.KEYWORD_ONLY:
        if needed[0].kind in _BY_NAME:
            return [], {**chosen, needed[0].name: seed}
        return [seed], chosen
    takes = ", ".join(p.name for p in needed)
    also = " or ".join(named) + " or " if named else ""
    raise ConfigError(
        f"{called} needs the arguments {takes}, and is given {also}a seed, or nothing: give "
        + ("an instance of the class" if inspect.isclass(maker) else "a function of these alone")
    )
