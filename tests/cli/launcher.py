"""Real processes of the command line that start in a moment: each is forked from one that has imported everything."""

__all__ = ["Launched", "also_preload", "finished", "free_port", "launch", "launch_several"]

import inspect
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOADED = [
    "limbeck.cli",
    "limbeck.training.engine",
    "limbeck.runs.pages",
    "limbeck.softtargets",
    "accelerate",
    "limbeck.tuning",
    "optuna",
    "sqlalchemy",
]
_CONTEXT.set_forkserver_preload(_PRELOADED)


def also_preload(*modules: str) -> None:
    """Import more in the server, where it has not started yet; later it only takes longer in each process."""
    _CONTEXT.set_forkserver_preload([*_PRELOADED, *modules])


@dataclass(frozen=True)
class Launched:
    """A process, and the file that has what it said."""

    process: Any
    log: Path

    def kill(self) -> None:
        """End it as the system does when memory runs out: at once, with nothing saved."""
        self.process.kill()
        self.process.join()

    @property
    def said(self) -> str:
        """All that it wrote to its output and error streams."""
        return self.log.read_text()


def launch(log: Path, *words: object, **environment: str) -> Launched:
    """Start ``limbeck WORDS`` in a process of its own."""
    process = _CONTEXT.Process(target=_begin, args=(str(log), [str(word) for word in words], environment))
    process.start()
    return Launched(process, log)


def launch_several(log: Path, count: int, *words: object, **environment: str) -> list[Launched]:
    """Start ``limbeck WORDS`` in several processes that are one run, as torchrun does."""
    port = str(free_port())
    return [
        launch(
            log.with_name(f"{log.name}-{rank}"),
            *words,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(count),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            **environment,
        )  # fmt: skip
        for rank in range(count)
    ]


def finished(launched: Launched, seconds: float = 120) -> int:
    """Wait for the end, and return the exit code."""
    launched.process.join(seconds)
    assert launched.process.exitcode is not None, f"still running after {seconds} s: {launched.said}"
    return int(launched.process.exitcode)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _begin(log: str, words: list[str], environment: dict[str, str]) -> None:
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.environ.update(environment)
    if "MODULES" in environment:
        sys.path.insert(0, environment["MODULES"])
    if "MORE_BYTES" in environment:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + int(environment["MORE_BYTES"]),) * 2)
    from limbeck import cli
    from limbeck.runs import pages
    from limbeck.runs.measure import speed_of
    from limbeck.tuning import results

    # Figures take longer than tiny runs, and speeds are no part of what is compared.
    pages.write_report = results.write_search_report = lambda contents, path: path
    speed_of.__kwdefaults__["seconds"] = 0.001
    if "SHARD_BYTES" in environment:
        from limbeck.softtargets import softening

        inspect.unwrap(softening.soften).__kwdefaults__["shard_bytes"] = int(environment["SHARD_BYTES"])
    if "KEPT_TOKENS" in environment:
        from limbeck.data import text

        text._KEPT_TOKENS = int(environment["KEPT_TOKENS"])
    if "KILL_AT" in environment:
        _die_at(*map(float, environment["KILL_AT"].split()))
    code = 0
    try:
        cli.main(words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _die_at(step: float, seconds: float) -> None:
    """End this process as SIGKILL does, so many seconds after a batch of training was handed out, counted from 1."""
    from limbeck.data.feed import Feed

    whole, handed = Feed.batches, 0

    def batches(feed: Feed, epoch: int, *, start: int = 0) -> Any:
        nonlocal handed
        for batch in whole(feed, epoch, start=start):
            handed += 1
            if handed == step:
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
            yield batch

    Feed.batches = batches  # type: ignore[method-assign]
