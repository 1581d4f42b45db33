"""``torch.compile`` for the steps of a training, tried before the first one."""

__all__ = ["compiled_for"]

import warnings

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
            called: nn.Module = torch.compile(unwrapped(model))  # type: ignore[assignment]
            with device.autocast():
                logits = call_model(called, batch.inputs, dtype=weights_dtype(model))
            if logits.requires_grad:
                logits.sum().backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # the model was called without compiling before: what fails is the compiler
        cause = error.__cause__ if isinstance(error, UserCodeError) and error.__cause__ is not None else error
        if is_out_of_memory(cause):
            raise
        raise ConfigError(_told(cause, type(unwrapped(model)).__name__)) from error
    finally:
        model.train(training)
        with torch.no_grad():
            for name, value in model.named_buffers():
                if name in kept:
                    value.copy_(kept[name])
        for parameter in model.parameters():
            parameter.grad = None
    return called


def _told(error: BaseException, name: str) -> str:
    """Why a model cannot be compiled, in one line."""
    words = " ".join(str(error).split())
    if "compiler" in words and any(sign in words for sign in ("C++", "cxx", "No working", "InvalidCxxCompiler")):
        return "compile needs a C++ compiler, and none is found: install g++ (or set CXX), or leave compile out"
    return f"{name} cannot be compiled ({type(error).__name__}: {words[:200]}): leave compile out"
