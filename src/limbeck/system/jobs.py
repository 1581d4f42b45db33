"""Independent trainings in parallel: in processes of this machine, or on a Ray cluster.

Each runs the same function with the same number of threads as it would one after the other, so its results are the
same bits. A process that crashes is replaced, and its task is restarted; if the parent crashes, its processes end too,
so that the same command can resume.
"""

__all__ = ["Relay", "get_ready", "relayed", "run_jobs"]

import contextlib
import io
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

from limbeck.errors import ConfigError, InterruptedRun, LimbeckError, LimbeckWarning, MissingExtraError, RunError
from limbeck.system.callbacks import Callback, warn_user
from limbeck.system.interrupts import collect_signals
from limbeck.system.main_module import require_importable
from limbeck.system.processes import several
from limbeck.system.sharing import Shelf

T = TypeVar("T")

_ATTEMPTS = 3
"""Number of attempts of a task whose process crashes."""
_GRACE = 0.2
"""Seconds between looks at signals."""


class Relay(Callback):
    """A callback for a task in another process: it sends each epoch and note back.

    Args:
        queue: Where to, of a :func:`multiprocessing.Manager`.
    """

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Send the row."""
        self._send(dict(row))

    def on_note(self, text: str) -> None:
        """Send the words."""
        self._send(("note", text))

    def on_warning(self, text: str) -> None:
        """Send the warning."""
        self._send(("warn", text))

    def _send(self, message: object) -> None:
        # The receiver may have been stopped; the training itself continues to its next checkpoint.
        with contextlib.suppress(OSError, EOFError):
            self.queue.put(message)


@contextlib.contextmanager
def relayed(callback: Callback, epochs: int) -> Iterator[tuple[Relay, Callable[[], None]]]:
    """Relay the progress of trainings in other processes to a callback, as one training of all their epochs.

    Args:
        callback: Receives training progress.
        epochs: Of all trainings together.

    Yields:
        A callback for the tasks, and what :func:`run_jobs` calls from time to time.

    Raises:
        ConfigError: If another process cannot begin, as :func:`run_jobs` says.
    """  # noqa: DOC502
    require_importable(b"")  # the manager is a process too, which imports the user's script
    with _context().Manager() as manager:
        queue = manager.Queue()
        ended = 0

        def listen() -> None:
            nonlocal ended
            with contextlib.suppress(OSError, EOFError):
                while not queue.empty():
                    message = queue.get()
                    if isinstance(message, tuple):
                        kind, text = message
                        (callback.on_warning if kind == "warn" else callback.on_note)(text)
                    else:
                        ended += 1
                        callback.on_epoch({**message, "epoch": ended})

        callback.on_start("all trainings", epochs, 1, 0)
        try:
            yield Relay(queue), listen
        finally:
            listen()
            callback.on_end()


def run_jobs(
    tasks: Sequence[Callable[[], T]],
    *,
    jobs: int = 1,
    ray: str | None = None,
    done: Callable[[int, int], None] | None = None,
    tick: Callable[[], None] | None = None,
    warn: Callable[[str], None] = warn_user,
) -> list[T]:
    """Call each task.

    Args:
        tasks: Functions that can be sent to another process, such as ``functools.partial`` of one that is defined at
            the top of a module. A task is restarted if its process crashes, so it must resume from its files.
        jobs: How many run at a time on this machine; at 1 they run in this process.
        ray: Instead: the address of a Ray cluster, or "local" for one that is started here.
        done: Called with the tasks that are done and all of them.
        tick: Called a few times a second while processes of this machine work.
        warn: Called with each warning of another process, when all are done.

    Returns:
        The results, in the order of the tasks.

    Raises:
        ConfigError: If something cannot be sent to another process, or settings contradict each other.
        InterruptedRun: If SIGINT or SIGTERM came; it is passed on, and every task saves what it has.
        LimbeckError: If a task raised one.
        MissingExtraError: If Ray is asked for and not installed.
        RunError: If a process died at each attempt.

    Example:
        >>> import functools, math
        >>> run_jobs([functools.partial(math.gcd, 4, 6), functools.partial(math.gcd, 9, 6)])
        [2, 3]
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, and is {jobs}")
    if jobs > 1 and ray is not None:
        raise ConfigError("jobs is for this machine, and ray for a cluster: give one of them")
    if several() and (jobs > 1 or ray is not None):
        raise ConfigError("this is one of several processes with one training between them: leave jobs and ray out")
    if jobs == 1 and ray is None:
        results = []
        for task in tasks:
            results.append(task())
            if done is not None:
                done(len(results), len(tasks))
        return results
    threads = torch.get_num_threads()
    if ray is not None:
        answers = _on_ray(_payloads(tasks, pickle.dumps, elsewhere=True), threads, ray, done)
    else:
        with tempfile.TemporaryDirectory(prefix="limbeck-", ignore_cleanup_errors=True) as folder:
            payloads = _payloads(tasks, Shelf(Path(folder)).pack, elsewhere=False)
            answers = _on_this_machine(payloads, threads, min(jobs, len(tasks)), done, tick)
    for _, _, heard in answers:
        for text in heard:
            warn(text)
    return [_unpacked(kind, content) for kind, content, _ in answers]


