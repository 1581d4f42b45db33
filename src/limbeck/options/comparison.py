"""What a comparison of methods is made of, as flags, TOML and Python have it.

Nothing here imports torch, so that ``limbeck --help`` is quick.
"""

__all__ = ["DEFAULT_METHODS", "Comparison"]

from dataclasses import dataclass

from limbeck.options.checks import check_types, require
from limbeck.options.methods import method_parts

DEFAULT_METHODS = ("kd", "logits", "dkd", "nkd", "dist", "ttm", "standardised")
"""Those that any teacher and any student can be compared by; methods of features are asked for by name."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which methods are compared, and how carefully.

    Attributes:
        methods: Methods to compare, beside the same network trained on labels alone, with label smoothing, and for
            twice as many epochs; sums as for --method, such as kd:1+attention:1. Default: those that read logits.
        trials: Settings tried per method, the same number for each, labels alone included. The first are the method's
            defaults; the others draw the learning rate, the temperature, the weight of the labels and the method's own
            weights. Validation chooses.
        seeds: Trainings per method with the chosen settings, which the test set judges.
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
