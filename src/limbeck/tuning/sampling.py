"""Who chooses the values of a trial: Optuna's TPE, seeded by the trial's place in the plan."""

__all__ = ["placed_sampler"]

from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.tuning.study import optuna_here

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, TrialState


def placed_sampler(seed: int) -> "BaseSampler":
    """A sampler whose draws depend on the seed, the trial's place and the trials before it.

    One that was seeded once a process would draw the same numbers again after each resume, and in each of several
    processes.

    Args:
        seed: Of the search.

    Returns:
        The sampler.
    """
    optuna = optuna_here()

    class Placed(optuna.samplers.BaseSampler):  # type: ignore[misc, name-defined]
        inner: Any = None

        def infer_relative_search_space(self, study: "Study", trial: "FrozenTrial") -> "dict[str, BaseDistribution]":
            place = trial.user_attrs.get("place", trial.number)
            state = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
            self.inner = optuna.samplers.TPESampler(seed=state)
            found: dict[str, BaseDistribution] = self.inner.infer_relative_search_space(study, trial)
            return found

        def sample_relative(
            self, study: "Study", trial: "FrozenTrial", search_space: "dict[str, BaseDistribution]"
        ) -> dict[str, Any]:
            values: dict[str, Any] = self.inner.sample_relative(study, trial, search_space)
            return values

        def sample_independent(
            self, study: "Study", trial: "FrozenTrial", param_name: str, param_distribution: "BaseDistribution"
        ) -> Any:
            return self.inner.sample_independent(study, trial, param_name, param_distribution)

        def after_trial(self, study: "Study", trial: "FrozenTrial", state: "TrialState", values: Any) -> None:
            if self.inner is not None:
                self.inner.after_trial(study, trial, state, values)

    return Placed()
