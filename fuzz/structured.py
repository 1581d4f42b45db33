"""Try all readers on files that were damaged with knowledge of their structure:  python fuzz/structured.py --jobs 8.

Unlike ``run.py`` it needs no atheris, spreads over processes, and input N of a seed is the same on any machine:
``--only TARGET N`` makes it once more. Inputs that were found lie in ``--out``.
"""

import argparse
import faulthandler
import os
import queue
import random
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_CHUNK, _SECONDS, _ROOM = 500, 10, 100 << 20
_MORE_ADDRESSES = 4 << 30


def make(target: str, seed: int, number: int) -> bytes:
    """Input number N of a target."""
    from seeds import make_seeds
    from structure import damage

    if target not in _GOOD:
        _GOOD[target] = make_seeds(target)
    chance = random.Random(f"{seed}/{target}/{number}")
    return damage(target, chance.choice(_GOOD[target]), chance)


_GOOD: dict[str, list[bytes]] = {}


def attempt(target: str, content: bytes) -> str:
    """Give a reader an input: "read", "refused", or what was found, in one line."""
    from limbeck.errors import LimbeckError
    from targets import TARGETS

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(_SECONDS)
    faulthandler.dump_traceback_later(2 * _SECONDS, exit=True)
    try:
        TARGETS[target](content)
        told = "read"
    except LimbeckError:
        told = "refused"
    except BaseException as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "limbeck" in frame.filename or
               "fuzz" in frame.filename]  # fmt: skip
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
        told = " ".join(f"{type(error).__name__} at {place}: {error}".split())[:300]
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if grown > _ROOM + 4 * len(content):
        return f"MemoryError: the process grew by {grown >> 20} MiB"
    return told


def _late(*_: object) -> None:
    raise TimeoutError(f"not done after {_SECONDS} seconds")


def _warnings_are_findings() -> None:
    """But for what Limbeck itself tells its user."""
    from limbeck.errors import LimbeckWarning

    warnings.simplefilter("error")
    warnings.simplefilter("ignore", LimbeckWarning)


def work(seed: int, progress: Path) -> None:
    """What a process does: chunks of inputs, as the standard input names them."""
    _warnings_are_findings()
    from limbeck.formats._subprocess import limit_memory

    handle = os.open(progress, os.O_RDWR | os.O_CREAT)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        target, start, stop = line.split()
        make(target, seed, int(start))
        if target != "hdf5":  # that has a process, and limits, of its own
            limit_memory(_MORE_ADDRESSES)
        counts: Counter[str] = Counter()
        for number in range(int(start), int(stop)):
            os.pwrite(handle, struct.pack("<q", number), 0)
            told = attempt(target, make(target, seed, number))
            counts[told if told in ("read", "refused") else "found"] += 1
            if told not in ("read", "refused"):
                answers.write(f"found {number} {told}\n")
        answers.write(f"done {counts['read']} {counts['refused']}\n")


