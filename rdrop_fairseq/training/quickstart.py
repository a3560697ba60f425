"""`quickstart`: from nothing to a trained R-Drop model, its BLEU and five translations, on two cores in ten minutes.

    work/demo                    the demo corpus (see `prepare demo`), unless --data names one
    work/quickstart/rdrop        checkpoints, train.log; in test/ the translation and its score
    work/quickstart/baseline     the same of plain training, with --compare

Whatever is there and whole is not done again, so the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdrop_fairseq import files
from rdrop_fairseq.corpus import demo
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.text import read_lines
from rdrop_fairseq.training.config import find_config, read_config
from rdrop_fairseq.training.progress import Progress
from rdrop_fairseq.training.resume import newest_whole, only_one

SYSTEMS = {"rdrop": "quickstart_rdrop", "baseline": "quickstart_baseline"}
MESSAGES = "en"
SAMPLES = 5
SAMPLE_WORDS = range(7, 16)  # long enough to say something, short enough for one line
GENERATION = ("--max-tokens", "4000", "--max-len-a", "1.2", "--max-len-b", "10")
WALL = re.compile(r"\bwall[= ](\d+)")


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
        """Raises UserError unless this is what `prepare demo` makes, complete."""
        needed = [self.binarized / f"dict.{self.target}.txt", self.text(self.source), self.text(self.target)]
        for path in needed:
            if not path.is_file():
                raise UserError(f"{path} is missing: give --data a folder that `prepare demo` made, and its languages")


@dataclass(frozen=True)
class Training:
    """One system's training."""

    name: str
    config: Path
    data: Data
    save_dir: Path
    extra: tuple[str, ...]

    @property
    def checkpoint(self) -> Path:
        """The model at the end."""
        return self.save_dir / "checkpoint_last.pt"

    def number(self, option: str) -> int:
        """A whole number among fairseq-train's options: from the command line, else the config's, else 0."""
        if f"--{option}" in self.extra:
            return int(self.extra[self.extra.index(f"--{option}") + 1])
        return next((int(entry.value) for entry in read_config(self.config).options if entry.key == option), 0)

    def key(self) -> str:
        """What this training depends on; one with another key has nothing to go on from."""
        parts = [self.config.read_text(encoding="utf-8"), files.sha256(self.data.binarized), *self.extra]
        parts += [self.data.source, self.data.target]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def command(self) -> list[str]:
        """`train`, going on from the newest whole checkpoint."""
        command = [sys.executable, "-m", "rdrop_fairseq", "train", str(self.config), str(self.data.binarized)]
        command += ["--save-dir", str(self.save_dir), "--", *self.extra]
        command += ["--source-lang", self.data.source, "--target-lang", self.data.target]
        start = newest_whole(self.save_dir)
        return command if start is None else [*command, "--restore-file", str(start.resolve())]


def train(training: Training) -> float:
    """Trains, or goes on, or finds it done; returns the seconds that it took in all."""
    record = training.save_dir / "training.json"
    with only_one(training.save_dir / "quickstart.lock") as lock:  # `lock` is the training's own
        known: dict[str, Any] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        key = training.key()
        if known and known["key"] != key:
            raise UserError(
                f"{training.save_dir} holds a training with other data or settings: remove it, or give another --out"
            )
        if known.get("seconds") is None:
            _write(record, {"key": key, "seconds": None})
            known = {"key": key, "seconds": _run(training, lock.fileno())}
            _write(record, known)
        else:
            _say("      done before")
    return float(known["seconds"])


def _write(path: Path, record: dict[str, Any]) -> None:
    with files.atomic(path, "w") as file:
        file.write(json.dumps(record) + "\n")


