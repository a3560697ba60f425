"""One system of an ablation with one seed: trains to its end and scores the best checkpoint; resumes."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq import files
from rdrop_fairseq.ablation import cpu_clock
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.results import SCORES
from rdrop_fairseq.training import record, resume
from rdrop_fairseq.training.run import Run, supervise


@dataclass(frozen=True)
class Trial:
    """A system with a seed. words: all options of fairseq-train but directories and seed; seen: as parsed by fairseq,
    with the seed; scoring: options of the score command, including `--` and what follows."""

    system: str
    seed: int
    data: Path
    directory: Path
    words: tuple[str, ...]
    seen: argparse.Namespace
    scoring: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def test(self) -> Path:
        """Folder of texts and scores."""
        return self.directory / "test"

    @property
    def log(self) -> Path:
        """fairseq-train's output."""
        return self.directory / "train.log"

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.system}, seed {self.seed}"

    def record(self) -> dict[str, Any]:
        """Settings and state of the training; see training/record.py."""
        return record.read(self.directory)

    @property
    def took(self) -> tuple[float, str]:
        """Time of training over all attempts, and its unit: CPU seconds on a CPU, else (wall) seconds."""
        known = self.record()
        return (known["cpu_seconds"], "CPU seconds") if "cpu_seconds" in known else (known["seconds"], "seconds")

    @property
    def trained(self) -> bool:
        """Whether it has reached the limits of `seen`."""
        return self.record().get("trained") == record.limits(self.seen)

    @property
    def finished(self) -> bool:
        """Whether it is trained and scored."""
        return self.trained and self.scored

    @property
    def scored(self) -> bool:
        """Whether the subset of `scoring` is scored: an earlier command may have scored another one."""
        path = self.test / SCORES
        if not path.is_file():
            return False
        subset = dict(zip(self.scoring, self.scoring[1:])).get("--subset", "test")
        return bool(json.loads(path.read_text(encoding="utf-8")).get("made", {}).get("subset", subset) == subset)

    def training(self) -> Run:
        """fairseq-train, from the last checkpoint, or from the newest whole one if the last was cut short."""
        command = [sys.executable, "-m", "fairseq_cli.train", str(self.data), "--user-dir", str(files.PACKAGE)]
        command += [*self.words, "--seed", str(self.seed), "--save-dir", str(self.directory)]
        if start := resume.instead_of_broken_last(self.directory):
            command += ["--restore-file", str(start.resolve())]
        return Run(command, self.directory, self.log, self.seen, way_out="--out", environment=self.environment)

    def run(self, device: str, stop: threading.Event) -> None:
        """Train and score, unless done. device: cpu or gpu; CPU seconds are recorded on a CPU only."""
        training = self.training()
        with training.claim() as lock:
            if not training.finished():
                clock = partial(cpu_clock.look, self.log) if device == "cpu" else lambda _: None
                training.follow(lock, clock, stop, device=device)
            times = cpu_clock.CpuTimes(self.log)
            spent = {"cpu_seconds": times.total} if times.known else {}
            record.update(self.directory, {}, trained=record.limits(self.seen), **spent)
            if not self.scored:
                log = self.directory / "score.log"
                supervise(self.score_command(), log, lock, self.environment, stop=stop)

    @property
    def checkpoint(self) -> Optional[Path]:
        """The checkpoint to score: the best by the validation metric, or the last; None without either."""
        found = [self.directory / f"checkpoint_{which}.pt" for which in ("best", "last")]
        return next((path for path in found if path.is_file()), None)

    def score_command(self) -> list[str]:
        """The score command. Raises UserError if there is no checkpoint."""
        if self.checkpoint is None:
            raise UserError(f"{self.directory} has no checkpoint to score: leave out --no-save")
        command = [sys.executable, "-m", "rdrop_fairseq", "score", str(self.data), str(self.checkpoint)]
        return [*command, "--output", str(self.test), *self.scoring]


def updates_done(log: Path) -> Optional[int]:
    """The last update number in a training's log, read from the end of the file."""
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        text = file.read().decode(errors="replace")
    place = text.rfind('num_updates": "')
    digits = text[place + 15 :].split('"')[0] if place >= 0 else ""
    return int(digits) if digits.isdigit() else None