class Pool:
    """Processes that work through chunks, and what they found."""

    def __init__(self, given: argparse.Namespace, counts: dict[str, int]) -> None:
        self.given = given
        self.chunks: queue.Queue[tuple[str, int, int]] = queue.Queue()
        self.read: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.found: dict[tuple[str, str], list[int]] = {}
        self.lock = threading.Lock()
        for start in range(0, max(counts.values()), _CHUNK):  # all readers in turn, so that a run cut short tried all
            for target, count in counts.items():
                if start < count:
                    self.chunks.put((target, given.first + start, given.first + min(count, start + _CHUNK)))

    def note(self, target: str, number: int, told: str) -> None:
        """Remember a finding; the inputs of the first three of a kind are kept."""
        kind = told.split(":")[0] + ":" + told.split(":")[1] if told.count(":") > 1 else told
        with self.lock:
            known = self.found.setdefault((target, kind[:120]), [])
            known.append(number)
            if len(known) <= 3:
                self.given.out.mkdir(parents=True, exist_ok=True)
                (self.given.out / f"{target}-{number}").write_bytes(make(target, self.given.seed, number))
                print(f"  {target} {number}: {told}", flush=True)

    def serve(self, job: int) -> None:
        """Keep one process busy; another takes its place when an input was its end."""
        progress = self.given.out / f"progress-{job}"
        worker: subprocess.Popen[str] | None = None
        while True:
            try:
                target, start, stop = self.chunks.get_nowait()
            except queue.Empty:
                break
            began = time.monotonic()
            while start < stop:
                if worker is None or worker.poll() is not None:
                    words = [sys.executable, __file__, "--worker", str(progress), "--seed", str(self.given.seed)]
                    with open(self.given.out / f"log-{job}", "ab") as log:
                        worker = subprocess.Popen(
                            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                        )
                start = self.chunk(worker, target, start, stop, progress)
            with self.lock:
                self.seconds[target] += round(time.monotonic() - began)
        if worker is not None and worker.stdin is not None:
            worker.stdin.close()
            worker.wait()

    def chunk(self, worker: "subprocess.Popen[str]", target: str, start: int, stop: int, progress: Path) -> int:
        """Have a chunk done; returns where to continue, which is its end unless the process died."""
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write(f"{target} {start} {stop}\n")
        worker.stdin.flush()
        for line in worker.stdout:
            kind, first, rest = line.split(" ", 2)
            if kind == "found":
                self.note(target, int(first), rest.strip())
            else:
                with self.lock:
                    self.read[target] += int(first)
                    self.refused[target] += int(rest)
                return stop
        worker.wait()
        (reached,) = struct.unpack("<q", progress.read_bytes())
        self.note(target, reached, f"the process ended with {worker.returncode}: see the log")
        return int(reached) + 1


def main() -> int:
    """Run the targets; 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="which; all unless given")
    parser.add_argument("--inputs", type=int, default=500_000, help="inputs in all, shared evenly among the targets")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="where findings are kept")
    parser.add_argument("--only", nargs=2, metavar=("TARGET", "N"), help="try one input, and show what happens")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(given.seed, given.worker)
        return 0
    if given.only is not None:
        return _once(given)
    from targets import TARGETS

    names = given.targets or [*TARGETS]
    given.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    pool = Pool(given, {name: -(-given.inputs // len(names)) for name in names})
    threads = [threading.Thread(target=pool.serve, args=(job,)) for job in range(given.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _summary(pool, names, time.monotonic() - began)


def _once(given: argparse.Namespace) -> int:
    from targets import TARGETS

    _warnings_are_findings()
    target, number = given.only
    path = Path(number)
    content = path.read_bytes() if path.is_file() else make(target, given.seed, int(number))
    make(target, given.seed, 0)  # the good files beside it
    read: Any = TARGETS[target]
    read(content)
    print(f"{len(content)} bytes were read")
    return 0


def _summary(pool: Pool, names: list[str], seconds: float) -> int:
    print(f"{'reader':<14} {'inputs':>9} {'read':>9} {'refused':>9} {'seconds':>8}  found")
    total = 0
    for name in names:
        mine = {kind: numbers for (target, kind), numbers in pool.found.items() if target == name}
        wrong = sum(map(len, mine.values()))
        count = pool.read[name] + pool.refused[name] + wrong
        total += count
        told = f"{wrong} of {len(mine)} kinds" if mine else "none"
        print(f"{name:<14} {count:>9,} {pool.read[name]:>9,} {pool.refused[name]:>9,} {pool.seconds[name]:>8}  {told}")
    for (target, kind), numbers in sorted(pool.found.items()):
        print(f"  {target}: {len(numbers)} times {kind}, first {numbers[:3]}")
    print(
        f"{total:,} structure-aware inputs of {len(names)} readers in {seconds:,.0f} s with {pool.given.jobs} jobs, "
        f"seed {pool.given.seed}: {len(pool.found) or 'no'} findings"
    )
    return 1 if pool.found else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
