r"""Teachers: sources of distributions over classes.

A teacher runs in evaluation mode and without gradient. It references its modules without copying them, since large ones
may not fit twice: a run freezes them in place, and restores them afterwards.

Axes: ``N`` examples, ``K`` classes, ``M`` members; ``T`` is the temperature.
"""

__all__ = ["Ensemble", "ModelTeacher", "StoredTargets", "UserTeacher", "as_teacher", "lent"]

from limbeck.teachers.conversion import as_teacher
from limbeck.teachers.ensemble import Ensemble
from limbeck.teachers.frozen import lent
from limbeck.teachers.model import ModelTeacher
from limbeck.teachers.stored import StoredTargets
from limbeck.teachers.user import UserTeacher
