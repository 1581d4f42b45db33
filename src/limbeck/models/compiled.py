"""``torch.compile`` for the steps of a training, tried before the first one."""

__all__ = ["compiled_for", "refuse_uncompiled"]

import warnings
from typing import NoReturn

import torch
from torch import nn

from limbeck.errors import ConfigError, UserCodeError
from limbeck.models.calling import call_model, weights_dtype
from limbeck.models.wrapped import unwrapped
from limbeck.protocols import Batch
from limbeck.system.devices import Device
from limbeck.system.user_code import is_out_of_memory


def compiled_for(model: nn.Module, batch: Batch, device: Device) -> nn.Module:
    """A compiled form of a model that shares its weights, after a forward and a backward pass have shown that it works.

    The model itself is left as it is: it is what is validated, saved and returned, and what a checkpoint holds, so that
    a run may resume with or without compiling. Both give the same up to rounding.

    Args:
        model: What is trained, on its device.
        batch: The first batch of the run.
        device: Where and how precisely to compute.

    Returns:
        A module to call in its place.

    Raises:
        ConfigError: If there is no compiler, or the model cannot be compiled.
    """
    kept = {name: value.clone() for name, value in model.named_buffers()}
    training = model.training
    fork = [device.device] if device.device.type == "cuda" else []
    try:
        model.train()
        with torch.random.fork_rng(devices=fork), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler's own parts
            torch.compiler.reset()  # after a number of models of one class it would compile no further one
            called: nn.Module = torch.compile(unwrapped(model))  # type: ignore[assignment]
            with device.autocast():
                logits = call_model(called, batch.inputs, dtype=weights_dtype(model))
            if logits.requires_grad:
                logits.sum().backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # the model was called without compiling before: what fails is the compiler
        refuse_uncompiled(error, model)
    finally:
        model.train(training)
        with torch.no_grad():
            for name, value in model.named_buffers():
                if name in kept:
                    value.copy_(kept[name])
        for parameter in model.parameters():
            parameter.grad = None
    return called


def refuse_uncompiled(error: Exception, model: nn.Module) -> NoReturn:
    """Raise what a compiled model raised as one line that says what is missing.

    Args:
        error: What was raised. Errors of memory pass as they are.
        model: The model, which can be called without compiling.

    Raises:
        ConfigError: Whose ``__cause__`` is the error.

    Example:
        >>> refuse_uncompiled(RuntimeError("InvalidCxxCompiler: No working C++ compiler found"), nn.Linear(1, 1))
        Traceback (most recent call last):
        limbeck.errors.ConfigError: compile needs a C++ compiler, and none is found: install g++ (or set CXX), or ...
    """
    cause = error.__cause__ if isinstance(error, UserCodeError) and error.__cause__ is not None else error
    if is_out_of_memory(cause):
        raise error
    words = " ".join(str(cause).split())
    if "No working C++ compiler" in words or "InvalidCxxCompiler" in words:
        told = "compile needs a C++ compiler, and none is found: install g++ (or set CXX), or leave compile out"
    else:
        name = type(unwrapped(model)).__name__
        told = f"{name} cannot be compiled ({type(cause).__name__}: {words[:200]}): leave compile out"
    raise ConfigError(told) from error
