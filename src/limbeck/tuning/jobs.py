"""Several processes working on one study."""

__all__ = ["work_together"]

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from limbeck.errors import InterruptedRun
from limbeck.system.interrupts import collect_signals
from limbeck.system.jobs import run_jobs
from limbeck.tuning.study import connect, optuna_here, told_of_storage, waiting
from limbeck.tuning.trials import Bench, stopped_by, work

if TYPE_CHECKING:
    from optuna import Study


def work_together(
    study: "Study",
    bench: Bench,
    *,
    jobs: int,
    ray: str | None,
    url: str,
    alone: bool,
    until: float,
    told: Callable[[], None],
) -> None:
    """Run waiting trials in several processes until none is left.

    If a process crashes, its trial stays for :func:`~limbeck.tuning.study.plan` to find.

    Args:
        study: The study, planned, in a database.
        bench: What the trials have in common; every process has a copy.
        jobs: How many processes, on this machine.
        ray: Instead: the address of a Ray cluster, on which as many work as it has room for.
        url: The database.
        alone: Whether only these processes work on the study.
        until: Begin no trial after this time, as ``time.time()`` has it.
        told: Called periodically.

    Raises:
        ConfigError: If the student cannot be sent to another process.
        InterruptedRun: If SIGINT or SIGTERM came.
        RunError: If processes died at every attempt.
    """
    task = partial(_work_apart, url, study.study_name, bench, alone, until)
    try:
        run_jobs([task] * (jobs if ray is None else waiting(study)), jobs=jobs, ray=ray, tick=told)
    except InterruptedRun as stop:
        number = stop.exit_code - 128
        raise InterruptedRun(stopped_by(number), number) from stop
    told()


def _work_apart(url: str, name: str, bench: Bench, alone: bool, until: float) -> None:
    """What each process does."""
    study = optuna_here().load_study(study_name=name, storage=connect(url, shared=not alone))
    with told_of_storage(url), collect_signals(enabled=True) as caught:
        work(study, bench, alone=alone, until=until, caught=caught)
