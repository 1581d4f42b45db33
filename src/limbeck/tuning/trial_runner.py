"""Running the planned trials of a study, here or in several processes, until none waits."""

__all__ = ["TrialRunner"]

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limbeck.options.search_space import Values
from limbeck.system.interrupts import collect_signals
from limbeck.tuning.jobs import work_together
from limbeck.tuning.study import finished, open_study, plan, waiting
from limbeck.tuning.trials import Bench, work

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

_ATTEMPTS = 3
"""How often a trial is run where the process that does it dies."""


@dataclass(frozen=True)
class TrialRunner:
    """Where and how long trials are run.

    Attributes:
        database: Where studies are kept.
        url: Its address; None for memory.
        alone: Whether nobody else works on its studies.
        jobs: How many processes work.
        ray: The address of a Ray cluster instead, or None.
        until: Begin no trial after this time, as ``time.time()`` has it.
        catches: Whether signals stop the search in an orderly way.
        progress: Called with the trials that came to an end.
    """

    database: "BaseStorage"
    url: str | None
    alone: bool
    jobs: int
    ray: str | None
    until: float
    catches: bool
    progress: Callable[[int], None]

    def run(
        self,
        name: str,
        common: Mapping[str, Any],
        points: Sequence[Values],
        bench: Callable[[], Bench],
        *,
        before: int = 0,
    ) -> "Study":
        """Run what waits of a study.

        Args:
            name: Of the study.
            common: What its trials have in common.
            points: What to try at each place.
            bench: Makes what trials are run with; called where any waits.
            before: Trials of other studies that count as done in the progress.

        Returns:
            The study.
        """
        opened = open_study(self.database, name, common)

        def told() -> None:
            self.progress(before + min(finished(opened), len(points)))

        plan(opened, self.database, points, alone=self.alone)
        told()
        if not waiting(opened):
            return opened
        made = bench()
        if (self.jobs == 1 and self.ray is None) or self.url is None:
            with collect_signals(enabled=self.catches) as caught:
                work(
                    opened, made, alone=self.alone, together=self.alone and self.ray is None, until=self.until,
                    caught=caught, told=told,
                )  # fmt: skip
            return opened
        for _ in range(_ATTEMPTS):
            work_together(
                opened, made, jobs=self.jobs, ray=self.ray, url=self.url, alone=self.alone, until=self.until, told=told
            )
            # Processes that died have left trials that seem to run.
            plan(opened, self.database, points, alone=self.alone)
            if not waiting(opened) or time.time() >= self.until:
                break
        return opened
