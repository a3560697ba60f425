"""`quickstart`: from nothing to a trained R-Drop model, its BLEU and five translations, on two cores in ten minutes.

    work/verses-small            Bible verses, Spanish to English (see `prepare verses`), unless --data names a corpus
    work/quickstart/rdrop        checkpoints, train.log; in test/ the translation and its score
    work/quickstart/baseline     the same of plain training, with --compare
    work/quickstart/*.hours      with --hours N: from the model of the ten minutes on, for N hours

Finished steps are not repeated, so the same command resumes where it was interrupted. The schedule of the hours has no
end of its own, so a larger N continues the same training.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Optional

from rdrop_fairseq.corpus import verses
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.text import read_lines
from rdrop_fairseq.training import launch, record, resume
from rdrop_fairseq.training.progress import Progress
from rdrop_fairseq.training.run import Run

PAIRS = 1500  # few, so that ten minutes are enough for R-Drop to pay off
SAMPLES = 5
SAMPLE_WORDS = range(7, 16)  # long enough to say something, short enough for one line
GENERATION = ("--max-tokens", "4000", "--max-len-a", "1.2", "--max-len-b", "10")


@dataclass(frozen=True)
class Data:
    """A prepared corpus: binarized, and the raw text of its test part, in one direction."""

    folder: Path
    source: str
    target: str

    @property
    def binarized(self) -> Path:
        """What fairseq reads."""
        return self.folder / "bin"

    def text(self, language: str) -> Path:
        """The test part as people wrote it."""
        return self.folder / "text" / f"test.{language}"

    def check(self) -> None:
        """Raises UserError unless this is what `prepare verses` or `prepare demo` makes, complete."""
        needed = [self.binarized / f"dict.{self.target}.txt", self.text(self.source), self.text(self.target)]
        for path in needed:
            if not path.is_file():
                raise UserError(
                    f"{path} is missing: give --data a folder that `prepare verses` or `prepare demo` made, with its "
                    "--source and --target"
                )


@dataclass(frozen=True)
class Training:
    """One system's training. config: name of a file in configs/ below `root`; extra: options of fairseq-train. It ends
    as the config says, or `hours` after the end of the training in the folder `start`, whose model it starts from."""

    name: str
    config: str
    data: Data
    save_dir: Path
    extra: tuple[str, ...]
    root: Path = Path()
    hours: float = 0.0
    start: Optional[Path] = None

    @property
    def checkpoint(self) -> Path:
        """The model at the end, or the best on valid of a training of hours, which is validated."""
        return self.save_dir / ("checkpoint_best.pt" if self.hours else resume.LAST)

    def run(self) -> Run:
        """What `train` would start, on one device: the schedule is for the config's batch."""
        words = [self.config, str(self.data.binarized), "--save-dir", str(self.save_dir), "--root", str(self.root)]
        words += ["--processes", "1"]
        extra = [*self.extra, "--source-lang", self.data.source, "--target-lang", self.data.target]
        if self.start:
            extra += ["--finetune-from-model", str(self.start / resume.LAST)]
            # fairseq's clock continues that of the model it starts from
            extra += ["--stop-time-hours", f"{self.hours + resume.seconds_done(self.start) / 3600:.5f}"]
        return launch.prepare(launch.argument_parser("train").parse_args(words), extra, "--out")


def train(training: Training) -> float:
    """Train or resume, unless it is done; returns the seconds of training in all."""
    run = training.run()
    with run.claim() as lock:
        if run.finished():
            _say("      done before")
        else:
            _follow(training, run, lock)
    return float(record.read(run.save_dir).get("seconds", 0.0))


def _follow(training: Training, run: Run, lock: IO[str]) -> None:
    """Train in a child process and show its progress on one line."""
    run.log.touch()
    start = getattr(run.seen, "rdrop_start_updates", 0)
    left = None
    if training.start:
        done = resume.seconds_done(run.save_dir) or resume.seconds_done(training.start)
        left = run.seen.stop_time_hours * 3600 - done
    with run.log.open(encoding="utf-8", errors="replace") as log:
        log.seek(0, os.SEEK_END)
        with Progress(training.name, run.seen.max_update or 0, start, left) as progress:
            rest = ""

            def look(_: int) -> None:
                nonlocal rest
                *lines, rest = (rest + log.read()).split("\n")
                for line in lines:
                    progress.line(line)

            run.follow(lock, look)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def score(training: Training) -> Path:
    """Translate and score the test part, unless that is done; returns the folder of texts and scores."""
    from rdrop_fairseq.scoring import results
    from rdrop_fairseq.scoring import score as scoring

    folder = training.save_dir / "test"
    scores = folder / results.SCORES
    if scores.is_file() and scores.stat().st_mtime_ns >= training.checkpoint.stat().st_mtime_ns:
        _say("      done before")
        print((folder / results.REPORT).read_text(encoding="utf-8"), end="")
        return folder
    data = training.data
    command = [str(data.binarized), str(training.checkpoint), "--plain-ref", str(data.text(data.target))]
    command += ["--convention", "sacrebleu", "--output", str(folder), "--", *GENERATION]
    scoring.main(command, "score")
    return folder


