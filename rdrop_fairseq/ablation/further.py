"""Further measurements of finished trials: nll of valid and test, the average of the last checkpoints, and an ensemble
of the baselines. Each is made once, by the commands `perplexity` and `score`, and kept beside the trial.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Optional

from rdrop_fairseq import files
from rdrop_fairseq.ablation.grid import BASELINE
from rdrop_fairseq.ablation.trial import Trial
from rdrop_fairseq.scoring.results import SCORES
from rdrop_fairseq.scoring.score import AVERAGED
from rdrop_fairseq.training.resume import only_one
from rdrop_fairseq.training.run import supervise


@dataclass(frozen=True)
class Job:
    """A command and its result files."""

    results: list[Path]
    command: list[str]

    @property
    def done(self) -> bool:
        """Whether all results exist."""
        return all(path.is_file() for path in self.results)


@dataclass(frozen=True)
class Further:
    """What to measure. subset: the data that are scored; average: how many of the last update checkpoints (0: none)."""

    subset: str
    average: int = 0
    ensemble: bool = False

    @property
    def splits(self) -> list[str]:
        """The data whose nll is measured: valid and the scored subset."""
        return list(dict.fromkeys(("valid", self.subset)))

    def nll(self, folder: Path, split: Optional[str] = None) -> Path:
        """The file that `perplexity` writes for a checkpoint in `folder`."""
        return folder / f"{split or self.subset}.perplexity.json"

    def averaged(self, trial: Trial) -> Path:
        """The folder of the average of the last checkpoints, with its score."""
        return trial.directory / f"average-{self.average}.{self.subset}"

    def together(self, baselines: Sequence[Trial], out: Path) -> Path:
        """The folder of the ensemble."""
        return out / f"ensemble-of-seeds-{'-'.join(str(trial.seed) for trial in baselines)}.{self.subset}"

    def no_average(self, trial: Trial) -> Optional[str]:
        """Why a finished trial has no average; None if it exists or can be made."""
        if not self.average or (self.averaged(trial) / SCORES).is_file():
            return None
        count = len(list(trial.directory.glob("checkpoint_*_*.pt")))
        if count >= self.average:
            return None
        return f"{trial.name}: no average (of {self.average} update checkpoints {count} are there)"

    def no_ensemble(self, baselines: Sequence[Trial], out: Path) -> Optional[str]:
        """Why there is no ensemble; None if it exists or can be made."""
        if not self.ensemble or (self.together(baselines, out) / SCORES).is_file():
            return None
        if len(baselines) < 2:
            return "no ensemble: it needs several seeds of the baseline"
        for trial in baselines:
            if not trial.finished:
                return f"no ensemble: {trial.name} is not finished"
            if trial.checkpoint is None:
                return f"no ensemble: the checkpoint of {trial.name} is not there"
        return None

    def jobs(self, trial: Trial) -> list[Job]:
        """The remaining jobs of a finished trial, in order."""
        data, found = str(trial.data), []
        if trial.checkpoint is not None:
            wanted = [self.nll(trial.directory, split) for split in self.splits]
            found.append(Job(wanted, _nll(data, [trial.checkpoint], self.splits)))
        folder = self.averaged(trial)
        if self.average and self.no_average(trial) is None:
            choice = [str(trial.directory), "--average-last", str(self.average), "--updates"]
            found.append(_score(folder, data, choice, trial))
            if (folder / AVERAGED).is_file() or not (folder / SCORES).is_file():
                found.append(Job([self.nll(folder)], _nll(data, [folder / AVERAGED], [self.subset])))
        return [job for job in found if not job.done]

    def ensemble_jobs(self, baselines: Sequence[Trial], out: Path) -> list[Job]:
        """The remaining jobs of the ensemble."""
        paths = [trial.checkpoint for trial in baselines if trial.checkpoint is not None]
        if not self.ensemble or self.no_ensemble(baselines, out) or len(paths) < len(baselines):
            return []
        data, folder = str(baselines[0].data), self.together(baselines, out)
        nll = [*_nll(data, paths, [self.subset]), "--out", str(self.nll(folder))]
        found = [_score(folder, data, [*map(str, paths), "--ensemble"], baselines[0]), Job([self.nll(folder)], nll)]
        return [job for job in found if not job.done]


def _score(folder: Path, data: str, choice: Sequence[str], trial: Trial) -> Job:
    command = [sys.executable, "-m", "rdrop_fairseq", "score", data, *choice, "--output", str(folder), *trial.scoring]
    return Job([folder / SCORES], command)


def _nll(data: str, checkpoints: Sequence[Path], splits: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "rdrop_fairseq", "perplexity", data, *map(str, checkpoints), "--split", *splits]


def forget(trial: Trial, out: Path) -> None:
    """Remove the measurements of a training that continues to another limit."""
    stale = [trial.test, *trial.directory.glob("*.perplexity.json"), *trial.directory.glob("average-*")]
    for path in [*stale, *(out.glob("ensemble-of-seeds-*") if trial.system == BASELINE.name else ())]:
        files.remove(path)


def measure(trial: Trial, further: Further, stop: threading.Event) -> None:
    """Run the remaining jobs of a finished trial. Raises UserError if one fails or another process holds the trial."""
    if further.jobs(trial):
        with only_one(trial.directory / "lock") as lock:
            _do(further.jobs(trial), trial, trial.directory / "score.log", stop, lock)


def measure_ensemble(baselines: Sequence[Trial], out: Path, further: Further, stop: threading.Event) -> None:
    """Run the remaining jobs of the ensemble of the baselines."""
    if jobs := further.ensemble_jobs(baselines, out):
        _do(jobs, baselines[0], out / "ensemble.log", stop)


def _do(jobs: Sequence[Job], trial: Trial, log: Path, stop: threading.Event, lock: Optional[IO[str]] = None) -> None:
    for job in jobs:
        supervise(job.command, log, lock, trial.environment, stop=stop)
