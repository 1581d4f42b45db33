"""Several processes at work on one study, each with its share of the threads."""

__all__ = ["stoppable", "work_together"]

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.queues import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

import torch

from limbeck.errors import ConfigError, InterruptedRun, LimbeckError, RunError
from limbeck.tuning.study import connect, optuna_here
from limbeck.tuning.trials import Bench, work

if TYPE_CHECKING:
    from optuna import Study

_LOOK_SECONDS = 0.5


def work_together(
    study: "Study", bench: Bench, jobs: int, *, url: str, shared: bool, until: float, told: Callable[[], None]
) -> None:
    """Run waiting trials in several processes until none is left.

    Args:
        study: The study, planned, in a database.
        bench: What the trials have in common; every process has a copy.
        jobs: How many processes.
        url: The database.
        shared: Whether others may work on it too.
        until: Begin no trial after this time, as ``time.time()`` has it.
        told: Called now and then.

    Raises:
        ConfigError: If the student cannot be sent to another process.
        RunError: If a process failed.
    """
    try:
        payload = pickle.dumps(bench)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"jobs is {jobs}, and the student cannot be sent to another process ({error}): give a module, or a "
            "function at the top level of a file; or leave jobs out"
        ) from error
    context = multiprocessing.get_context("spawn")
    failures: SimpleQueue[str] = context.SimpleQueue()
    threads = max(1, torch.get_num_threads() // jobs)
    workers = [
        context.Process(
            target=_worker, args=(payload, url, study.study_name, shared, until, threads, failures), daemon=True
        )
        for _ in range(jobs)
    ]
    try:
        with _deaf_to_interrupts():  # Ctrl-C reaches the whole group of processes: this one sees to the others
            for worker in workers:
                worker.start()
        while any(worker.is_alive() for worker in workers):
            connection.wait([worker.sentinel for worker in workers if worker.is_alive()], timeout=_LOOK_SECONDS)
            told()
            if any(worker.exitcode for worker in workers):
                break
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()
    failed = next((worker.exitcode for worker in workers if worker.exitcode not in {0, -signal.SIGTERM}), None)
    if failed is not None:
        reason = "it was killed" if failures.empty() else failures.get()
        raise RunError(f"one of {jobs} processes stopped: {reason}; --resume goes on")


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
        raise InterruptedRun(
            f"stopped by {signal.Signals(number).name}; finished trials are kept, the same command with --resume "
            "continues",
            number,
        )

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _deaf_to_interrupts:  # noqa: N801
    """Processes that start meanwhile do not hear SIGINT."""

    def __enter__(self) -> None:
        self.main = threading.current_thread() is threading.main_thread()
        self.before = signal.signal(signal.SIGINT, signal.SIG_IGN) if self.main else None

    def __exit__(self, *_: object) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.before)


def _worker(
    payload: bytes, url: str, name: str, shared: bool, until: float, threads: int, failures: "SimpleQueue[str]"
) -> None:
    """What each process does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        bench: Bench = pickle.loads(payload)
        study = optuna_here().load_study(study_name=name, storage=connect(url, shared=shared))
        work(study, bench, until=until)
    except LimbeckError as error:
        failures.put(str(error))
        raise SystemExit(1) from error
    except Exception as error:
        failures.put(f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise SystemExit(1) from error


def _end_with_parent() -> None:
    """Stop at once where the process that began this one is gone: its trials will be run again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
