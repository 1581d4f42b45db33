"""SIGINT and SIGTERM, collected so that a loop can end its step, save and say how to continue; or raised at once."""

__all__ = ["Terminated", "collect_signals", "raise_on_termination"]

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread as Ctrl-C is: no handler of errors takes it for one."""


@contextmanager
def raise_on_termination(*, enabled: bool) -> Iterator[None]:
    """Raise :class:`Terminated` on SIGTERM, so that files are left tidy and the user hears how to continue.

    Args:
        enabled: Whether to; outside the main thread it is not possible, and nothing is done.
    """
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def collect_signals(*, enabled: bool) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of terminating; a second one terminates.

    Args:
        enabled: Whether to; outside the main thread it is not possible, and nothing is done.

    Yields:
        The signals received so far.
    """
    caught: list[int] = []
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