def _payloads(tasks: Sequence[Callable[[], Any]], pack: Callable[[object], bytes], *, elsewhere: bool) -> list[bytes]:
    packed = {id(task): _packed(task, pack) for task in tasks}
    for payload in packed.values():
        require_importable(payload, elsewhere=elsewhere)
    return [packed[id(task)] for task in tasks]


def _packed(task: Callable[[], Any], pack: Callable[[object], bytes]) -> bytes:
    try:
        return pack(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"this cannot be sent to another process ({' '.join(str(error).split())[:200]}): define your model or its "
            "function at the top of a module, or leave jobs and ray out"
        ) from error


def _unpacked(kind: str, content: bytes) -> Any:
    if kind == "result":
        return pickle.loads(content)
    _fail(pickle.loads(content))


def _fail(told: tuple[str, int]) -> NoReturn:
    message, code = told
    if code > 128:
        raise InterruptedRun(message, code - 128)
    error = LimbeckError(message)
    error.exit_code = code
    raise error


Answer = tuple[str, bytes, list[str]]
"""What :func:`call` gives back."""


def call(payload: bytes, threads: int, places: Sequence[str], folder: str) -> Answer:
    """Do one task in this process.

    Args:
        payload: The task.
        threads: How many threads a computation may have, since their number decides how sums are rounded.
        places: Entries of ``sys.path``, where the user's modules may be.
        folder: Where relative paths begin.

    Returns:
        "result" and what came out, or "error" and the words and exit code of an error of ours; and the warnings of
        ours that came, which are raised again where the tasks were begun.
    """
    torch.set_num_threads(threads)
    with contextlib.suppress(OSError):  # another machine may have no such folder, and need none
        os.chdir(folder)
    sys.path.extend(place for place in places if place not in sys.path)
    try:
        task = pickle.loads(payload)  # from the process that began this run, and from no file
    except (ImportError, AttributeError) as error:
        words = (
            f"another process cannot import what it is to work with ({error}): define your model or its function at "
            "the top of a module that it can import, or leave jobs and ray out"
        )
        return "error", pickle.dumps((words, ConfigError.exit_code)), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LimbeckWarning)
        try:
            kind, content = "result", pickle.dumps(task())
        except LimbeckError as error:
            kind, content = "error", pickle.dumps((str(error), error.exit_code))
    ours = [warning for warning in caught if issubclass(warning.category, LimbeckWarning)]
    for warning in caught:
        if warning not in ours:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return kind, content, list(dict.fromkeys(str(warning.message) for warning in ours))


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent process, and end at once if it is gone: its folder may be in use."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "it was begun by another"

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def get_ready() -> None:
    """Start the process that others are forked from, in the background: it imports what they need.

    It is started when it is needed, too; whoever knows early that it will be saves the wait.
    """
    if _context().get_start_method() == "forkserver":
        forkserver.ensure_running()


