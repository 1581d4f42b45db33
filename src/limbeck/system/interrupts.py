"""SIGINT and SIGTERM, collected so that a loop can end its step, save and say how to continue."""

__all__ = ["collect_signals"]

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
