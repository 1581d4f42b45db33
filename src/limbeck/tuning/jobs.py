"""Several processes at work on one study."""

__all__ = ["stoppable", "work_together"]

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from limbeck.errors import InterruptedRun
from limbeck.jobs import run_jobs
from limbeck.tuning.study import connect, optuna_here, waiting
from limbeck.tuning.trials import Bench, work

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

    Where a process dies its trial stays as it is, for :func:`~limbeck.tuning.study.plan` to find.

    Args:
        study: The study, planned, in a database.
        bench: What the trials have in common; every process has a copy.
        jobs: How many processes, on this machine.
        ray: Instead: the address of a Ray cluster, on which as many work as it has room for.
        url: The database.
        alone: Whether only these processes work on the study.
        until: Begin no trial after this time, as ``time.time()`` has it.
        told: Called now and then.

    Raises:
        ConfigError: If the student cannot be sent to another process.
        InterruptedRun: If SIGINT or SIGTERM came.
        RunError: If processes died at every attempt.
    """
    task = partial(_work_apart, url, study.study_name, bench, alone, until)
    try:
        run_jobs([task] * (jobs if ray is None else waiting(study)), jobs=jobs, ray=ray, tick=told)
    except InterruptedRun as stop:
        raise _stopped(stop.exit_code - 128) from stop
    told()


def _work_apart(url: str, name: str, bench: Bench, alone: bool, until: float) -> None:
    """What each process does."""
    study = optuna_here().load_study(study_name=name, storage=connect(url, shared=not alone))
    with stoppable(enabled=True):
        work(study, bench, alone=alone, until=until)


def _stopped(number: int) -> InterruptedRun:
    return InterruptedRun(
        f"stopped by {signal.Signals(number).name}; finished trials are kept, the same command with --resume continues",
        number,
    )


@contextmanager
def stoppable(*, enabled: bool) -> Iterator[None]:
    """SIGINT and SIGTERM end the search with a line that says how to go on; finished trials are kept already.

    Args:
        enabled: Whether there is anything to go on with.

    Yields:
        Nothing; meanwhile a signal raises :class:`~limbeck.errors.InterruptedRun`.
    """
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        for handled in before:
            signal.signal(handled, signal.SIG_IGN)
        raise _stopped(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
