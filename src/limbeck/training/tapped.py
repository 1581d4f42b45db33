"""Feature taps of student and teacher: found, read, and synthesised for the self-check.

Axes: ``N`` examples.
"""

__all__ = ["Shapes", "drawn", "tapped"]

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.methods import Method, Output
from limbeck.models.calling import call_model, evaluating
from limbeck.models.taps import Taps, default_stages, list_taps
from limbeck.models.wrapped import unwrapped
from limbeck.protocols import Batch, TappedTeacher

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of one example's features, by layer name."""


def tapped(
    method: Method, model: nn.Module, teacher: TappedTeacher, batch: Batch, asked_at: float
) -> tuple[Taps, tuple[Shapes, Shapes]]:
    """Find the layers that a method reads, prepare the method for them, and hook the student's.

    Args:
        method: The method; prepared in place.
        model: The student, on its device.
        teacher: A teacher whose layers can be read.
        batch: Some examples.
        asked_at: The teacher's temperature.

    Returns:
        The student's layers, until they are closed, and the shapes of the student's and the teacher's features.

    Raises:
        ConfigError: If the student is compiled, so that its layers are not called.
    """
    if unwrapped(model) is not model:
        raise ConfigError(
            f"method {method.name} reads layers of the student, and a model that is compiled or wrapped does not call "
            "them one by one: give the model itself, and leave compile out"
        )
    stages = default_stages(list_taps(model, batch.inputs))
    method.find_taps(stages, teacher.stages(batch.for_teacher))
    taps = Taps(model, method.student_taps)
    with evaluating(model), torch.no_grad():
        student = Output(call_model(model, batch.inputs), {})
    student = Output(student.logits, taps.take(len(student.logits)))
    says = teacher.answer(batch.for_teacher, asked_at, method.teacher_taps)
    method.prepare(student, says)
    return taps, (_shapes(student), _shapes(says))


def _shapes(output: Output) -> Shapes:
    return {name: tuple(value.shape[1:]) for name, value in output.features.items()}


def drawn(shapes: Shapes, like: Tensor, *, seed: int) -> dict[str, Tensor]:
    """Random features.

    Args:
        shapes: Shapes of one example's features.
        like: A tensor with the wanted number of rows, dtype and device.
        seed: Seed of the random numbers.

    Returns:
        Features by name.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(len(like), *shape, generator=generator, dtype=torch.float32).to(like)
        for name, shape in shapes.items()
    }
