"""`glue`: every task of GLUE with and without R-Drop over several seeds, and the paper's table.

A finished training leaves OUT/NAME.seedN/result.json and is not trained again; one that was stopped resumes. The score
of a training is that of its best epoch on the dev set (matched, for MNLI). Users report that single seeds of GLUE do
not reproduce: the table has median and best over seeds, and says how many there are.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdrop_fairseq import checkpoint, files, published
from rdrop_fairseq.corpus.glue_tasks import TASKS
from rdrop_fairseq.errors import UserError

SYSTEMS = ("baseline", "rdrop")
MODEL = "roberta_large"
PUBLISHED = ("RoBERTa-large", "RoBERTa-large + R-Drop")
RESULT = "result.json"


class Study:
    """The trainings of some tasks, systems and seeds below `out`."""

    def __init__(self, root: Path, out: Path, tasks: list[str], seeds: list[int], extra: list[str]) -> None:
        self.root, self.out, self.tasks, self.seeds, self.extra = root, out, tasks, seeds, extra

    def runs(self) -> Iterator[tuple[str, str, int]]:
        """(task, system, seed) in the order of training: every pair of systems as early as possible."""
        return ((task, system, seed) for seed in self.seeds for task in self.tasks for system in SYSTEMS)

    def folder(self, task: str, system: str, seed: int) -> Path:
        return self.out / f"{name(task, system)}.seed{seed}"

    def result(self, task: str, system: str, seed: int) -> dict[str, Any] | None:
        """The result of a finished training; None if it is not finished."""
        path = self.folder(task, system, seed) / RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def scores(self, task: str, system: str) -> dict[int, float]:
        """Scores in percent by seed."""
        found = {seed: self.result(task, system, seed) for seed in self.seeds}
        return {seed: result["best"] for seed, result in found.items() if result is not None}

    def train(self) -> None:
        """Runs every training that is not finished. Raises UserError if one fails; the finished ones stay."""
        waiting = [run for run in self.runs() if self.result(*run) is None]
        for task in dict.fromkeys(task for task, _, _ in waiting):  # data, model and options, before the first hour
            self._launch(task, "rdrop", self.seeds[0], "--dry-run")
        for number, (task, system, seed) in enumerate(waiting, 1):
            print(f"[{number}/{len(waiting)}] {name(task, system)}, seed {seed}", file=sys.stderr, flush=True)
            self._launch(task, system, seed)
            self._finish(task, system, seed)

    def _launch(self, task: str, system: str, seed: int, *words: str) -> None:
        command = [sys.executable, "-m", "rdrop_fairseq", "train", name(task, system), "--root", str(self.root)]
        command += ["--seed", str(seed), "--save-dir", str(self.folder(task, system, seed)), *words, "--", *self.extra]
        paths = [str(files.PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        quiet = subprocess.DEVNULL if "--dry-run" in words else None
        process = subprocess.Popen(command, env=environment, stdout=quiet)
        try:
            status = process.wait()
        finally:
            process.terminate()  # nothing where it has ended
            process.wait()
        if status:
            raise UserError(
                f"{name(task, system)}, seed {seed}, ended with status {status} (see above, and train.log in "
                f"{self.folder(task, system, seed)}): mend that and run the same command again"
            )

    def _finish(self, task: str, system: str, seed: int) -> None:
        """Records the score and keeps only the best seed's best checkpoint: each is 4 GB for RoBERTa-large. Raises
        UserError for a training that was asked to stop: fairseq ends it with status 0 as well."""
        folder = self.folder(task, system, seed)
        if stopped := stopped_at(folder / "checkpoint_last.pt"):
            raise UserError(f"{folder.name} was stopped {stopped}: run the same command again to resume it")
        state = checkpoint.load(folder / "checkpoint_best.pt")
        metric = checkpoint.option(state, "checkpoint", "best_checkpoint_metric")
        result = {"task": task, "system": system, "seed": seed, "metric": metric, "best": state["extra_state"]["best"]}
        del state
        with files.atomic(folder / RESULT, "w") as file:
            file.write(json.dumps(result, indent=2) + "\n")
        # MNLI and QQP also keep one that is named by its epoch and update
        for path in [folder / "checkpoint_last.pt", *folder.glob("checkpoint_[0-9]*_[0-9]*.pt")]:
            files.remove(path)
        scores = self.scores(task, system)
        best = max(scores, key=lambda seed: (scores[seed], -seed))
        for other in scores:
            if other != best:
                files.remove(self.folder(task, system, other) / "checkpoint_best.pt")


def stopped_at(last: Path) -> str:
    """Where a training ended before its --max-update and --max-epoch; empty if it did not, or has no checkpoint to
    resume. A limit of hours or patience, given after `--`, may have ended it: then it is taken as finished."""
    if not last.is_file():
        return ""
    state = checkpoint.load(last)
    most_updates, most_epochs, hours = (
        checkpoint.option(state, "optimization", limit) or 0 for limit in ("max_update", "max_epoch", "stop_time_hours")
    )
    if hours > 0 or (checkpoint.option(state, "checkpoint", "patience") or 0) > 0:
        return ""
    updates = state["optimizer_history"][-1]["num_updates"]
    next_epoch = state["extra_state"]["train_iterator"]["epoch"]
    if 0 < most_updates <= updates or 0 < most_epochs < next_epoch:
        return ""
    return f"at update {updates} of {most_updates}" if most_updates else f"in epoch {next_epoch} of {most_epochs}"


def name(task: str, system: str) -> str:
    """The config of a task and system."""
    return f"glue_{task}_{MODEL}_{system}"


def table(study: Study) -> str:
    """Markdown: median and best over seeds of both systems, and what the paper has."""
    lines = [
        "| task | metric | seeds | baseline, median (best) | R-Drop, median (best) | R-Drop - baseline, medians "
        "| published: baseline | published: R-Drop |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = {task: {each: list(study.scores(task, each).values()) for each in SYSTEMS} for task in study.tasks}
    for task, scores in found.items():
        theirs = {row.system: row for row in published.TABLE[f"glue.{task}"]}
        metric = theirs[PUBLISHED[0]].convention.metric
        counts = " / ".join(dict.fromkeys(str(len(scores[system])) for system in SYSTEMS))
        cells = [f"{statistics.median(s):.1f} ({max(s):.1f})" if s else "-" for s in scores.values()]
        both = all(scores.values())
        gain = f"{statistics.median(scores['rdrop']) - statistics.median(scores['baseline']):+.1f}" if both else "-"
        cells += [gain, *(theirs[system].score for system in PUBLISHED)]
        lines.append(f"| {TASKS[task].name} | {metric} | {counts} | " + " | ".join(cells) + " |")
    if set(found) == set(TASKS) and all(all(scores.values()) for scores in found.values()):
        means = {each: statistics.mean(statistics.median(s[each]) for s in found.values()) for each in SYSTEMS}
        theirs = {row.system: row for row in published.TABLE["glue.mean"]}
        cells = [f"{means[system]:.2f}" for system in SYSTEMS] + [f"{means['rdrop'] - means['baseline']:+.2f}"]
        cells += [theirs[system].score for system in PUBLISHED]
        lines.append("| mean | | | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str], prog: str) -> int | None:
    """`glue [TASK ...] [--seeds N ...] [-- options of fairseq-train]`."""
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="N", help="default: 1 to 5")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the trainings go (default: outputs/glue)")
    parser.add_argument("--report", action="store_true", help="train nothing: the table of the finished trainings")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)  # where configs/ and outputs/ are
    args = parser.parse_args(argv[:cut])
    tasks = [task.lower().replace("-", "") for task in args.tasks] or list(TASKS)
    for given, task in zip(args.tasks, tasks):
        if task not in TASKS:
            raise UserError(f"{given} is not a task of GLUE that is known here: choose from {', '.join(TASKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the training too, as Ctrl-C does
    study = Study(args.root, args.out or args.root / "outputs" / "glue", tasks, args.seeds, argv[cut + 1 :])
    if not args.report:
        study.train()
    text = table(study)
    with files.atomic(study.out / "table.md", "w") as file:
        file.write(text)
    print(text, end="")
    return 0
