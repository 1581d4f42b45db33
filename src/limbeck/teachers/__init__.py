r"""Teachers: whatever can answer with a distribution over classes.

A teacher is frozen, in evaluation mode and without gradient, whatever is done with the modules it was made from: it
holds copies of its own.

Axes: ``N`` examples, ``K`` classes, ``M`` members; ``T`` is the temperature.
"""

__all__ = ["Ensemble", "ModelTeacher", "StoredTargets", "UserTeacher", "as_teacher"]

from limbeck.teachers.ensemble import Ensemble
from limbeck.teachers.making import as_teacher
from limbeck.teachers.model import ModelTeacher
from limbeck.teachers.stored import StoredTargets
from limbeck.teachers.user import UserTeacher
