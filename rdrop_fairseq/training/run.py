"""How launcher, quickstart and ablation run a training: lock, record, end and process.

    with run.claim() as lock:          nobody else trains there; the record says what this training is
        if not run.finished():
            run.become(lock)           this process becomes the training (launcher), or
            run.follow(lock, look)     a child trains, and look(its process number) is called every second
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Callable, Optional

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import record, resume

PERIOD = 1.0  # seconds between looks at a running child


@dataclass(frozen=True)
class Run:
    """A training ready to start: the command, where it writes, fairseq's options, and one line of what it will do.

    batch: the effective batch, None if not planned. machines: a name that all machines of one training share, empty
    for one machine. way_out: the option that names another directory.
    """

    command: Sequence[str]
    save_dir: Path
    log: Path
    seen: argparse.Namespace
    summary: str = ""
    batch: Optional[str] = None
    machines: str = ""
    way_out: str = "--save-dir"
    environment: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """Settings that identify this training."""
        return record.settings(self.seen, self.batch)

    def check(self) -> None:
        """Raise UserError if the directory holds another training."""
        record.check(self.save_dir, self.settings(), self.way_out)

    def finished(self) -> str:
        """The limit that the training has reached, by record or checkpoint; empty if it has not ended."""
        if record.read(self.save_dir).get("trained") == record.limits(self.seen):
            return "trained to its end"
        return resume.limit_reached(self.save_dir, self.seen)

    @contextlib.contextmanager
    def claim(self) -> Iterator[IO[str]]:
        """Hold the directory's lock and write the record. Raises UserError if the directory holds another training."""
        with resume.only_one(self.save_dir / "lock", self.machines) as lock:
            self.check()
            record.update(self.save_dir, self.settings())
            yield lock

    def become(self, lock: IO[str]) -> None:
        """Turn this process into the training, its output going through `tee` into the log.

        Signals and the exit status are then the training's own, and nothing of this process stays in memory. `tee -p`
        writes the log to its end even where nobody reads the output any more (`train ... | head`). SIGUSR1 is ignored
        until our tasks listen to it: torchrun would die of a signal that reaches all processes of a job.
        """
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        os.set_inheritable(lock.fileno(), True)
        os.environ["PYTHONUNBUFFERED"] = "1"
        # tee lives as long as any process of the training can write, and so does the lock
        tee = subprocess.Popen(
            ["tee", "-a", "-i", "-p", str(self.log)], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]
        )
        assert tee.stdin is not None
        os.dup2(tee.stdin.fileno(), 1)
        os.dup2(tee.stdin.fileno(), 2)
        tee.stdin.close()
        print(f"# {datetime.now():%Y-%m-%d %H:%M:%S}  {self.summary}\n{pretty(self.command)}", flush=True)
        os.execv(self.command[0], list(self.command))

    def follow(
        self, lock: IO[str], look: Callable[[int], None], stop: Optional[threading.Event] = None, **state: Any
    ) -> None:
        """Train in a child process (see `supervise`). Its seconds, `state` and the limits it reached go into the
        record."""
        before, began = record.read(self.save_dir).get("seconds", 0.0), time.monotonic()
        try:
            supervise(self.command, self.log, lock, self.environment, look, stop)
        finally:
            record.update(self.save_dir, {}, seconds=round(before + time.monotonic() - began, 1), **state)
        record.update(self.save_dir, {}, trained=record.limits(self.seen))


def supervise(
    command: Sequence[str],
    log: Path,
    lock: Optional[IO[str]],
    environment: Mapping[str, str],
    look: Callable[[int], None] = lambda _: None,
    stop: Optional[threading.Event] = None,
) -> None:
    """Run `command` as a child that shares `lock` and appends its output to `log`. Calls `look` with its process number
    every second and at the end.

    However this call ends, the child ends with it; setting `stop` ends both. Raises UserError if the child fails.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, pass_fds=[lock.fileno()] if lock else [],
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    if lock is not None:
        Path(lock.name).write_text(f"{resume.holder(child.pid)}\n", encoding="utf-8")
    try:
        while child.poll() is None:
            look(child.pid)
            if stop is not None and stop.is_set():
                raise UserError("stopped: the same command resumes")
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PERIOD)
    finally:
        child.terminate()
        child.wait()
        look(child.pid)
    if child.returncode:
        raise UserError(
            f"{log.parent.name}: stopped with status {child.returncode} ({last_words(log)}); its output is in {log}; "
            "the same command resumes from the last checkpoint"
        )


def last_words(log: Path) -> str:
    """The last line of a log that names an error, else its last line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "no output")[:300]


def pretty(command: Sequence[str]) -> str:
    """The command for reading and pasting: one option a line."""
    lines: list[list[str]] = [[]]
    for word in command:
        if word.startswith("--") or Path(word).name == "fairseq-train":
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n    ".join(" ".join(line) for line in lines if line)