def _run(training: Training, lock: int) -> float:
    """The training process, with its progress on one line; returns the seconds that fairseq counted."""
    tail: deque[str] = deque(maxlen=40)
    started, seconds = time.monotonic(), 0.0
    pipe = subprocess.PIPE
    with subprocess.Popen(
        training.command(), stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace", pass_fds=[lock]
    ) as process:
        (training.save_dir / "quickstart.lock").write_text(f"{process.pid}\n", encoding="utf-8")
        assert process.stdout is not None
        try:
            total, start = training.number("max-update"), training.number("rdrop-start-updates")
            with Progress(training.name, total, start) as progress:
                for line in process.stdout:
                    tail.append(line.strip())
                    progress.line(line)
                    if found := WALL.search(line):
                        seconds = float(found[1])
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        told = next((line for line in reversed(tail) if "rror" in line), tail[-1] if tail else "no output")
        raise UserError(
            f"the training stopped ({told}); its whole output is in {training.save_dir / 'train.log'}; "
            "the same command goes on from the last checkpoint"
        )
    return seconds or time.monotonic() - started


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def score(training: Training) -> Path:
    """Translates and scores the test part, unless that is done; returns the folder of texts and scores."""
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
    """Five test sentences, evenly spread, with reference and what each system (name, scored folder) made of them."""
    sources, references = read_lines(data.text(data.source)), read_lines(data.text(data.target))
    fitting = [number for number, line in enumerate(sources) if len(line.split()) in SAMPLE_WORDS]
    fitting = fitting or list(range(len(sources)))
    chosen = fitting[:: max(1, len(fitting) // SAMPLES)][:SAMPLES]
    columns = [("source", sources), ("reference", references)]
    columns += [(name, read_lines(folder / "hyp.detok")) for name, folder in systems]
    width = max(len(name) for name, _ in columns)
    return "\n\n".join("\n".join(f"{name:>{width}}  {text[number]}" for name, text in columns) for number in chosen)


def prepare(args: argparse.Namespace) -> Path:
    """The demo corpus of the language that is not the messages' own."""
    language = args.source if args.target == MESSAGES else args.target
    folder = args.root / "work" / ("demo" if language == "de" else f"demo.{language}")
    demo.main(["--lang", language, "--out", str(folder)], "prepare demo")
    return folder


def quickstart(args: argparse.Namespace, extra: Sequence[str]) -> None:
    """All of it, step by step."""
    wanted = [name for name in SYSTEMS if name == "rdrop" or args.compare]
    steps = 1 + 2 * len(wanted) + args.compare + 1
    number = 0

    def step(title: str) -> None:
        nonlocal number
        number += 1
        _say(f"({number}/{steps}) {title}")

    step("data")
    data = Data(args.data or prepare(args), args.source, args.target)
    data.check()
    seconds, scored = {}, {}
    for name in wanted:
        config = find_config(SYSTEMS[name], args.root)
        training = Training(name, config, data, (args.out or args.root / "work" / "quickstart") / name, tuple(extra))
        step(f"training: {name}")
        seconds[name] = train(training)
        step(f"translating the test part: {name}")
        scored[name] = score(training)
    if args.compare:
        step("comparison")
        from rdrop_fairseq.scoring import compare

        for name in wanted:
            print(f"{name}: trained for {seconds[name]:.0f} s")
        compare.main([str(scored["baseline"]), str(scored["rdrop"]), "--convention", "sacrebleu"], "compare")
    step("five translations")
    print("\n" + samples(data, list(scored.items())))


def main(argv: list[str], prog: str) -> None:
    """The command line; what follows `--` goes to fairseq-train."""
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [options] [-- options of fairseq-train]",
        description="Data, training with R-Drop, BLEU and five translations; goes on where it was interrupted.",
    )
    parser.add_argument("--compare", action="store_true", help="also train the baseline as long, and compare them")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="made by `prepare demo` (default: work/demo, made now)"
    )  # fmt: skip
    parser.add_argument("--source", default="de", help="language to translate from (default: de)")
    parser.add_argument("--target", default="en", help="language to translate into (default: en)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: work/quickstart")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)  # where configs/ is
    args = parser.parse_args(argv[:cut])
    # `kill` ends like Ctrl-C: the training process is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    quickstart(args, argv[cut + 1 :])
