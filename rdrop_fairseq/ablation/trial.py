"""One system of an ablation with one seed: trained to its end, its best checkpoint scored on the test set; resumes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq import files
from rdrop_fairseq.ablation.cpu_clock import CpuClock, CpuTimes
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.results import SCORES
from rdrop_fairseq.training.resume import newest_whole, only_one

LOG = "train.log"
RECORD = "trial.json"


class Processes:
    """The processes that are running now, for whoever has to end them."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def run(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        keep: Sequence[int] = (),
        clock: bool = False,
    ) -> float:
        """Run to the end, output added to `log`, CPU seconds on the way recorded beside it if `clock`; returns CPU
        seconds. UserError if it fails or all were stopped."""
        with log.open("ab") as out:
            with self._lock:
                if self._stopped:
                    raise UserError("stopped: the same command goes on")
                process = subprocess.Popen(
                    command, stdout=out, stderr=subprocess.STDOUT, env=dict(environment), pass_fds=keep
                )
                self._running.add(process)
            with CpuClock(log, process.pid) if clock else contextlib.nullcontext():
                _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            with self._lock:
                self._running.discard(process)
        if process.returncode:
            raise UserError(
                f"{command[2]} stopped with status {process.returncode} ({_last_words(log)}); its output is in {log}; "
                "the same command goes on from the last checkpoint"
            )
        return usage.ru_utime + usage.ru_stime

    def stop(self) -> None:
        """End them all; nothing more is started."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def _last_words(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "no output")[:300]


@dataclass(frozen=True)
class Trial:
    """A system with a seed. words: all options of fairseq-train but directories and seed; scoring: options of the score
    command; its `--` and what follows included."""

    system: str
    seed: int
    data: Path
    directory: Path
    words: tuple[str, ...]
    scoring: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def test(self) -> Path:
        """Where texts and scores are."""
        return self.directory / "test"

    @property
    def log(self) -> Path:
        """fairseq-train's output."""
        return self.directory / LOG

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.system}, seed {self.seed}"

    def key(self) -> dict[str, Any]:
        """What makes the trial another one if it changes."""
        return {"data": fingerprint(self.data), "words": list(self.words), "seed": self.seed}

    def record(self) -> dict[str, Any]:
        """CPU seconds so far, and whether training is over. UserError if other settings were trained there."""
        path = self.directory / RECORD
        if not path.is_file():
            return {**self.key(), "cpu_seconds": 0.0, "trained": False}
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if any(known.get(name) != value for name, value in self.key().items()):
            raise UserError(
                f"{self.directory} holds a training with other data or options: remove it, or give another --out"
            )
        return known

    @property
    def finished(self) -> bool:
        """Trained and scored."""
        return bool(self.record()["trained"]) and (self.test / SCORES).is_file()

    def run(self, processes: Processes) -> None:
        """Train and score, or what of it is not done."""
        record = self.record()
        with only_one(self.directory / "lock") as lock:
            (self.directory / "lock").write_text(f"{os.getpid()}\n", encoding="utf-8")
            if not record["trained"]:
                self._write(record)
                environment = {**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"}
                before = CpuTimes(self.log).total  # of attempts that were interrupted
                seconds = processes.run(self.train_command(), self.log, environment, [lock.fileno()], clock=True)
                record.update(trained=True, cpu_seconds=before + seconds)
                self._write(record)
            if not (self.test / SCORES).is_file():
                environment = {**os.environ, **self.environment}
                processes.run(self.score_command(), self.directory / "score.log", environment, [lock.fileno()])

    def _write(self, record: Mapping[str, Any]) -> None:
        with files.atomic(self.directory / RECORD, "w") as file:
            file.write(json.dumps(record, indent=1) + "\n")

    def train_command(self) -> list[str]:
        """fairseq-train, going on from the newest whole checkpoint."""
        command = [sys.executable, "-m", "fairseq_cli.train", str(self.data), "--user-dir", str(files.PACKAGE)]
        command += [*self.words, "--seed", str(self.seed), "--save-dir", str(self.directory)]
        start = newest_whole(self.directory)
        return command if start is None else [*command, "--restore-file", str(start.resolve())]

    def score_command(self) -> list[str]:
        """The score command, on the best checkpoint by the metric of validation, or on the last one."""
        best = self.directory / "checkpoint_best.pt"
        checkpoint = best if best.is_file() else self.directory / "checkpoint_last.pt"
        if not checkpoint.is_file():
            raise UserError(f"{self.directory} has no checkpoint to score: leave --no-save away")
        command = [sys.executable, "-m", "rdrop_fairseq", "score", str(self.data), str(checkpoint)]
        return [*command, "--output", str(self.test), *self.scoring]


def fingerprint(data: Path) -> str:
    """Identifies binarized data wherever they lie, without reading all of them: sha256 of the dictionaries, and of the
    names and sizes of the other files."""
    found = hashlib.sha256()
    for path in sorted(data.glob("*.*")):
        if path.suffix in (".bin", ".idx", ".txt"):
            found.update(f"{path.name} {path.stat().st_size}\n".encode())
            found.update(path.read_bytes() if path.name.startswith("dict.") else b"")
    return found.hexdigest()


def updates_done(log: Path) -> Optional[int]:
    """The number of the last update that the log of a training tells of, from its end."""
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        text = file.read().decode(errors="replace")
    place = text.rfind('num_updates": "')
    digits = text[place + 15 :].split('"')[0] if place >= 0 else ""
    return int(digits) if digits.isdigit() else None
