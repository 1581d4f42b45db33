"""Networks and distillation with Keras, for the benchmarks that stand beside it."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def open_keras(backend: str) -> Any:
    """Keras on a backend: "torch", "jax" or "tensorflow"; before anything else imports it."""
    os.environ["KERAS_BACKEND"] = backend
    return importlib.import_module("keras")


def dense_network(keras: Any, pixels: int, widths: Sequence[int]) -> Any:
    """Dense layers with ReLU between them; the output is logits."""
    hidden = [keras.layers.Dense(width, activation="relu") for width in widths[:-1]]
    return keras.Sequential([keras.Input((pixels,)), *hidden, keras.layers.Dense(widths[-1])])


def network_of(keras: Any, pixels: int, saved: Path) -> Any:
    """Limbeck's saved network of linear layers as one of Keras."""
    from safetensors.numpy import load_file

    weights = load_file(saved / "model.safetensors")
    names = [name for name in weights if name.endswith("weight")]
    network = dense_network(keras, pixels, [len(weights[name]) for name in names])
    for layer, name in zip(network.layers, names, strict=True):
        layer.set_weights([weights[name].T, weights[name.replace("weight", "bias")]])
    return network


def distiller(keras: Any, teacher: Any, student: Any, *, temperature: float, weight: float, rate: float) -> Any:
    """A compiled ``Distiller`` as the Keras guide has it, with the loss given explicitly."""
    made = keras.distillation.Distiller(
        teacher=teacher,
        student=student,
        distillation_losses=keras.distillation.LogitsDistillation(
            temperature=temperature, loss=keras.losses.KLDivergence()
        ),
        student_loss_weight=weight,
    )
    made.compile(
        optimizer=keras.optimizers.Adam(rate), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return made
