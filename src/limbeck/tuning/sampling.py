"""The sampler of trials: Optuna's TPE, seeded by the trial's place in the plan and the value's name."""

__all__ = ["placed_sampler"]

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.tuning.study import optuna_here

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial


def placed_sampler(seed: int) -> "BaseSampler":
    """A sampler whose draws depend on the seed, the trial's place, the value's name and the trials before it.

    One that was seeded once a process would draw the same numbers again after each resume, and in each of several
    processes; one that was seeded once a trial would draw others where a process was killed between two values.

    Args:
        seed: Of the search.

    Returns:
        The sampler.
    """
    optuna = optuna_here()

    class Placed(optuna.samplers.BaseSampler):  # type: ignore[misc, name-defined]
        def infer_relative_search_space(self, study: "Study", trial: "FrozenTrial") -> "dict[str, BaseDistribution]":
            return {}

        def sample_relative(
            self, study: "Study", trial: "FrozenTrial", search_space: "dict[str, BaseDistribution]"
        ) -> dict[str, Any]:
            return {}

        def sample_independent(
            self, study: "Study", trial: "FrozenTrial", param_name: str, param_distribution: "BaseDistribution"
        ) -> Any:
            source = np.random.SeedSequence([seed, trial.user_attrs["place"], zlib.crc32(param_name.encode())])
            drawer = optuna.samplers.TPESampler(seed=int(source.generate_state(1)[0]))
            return drawer.sample_independent(study, trial, param_name, param_distribution)

    return Placed()