def _context() -> BaseContext:
    """Processes are forked from one that has imported everything and computed nothing: they start in a moment."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows: each imports by itself
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["limbeck.runs", "torch._dynamo"])  # counts before the first process is started
    return context


def _on_this_machine(
    payloads: Sequence[bytes],
    threads: int,
    jobs: int,
    done: Callable[[int, int], None] | None,
    tick: Callable[[], None] | None,
) -> list[Answer]:
    found: dict[int, Answer] = {}
    context = _context()
    with collect_signals(enabled=True) as caught:
        for _ in range(_ATTEMPTS):
            # The process that others are forked from may die too, which shows as the end of its pipe.
            with (
                contextlib.suppress(EOFError, ConnectionError),
                ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker) as pool,
            ):
                left = {
                    pool.submit(call, payload, threads, sys.path, os.getcwd()): number
                    for number, payload in enumerate(payloads)
                    if number not in found
                }
                for future in _ended(left, caught, tick):
                    with contextlib.suppress(BrokenProcessPool):
                        found[left[future]] = future.result()
                        if done is not None:
                            done(len(found), len(payloads))
            if len(found) == len(payloads):
                return [found[number] for number in range(len(payloads))]
    raise RunError(
        f"{len(payloads) - len(found)} of {len(payloads)} trainings died at each of {_ATTEMPTS} attempts, perhaps for "
        "want of memory: use fewer jobs, and go on with resume=True (--resume); or because the script that starts "
        "them cannot be imported without starting them again"
    )


def _ended(
    futures: dict[Future[Answer], int], caught: list[int], tick: Callable[[], None] | None
) -> Iterator[Future[Answer]]:
    """Futures as they end; a signal is passed on, and tasks that have not begun are then left out."""
    pending = set(futures)
    passed_on = False
    while pending:
        ended, pending = wait(pending, timeout=_GRACE, return_when="FIRST_COMPLETED")
        if tick is not None:
            tick()
        if caught and not passed_on:
            passed_on = True
            for future in pending:
                future.cancel()
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGTERM)
        for future in ended:
            if not future.cancelled():
                yield future
    if caught:
        name = signal.Signals(caught[0]).name
        raise InterruptedRun(
            f"stopped by {name}; everything is saved, the same with resume=True (--resume) continues", caught[0]
        )


def _on_ray(
    payloads: Sequence[bytes], threads: int, address: str, done: Callable[[int, int], None] | None
) -> list[Answer]:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    began = not ray.is_initialized()
    try:
        # Ray tells its news on the output stream, which is for results.
        with contextlib.redirect_stdout(io.StringIO()):
            ray.init(
                address=None if address == "local" else address,
                ignore_reinit_error=True,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # among them a bare Exception, where a node does not start in time
        raise ConfigError(f"no Ray cluster at {address}: {' '.join(str(error).split())[:200]}") from error
    try:
        largest = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes())  # type: ignore[no-untyped-call]
        remote = ray.remote(num_cpus=min(threads, largest), max_retries=_ATTEMPTS - 1)(call)
        sent = {id(payload): ray.put(payload) for payload in payloads}
        left = {
            remote.remote(sent[id(payload)], threads, sys.path, os.getcwd()): number
            for number, payload in enumerate(payloads)
        }
        numbers, found = dict(left), {}
        with collect_signals(enabled=True) as caught:
            while left:
                ended, _ = ray.wait([*left], timeout=_GRACE)
                for reference in ended:
                    found[left.pop(reference)] = ray.get(reference)
                    if done is not None:
                        done(len(found), len(payloads))
                if caught:
                    for reference in left:
                        ray.cancel(reference, force=False)
                    time.sleep(_GRACE)
                    raise InterruptedRun(
                        f"stopped by {signal.Signals(caught[0]).name}; the same with resume=True (--resume) continues",
                        caught[0],
                    )
        return [found[number] for number in sorted(numbers.values())]
    except ray.exceptions.RayError as error:
        raise RunError(f"a training failed on the cluster: {' '.join(str(error).split())[:300]}") from error
    finally:
        if began:
            ray.shutdown()
