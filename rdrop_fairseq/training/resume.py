"""Going on with a training that was killed: which checkpoint is whole, and is it still running?

fairseq writes a checkpoint under a temporary name and renames it, but then copies it to checkpoint_last.pt in place. A
kill during that copy leaves half a file, which a resumed training would die on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rdrop_fairseq import checkpoint
from rdrop_fairseq.errors import UserError

PATIENCE = 15.0  # seconds; a data loader's process notices within 5 that its training was killed


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is all there: torch.save's zip archive with its table at the end and every sum right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError):
        return False


def newest_whole(save_dir: Path) -> Path | None:
    """The checkpoint that was written last and is whole; None if there is none."""
    written = [(path.stat().st_mtime_ns, path) for path in save_dir.glob("checkpoint*.pt")]
    return next((path for _, path in sorted(written, reverse=True) if is_whole(path)), None)


def instead_of_broken_last(save_dir: Path) -> Path | None:
    """The newest whole checkpoint where checkpoint_last.pt, which fairseq would go on from, is cut short; None where
    it is whole or there is none. UserError if nothing else is whole."""
    last = save_dir / "checkpoint_last.pt"
    if not last.exists() or is_whole(last):
        return None
    found = newest_whole(save_dir)
    if found is None:
        raise UserError(f"{last} is cut short and no other checkpoint beside it is whole: remove it to start anew")
    return found


def updates_done(save_dir: Path) -> int:
    """Updates of the training that checkpoint_last.pt holds; 0 where there is none, or none that can be read."""
    try:
        history = checkpoint.load(save_dir / "checkpoint_last.pt").get("optimizer_history") or [{}]
    except UserError:
        return 0
    return int(history[-1].get("num_updates", 0))


@contextlib.contextmanager
def only_one(path: Path, job: str = "") -> Iterator[IO[str]]:
    """Holds the lock file `path`, which to give on to a child process (pass_fds) makes it last as long as that one.

    job: what the machines of one training call it; they share the lock, each being started by a command of its own.
    Raises UserError if another process has it: one that is in use, or a child that outlived its parent. A file system
    that keeps no locks is used without one, with a warning.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as lock:
        if not _locked(lock, job):
            who = _content(lock) or "unknown"
            raise UserError(
                f"{path.parent}: a training is still running there (process {who}); wait for it, or end it: kill {who}"
            )
        yield lock


def _locked(lock: IO[str], job: str) -> bool:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if _flock(lock, fcntl.LOCK_EX):
                if not job:
                    return True
                lock.truncate(0)
                lock.write(f"{job}\n")
                lock.flush()
            # between giving up the lock for one alone and having the shared one, another job may have come
            if job and _content(lock) == job and _flock(lock, fcntl.LOCK_SH) and _content(lock) == job:
                return True
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
            print(
                f"warning: no locks on the file system of {lock.name}: start no second training there", file=sys.stderr
            )
            return True
        time.sleep(0.1)
    return False


def _flock(lock: IO[str], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _content(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip()
