"""Structured pruning: remove whole hidden units and channels of a network, by the measured change of its predictions.

Look, decide, act::

    seen = look_at_units(model, calibration)                        # what each group of units costs, measured
    plan = plan_units(seen, model, calibration, parameters=0.5)     # which units stay; print(plan) is a table
    small = prune(plan, model, calibration)                         # a new network; the old one is not modified
"""

__all__ = [
    "Group",
    "PrunePlan",
    "UnitLosses",
    "UnitPlan",
    "cost_of",
    "counts_within",
    "find_groups",
    "look_at_units",
    "plan_at",
    "plan_units",
    "prune",
    "removal_path",
    "without_units",
]

from limbeck.pruning.act import prune, without_units
from limbeck.pruning.decide import cost_of, counts_within, plan_at, plan_units, removal_path
from limbeck.pruning.groups import Group, find_groups
from limbeck.pruning.look import UnitLosses, look_at_units
from limbeck.pruning.plan import PrunePlan, UnitPlan
