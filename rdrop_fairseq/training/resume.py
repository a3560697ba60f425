"""Resuming a training: is it still running, which checkpoint is whole, has it reached a limit?

fairseq writes a checkpoint under a temporary name and renames it, but then copies it to checkpoint_last.pt in place. A
kill during that copy leaves half a file, on which the resumed training would fail.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import math
import os
import re
import socket
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rdrop_fairseq import checkpoint
from rdrop_fairseq.errors import UserError

LAST = "checkpoint_last.pt"
# names that fairseq-train writes; an average beside them is not resumed from
WRITTEN = re.compile(r"checkpoint(_last|_best|\d+|_\d+_\d+|\.best_.*)\.pt")
PATIENCE = 15.0  # seconds; a data loader's worker ends within 5 s of its training


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is complete: torch.save's zip archive with its table and correct checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError):
        return False


def newest_whole(save_dir: Path) -> Path | None:
    """The last whole checkpoint that fairseq-train wrote; None without one."""
    found = [path for path in save_dir.glob("checkpoint*.pt") if WRITTEN.fullmatch(path.name)]
    newest_first = sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return next(filter(is_whole, newest_first), None)


def instead_of_broken_last(save_dir: Path) -> Path | None:
    """The newest whole checkpoint if checkpoint_last.pt is cut short; None if it is whole or missing. Raises UserError
    if no checkpoint is whole."""
    last = save_dir / LAST
    if not last.exists() or is_whole(last):
        return None
    found = newest_whole(save_dir)
    if found is None:
        raise UserError(f"{last} is cut short and no other checkpoint beside it is whole: remove it to start anew")
    return found


def seconds_done(save_dir: Path) -> float:
    """Seconds of training that checkpoint_last.pt counts; 0.0 without one."""
    try:
        extra = checkpoint.load(save_dir / LAST).get("extra_state") or {}
    except UserError:
        return 0.0
    return float(extra.get("previous_training_time", 0.0))


def limit_reached(save_dir: Path, seen: argparse.Namespace) -> str:
    """Which limit of `seen` (fairseq-train's options) the training in `save_dir` has reached; empty if none.

    fairseq itself would train one more update, validate and save. Raises nothing: fairseq reports an unreadable
    checkpoint.
    """
    if seen.restore_file != LAST or seen.reset_optimizer or seen.reset_dataloader or seen.reset_lr_scheduler:
        return ""
    try:
        state = checkpoint.load(save_dir / LAST)
    except UserError:
        return ""
    updates = (state.get("optimizer_history") or [{}])[-1].get("num_updates", 0)
    groups = (state.get("last_optimizer_state") or {}).get("param_groups") or [{}]
    rate = groups[0].get("lr", math.inf)
    extra = state.get("extra_state") or {}
    epoch = (extra.get("train_iterator") or {}).get("epoch", 0)  # the one that follows
    hours = extra.get("previous_training_time", 0) / 3600
    kept = [part for part in extra.values() if isinstance(part, dict) and "patience_runs" in part]  # by our tasks
    since = updates - max((part.get("patience_best_update", 0) for part in kept), default=0)
    share = getattr(seen, "patience_share", 0.0) or 0.0
    waited = max((part["patience_runs"] for part in kept), default=0) if since >= share * updates else 0
    reached = {
        f"{updates} updates, --max-update {seen.max_update}": 0 < (seen.max_update or 0) <= updates,
        f"{epoch - 1} epochs, --max-epoch {seen.max_epoch}": 0 < (seen.max_epoch or 0) < epoch,
        f"{hours:.2f} hours, --stop-time-hours {seen.stop_time_hours:g}": 0 < seen.stop_time_hours < hours,
        f"validations without a better one: {waited}, --patience {seen.patience}": 0 < seen.patience <= waited,
        f"learning rate {rate:g}, --stop-min-lr {seen.stop_min_lr:g}": rate <= seen.stop_min_lr,
    }
    return next((limit for limit, there in reached.items() if there), "")


@contextlib.contextmanager
def only_one(path: Path, job: str = "") -> Iterator[IO[str]]:
    """Hold the lock file `path`. A child process that inherits it (pass_fds) holds it as long as it lives.

    job: the common name of a training on several machines, which share the lock. Raises UserError if another process
    holds it: another command, or a child that outlived its parent. Warns on a file system without locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as lock:
        if not _locked(lock, job):
            who = _content(lock) or "unknown"
            raise UserError(f"{path.parent}: a training is still running there ({who}); wait for it, or end it")
        yield lock


def holder(process: int) -> str:
    """What a lock file says of the process that holds it: another machine may read that."""
    return f"process {process} on {socket.gethostname()}"


def _locked(lock: IO[str], job: str) -> bool:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if _flock(lock, fcntl.LOCK_EX):
                lock.truncate(0)
                lock.write(f"{job or holder(os.getpid())}\n")
                lock.flush()
                if not job:
                    return True
            # another job may take the lock between our exclusive and our shared one
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
    # opened anew: NFS then shows what another machine wrote; a failed attempt to lock leaves its cache as it is
    return Path(lock.name).read_text(encoding="utf-8").strip()
