"""One training of an experiment in a process of its own, done once: its result and the CPU seconds that it took."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from rdrop_fairseq import files
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training.run import last_words

LOG, RESULT, CURVE = "trial.log", "trial.json", "curve.csv"
SYSTEMS = ("baseline", "rdrop")
Settings = Mapping[str, str]  # value of each axis


@dataclass(frozen=True)
class Experiment:
    """title: for the report. metric: what settings are chosen by, on validation: accuracy or nll. axes: what is tuned,
    one after the other, and its values, of which the first is the start; alpha is R-Drop's alone. train: one training
    into a folder, where it leaves a curve (update, train_nll, valid_nll); returns accuracy and nll of valid and test.
    unit: what nll is divided by. recipe: all that a training depends on beside system, axes and seed."""

    title: str
    metric: str
    axes: Mapping[str, Sequence[str]]
    train: Callable[[str, Settings, int, Path], Mapping[str, float]]
    unit: str
    recipe: str


def run(experiment: Experiment, system: str, settings: Settings, seed: int, out: Path) -> dict[str, Any]:
    """The training's result, from its folder if it was done before. Raises UserError if that was by another recipe."""
    values = [value for axis, value in settings.items() if axis != "alpha" or system == "rdrop"]
    folder = out / "runs" / "_".join([system, *values, f"seed{seed}"])
    if not (folder / RESULT).is_file():
        files.remove(folder)  # remains of a killed training
        folder.mkdir(parents=True)

        def work() -> None:
            found = experiment.train(system, settings, seed, folder)
            result = {**found, "cpu_seconds": time.process_time(), "recipe": experiment.recipe}
            with files.atomic(folder / RESULT, "w") as file:
                json.dump(result, file, indent=1)

        in_child(work, folder / LOG)
        print(f"{folder.name}: {(folder / RESULT).read_text(encoding='utf-8')}", file=sys.stderr, flush=True)
    result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    if result.get("recipe") != experiment.recipe:
        raise UserError(f"{folder} was trained by another recipe: remove {out / 'runs'}, or give another --out")
    return {**result, "folder": str(folder)}


def in_child(work: Callable[[], None], log: Path) -> None:
    """Runs `work` in a forked process, which spares importing everything again, and whose clock of CPU time is its own.

    What it prints goes to `log`. Raises UserError if it fails.
    """
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _become(work, log)
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGTERM)
        raise
    if status:
        raise UserError(f"a training failed ({last_words(log)}), see {log}; the same command resumes")


def _become(work: Callable[[], None], log: Path) -> None:
    """Run `work` and end this process."""
    status = 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with log.open("a", encoding="utf-8", buffering=1) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        sys.stdout = sys.stderr = out
        try:
            work()
            status = 0
        except BaseException:  # the status tells the parent
            traceback.print_exc()
        finally:
            out.flush()
            os._exit(status)
