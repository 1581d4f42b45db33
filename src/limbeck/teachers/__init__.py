r"""Teachers: whatever can answer with a distribution over classes.

A teacher is asked in evaluation mode and without gradient. It holds the modules it was made from, and no copies, which
for large ones there may be no room for: a run freezes them in place, and gives them back as they were.

Axes: ``N`` examples, ``K`` classes, ``M`` members; ``T`` is the temperature.
"""

__all__ = ["Ensemble", "ModelTeacher", "StoredTargets", "UserTeacher", "as_teacher", "lent"]

from limbeck.teachers.conversion import as_teacher
from limbeck.teachers.ensemble import Ensemble
from limbeck.teachers.frozen import lent
from limbeck.teachers.model import ModelTeacher
from limbeck.teachers.stored import StoredTargets
from limbeck.teachers.user import UserTeacher
