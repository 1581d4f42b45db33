r'''Distillation methods: losses between student and teacher. One file per method.

``limbeck methods`` lists them. A method is a :class:`Method`: a module whose :meth:`~Method.forward` gets the outputs
of student and teacher for a batch (:class:`Output`) and gives one value per example, whose mean is minimised. The loop
combines it with the labels, ``(1 - hard_weight) * method + hard_weight * cross_entropy``.

Writing one::

    class Squares(Method):
        """Squared distance of the softened probabilities."""

        def __init__(self, *, temperature: float = 4.0, weight: float = 1.0) -> None:
            super().__init__()
            self.temperature, self.weight = temperature, weight  # options are attributes of the same name

        def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
            p = softened(student.logits, self.temperature).exp()
            q = targets_at(teacher, self.temperature).exp()
            return self.weight * (p - q).square().sum(-1)

        def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
            ...  # by the formula, in float64, and sharing nothing with forward

It is used as ``--method squares.py:Squares``, as ``distill(..., method=Squares(weight=2.0))``, or under its own name by
an entry point of the group ``limbeck.methods`` (in ``pyproject.toml``)::

    [project.entry-points."limbeck.methods"]
    squares = "my_package.squares:Squares"

Properties of a method, as attributes of the class or of the instance:

- ``temperature``: that of the teacher. ``teacher.logits`` are its log-probabilities at
  ``teacher.temperature``, which is this one, or 1; :func:`targets_at` gives them at the one that is wanted. With
  ``needs_logits`` the teacher must be one whose logits are known (a model, a geometric mean, a dense store), and is
  asked at T = 1.
- ``coupled``: the value of an example depends on its batch. It is refused in several processes and under accumulation;
  its forward gives ``(N,)`` all the same: the value of the batch, N times.
- ``needs_every_class``, ``needs_labels``, ``reads_logits``, ``shift_invariant``: see :class:`Method`.
- ``phases``, ``hints``: for methods of several stages, whose :meth:`~Method.at` gets the position in the training.
- ``student_taps``, ``teacher_taps``: names of submodules whose outputs it gets in ``student.features`` and
  ``teacher.features``. Parameters of its own are made in :meth:`~Method.prepare`, from the shapes of a first batch
  under the training's seed; they are trained, checkpointed and resumed with the student's, and never saved with it.

What each run checks before its first step, by :mod:`limbeck.training.self_check`: the gradient by autograd against
:meth:`~Method.reference_gradient`, in float64 on synthetic logits and within rounding on the run's device and data; the
value against that gradient by differences; no change by a constant (``shift_invariant``); no gradient to anything but
the student; and the gradient at the student where it is known without a formula (:meth:`~Method.known_gradient`, by
default zero at the teacher). Without a reference gradient only finite values, one per example, are asked for.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
'''

__all__ = [
    "Method",
    "Moment",
    "Output",
    "OwnLoss",
    "OwnObjective",
    "describe_methods",
    "labels_of",
    "make_method",
    "method_class",
    "targets_at",
]

from limbeck.methods.base import Method, Moment, labels_of, targets_at
from limbeck.methods.own import OwnLoss, OwnObjective
from limbeck.methods.registry import describe_methods, make_method, method_class
from limbeck.protocols import Output
