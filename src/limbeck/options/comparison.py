"""Settings of a comparison of methods, for flags, TOML and Python.

Nothing here imports torch, so that ``limbeck --help`` is quick.
"""

__all__ = ["DEFAULT_METHODS", "Comparison"]

from dataclasses import dataclass

from limbeck.options.checks import check_types, require
from limbeck.options.methods import method_parts

DEFAULT_METHODS = ("kd", "logits", "dkd", "nkd", "dist", "ttm", "standardised")
"""Methods that work with any teacher and student; feature methods must be asked for by name."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which methods are compared, with how many trials and seeds.

    Attributes:
        methods: Methods to compare; baselines on labels alone, with label smoothing, and for twice as many epochs are
            added. Sums as for --method, such as kd:1+attention:1. Default: the methods that use logits.
        trials: Number of settings tried per arm, the same for each, baselines included. The first are the method's
            defaults; the others draw the learning rate, temperature, hard weight and the method's own weights.
            Validation chooses.
        seeds: Trainings per arm with the chosen settings, evaluated on the test set.
    """

    methods: tuple[str, ...] = DEFAULT_METHODS
    trials: int = 8
    seeds: int = 6

    def __post_init__(self) -> None:
        check_types(self)
        require(self.trials >= 1, "trials", self.trials, "at least 1")
        require(self.seeds >= 2, "seeds", self.seeds, "at least 2: a comparison over one seed shows nothing")
        require(len(self.methods) > 0, "methods", self.methods, "at least one method")
        require(len(set(self.methods)) == len(self.methods), "methods", self.methods, "different from each other")
        for method in self.methods:
            method_parts(method)