def samples(data: Data, systems: Sequence[tuple[str, Path]]) -> str:
    """Five test sentences, evenly spread: reference, each system's translation. systems: (name, scored folder)."""
    sources, references = read_lines(data.text(data.source)), read_lines(data.text(data.target))
    fitting = [number for number, line in enumerate(sources) if len(line.split()) in SAMPLE_WORDS]
    fitting = fitting or list(range(len(sources)))
    chosen = fitting[:: max(1, len(fitting) // SAMPLES)][:SAMPLES]
    columns = [("source", sources), ("reference", references)]
    columns += [(name, read_lines(folder / "hyp.detok")) for name, folder in systems]
    width = max(len(name) for name, _ in columns)
    return "\n\n".join("\n".join(f"{name:>{width}}  {text[number]}" for name, text in columns) for number in chosen)


def prepare(args: argparse.Namespace) -> Path:
    """Prepare a few verses of both languages; returns their folder."""
    pair = f"{args.source}-{args.target}"
    folder = args.root / "work" / ("verses-small" if pair == "es-en" else f"verses-small.{pair}")
    languages = ["--source", args.source, "--target", args.target]
    verses.main([*languages, "--pairs", str(PAIRS), "--out", str(folder)], "prepare verses")
    return folder


def trainings(name: str, data: Data, args: argparse.Namespace, extra: Sequence[str]) -> list[Training]:
    """A system's trainings: the ten minutes, then the hours, which start from the minutes' model."""
    folder, config = (args.out or args.root / "work" / "quickstart") / name, f"quickstart_{name}"
    first = Training(name, config, data, folder, tuple(extra), args.root)
    if not args.hours:
        return [first]
    name, longer = f"{name}.hours", folder.with_name(f"{name}.hours")
    return [first, Training(name, f"{config}_hours", data, longer, tuple(extra), args.root, args.hours, folder)]


def quickstart(args: argparse.Namespace, extra: Sequence[str]) -> None:
    """All of it, step by step."""
    names = ["rdrop", "baseline"] if args.compare else ["rdrop"]
    steps = 1 + 2 * len(names) * (2 if args.hours else 1) + args.compare + 1
    number = 0

    def step(title: str) -> None:
        nonlocal number
        number += 1
        _say(f"({number}/{steps}) {title}")

    step("data")
    data = Data(args.data or prepare(args), args.source, args.target)
    data.check()
    seconds: dict[str, float] = {}
    scored: dict[str, Path] = {}  # the last of each system
    for name in names:
        for training in trainings(name, data, args, extra):
            step(f"training: {training.name}")
            seconds[name] = seconds.get(name, 0.0) + train(training)
            step(f"translating the test part: {training.name}")
            scored[name] = score(training)
    if args.compare:
        step("comparison")
        from rdrop_fairseq.scoring import compare

        for name in names:
            print(f"{name}: trained for {seconds[name]:.0f} s")
        compare.main([str(scored["baseline"]), str(scored["rdrop"]), "--convention", "sacrebleu"], "compare")
    step("five translations")
    print("\n" + samples(data, list(scored.items())))


def _hours(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("a number of hours above 0")
    return value


def main(argv: list[str], prog: str) -> None:
    """The command line; what follows `--` goes to fairseq-train."""
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [options] [-- options of fairseq-train]",
        description="Data, training with R-Drop, BLEU and five translations; resumes where it was interrupted.",
    )
    parser.add_argument(
        "--hours", type=_hours, default=0.0, metavar="N", help="after the ten minutes, train on for N hours"
    )
    parser.add_argument("--compare", action="store_true", help="also train the baseline as long, and compare them")
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="made by `prepare verses` or `prepare demo` (default: work/verses-small, made now)",
    )  # fmt: skip
    parser.add_argument("--source", default="es", help="language to translate from (default: es)")
    parser.add_argument("--target", default="en", help="language to translate into (default: en)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: work/quickstart")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)  # where configs/ is
    args = parser.parse_args(argv[:cut])
    # `kill` ends like Ctrl-C: the training process is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    quickstart(args, argv[cut + 1 :])
