"""The processes of a preparation, and the lock that keeps two preparations out of each other's files."""

from __future__ import annotations

import argparse
import errno
import fcntl
import math
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import IO, Any, Callable, TypeVar

from rdrop_fairseq.errors import WORKER_KILLED, UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """The cores that this process may use: those of its job, where a scheduler gave it a part of the machine, and of a
    container no more than its share of time."""
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(visible, _share()))


def _share() -> float:
    """The limit of a container (`docker --cpus 8`, a limit of Kubernetes) in cores, though it sees all cores of the
    machine; infinite without one."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # cgroup 2 and 1
        try:
            quota, period = " ".join((CGROUP / name).read_text() for name in names).split()
            if float(quota) > 0:  # "max" in version 2, -1 in version 1: none
                return float(quota) / float(period)
        except (OSError, ValueError):
            continue
    return math.inf


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The option --workers."""
    parser.add_argument("--workers", type=int, default=cores(), metavar="N", help="processes (default: all cores)")


def in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int, ahead: int, **pool: Any
) -> Iterator[Result]:
    """The results of `tasks` in order, from several processes; at most `ahead` tasks are taken before a result is used.

    pool: further arguments of ProcessPoolExecutor. Raises UserError if a worker is killed.
    """
    pending: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(workers, **pool) as executor:
        try:
            for task in tasks:
                pending.append(executor.submit(function, task))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(WORKER_KILLED) from error
        finally:
            for future in pending:
                future.cancel()


class Lock:
    """A lock file, taken on creation; another process that wants it waits until it is closed or its holder is dead.

    POSIX locks: worker processes do not inherit them, so none keeps a killed preparation's lock. Within one process
    they exclude nothing. On a file system without locks there is no protection.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = self._taken()

    def close(self) -> None:
        """Lets the next process in and removes the file. Doing it twice changes nothing."""
        if not self._file.closed:
            self.path.unlink(missing_ok=True)
            self._file.close()

    def _taken(self) -> IO[bytes]:
        while True:
            file = open(self.path, "ab")  # noqa: SIM115 (closed by close)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    return file
                print(f"another process works in {self.path.parent}: waiting for it", file=sys.stderr)
                fcntl.lockf(file, fcntl.LOCK_EX)
            if self._is(file):
                return file
            file.close()  # the process before removed it, and a third one may have made a new one

    def _is(self, file: IO[bytes]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False
