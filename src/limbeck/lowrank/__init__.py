"""Low-rank factorisation: replace each large matrix of a network by two thin ones, and choose the ranks.

Look, decide, act::

    spectrum = look(model, calibration)             # singular values, in a metric that the data give
    spectrum = weigh(spectrum, model, calibration)  # optional: weight layers by measured sensitivity
    plan = plan_ranks(spectrum, parameters=0.5)     # the rank of each layer; print(plan) is a table
    small = apply(plan, model, spectrum)            # a new network; the old one is not modified

:mod:`limbeck.lowrank.matrices` does the same for one matrix, on plain arrays.
"""

__all__ = [
    "Convolutions",
    "Decomposition",
    "Factors",
    "LayerPlan",
    "LayerSpectrum",
    "Metric",
    "Placement",
    "RankPlan",
    "Spectrum",
    "apply",
    "budget_range",
    "check_plan",
    "decompose",
    "is_budget",
    "look",
    "metric_for",
    "model_digest",
    "most_for",
    "parse_bytes",
    "plan_by_rule",
    "plan_ranks",
    "rank_for_energy",
    "rank_for_parameters",
    "rank_for_sum",
    "restructure",
    "truncate",
    "weigh",
]

from limbeck.lowrank.act import apply, check_plan, restructure
from limbeck.lowrank.decide import budget_range, parse_bytes, plan_ranks
from limbeck.lowrank.layers import model_digest
from limbeck.lowrank.matrices import (
    Decomposition,
    Factors,
    Placement,
    decompose,
    rank_for_energy,
    rank_for_parameters,
    rank_for_sum,
    truncate,
)
from limbeck.lowrank.plan import LayerPlan, RankPlan
from limbeck.lowrank.rules import Convolutions, is_budget, metric_for, most_for, plan_by_rule
from limbeck.lowrank.sensitivity import weigh
from limbeck.lowrank.spectrum import LayerSpectrum, Metric, Spectrum, look
