"""`rehearse BENCHMARK`: the whole way of a benchmark on 2,000 of its real pairs, in minutes on one GPU, or on a CPU.

Takes the first pairs of the real archives (fetched to where the preparation proper keeps them), prepares them, trains
the baseline and R-Drop for 200 updates each by the benchmark's configs, averages, generates, scores and compares, with
the commands that a person would give. Ends with "the way is clear", or names the step that failed and its log.
What follows `--` goes to fairseq-train.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rdrop_fairseq import files
from rdrop_fairseq.checks import miniature
from rdrop_fairseq.checks.benchmarks import IWSLT_PAIRS
from rdrop_fairseq.corpus import iwslt, wmt14
from rdrop_fairseq.errors import UserError

PAIRS, UPDATES = 2_000, 200
# Per batch on a CPU, where an update of the recipes' thousands of tokens takes minutes.
CPU_TOKENS = 512


class Way(NamedTuple):
    """What is its own in the way of one benchmark. folder: of the prepared corpus, below the folder of all data."""

    config: str  # without the system
    prepare: list[str]
    folder: str
    summarization: bool = False


def _iwslt(config: str, source: str, target: str) -> Way:
    return Way(config, ["prepare", "iwslt", source, target], iwslt.release_of(source, target).folder)


WAYS = {
    "iwslt14_de_en": _iwslt("iwslt14_de_en", "de", "en"),
    **{f"iwslt_{pair}": _iwslt(f"iwslt_{pair}", *pair.split("-")) for pair in IWSLT_PAIRS},
    "wmt14_en_de": Way("wmt14_en_de_big", ["prepare", "wmt14", "de"], "wmt14.en-de"),
    "wmt14_en_fr": Way("wmt14_en_fr_big", ["prepare", "wmt14", "fr"], "wmt14.en-fr"),
    "cnndm": Way("cnndm_bart_base", ["prepare", "cnndm", "--no-model"], "cnndm", summarization=True),
    "xsum": Way("xsum_bart_base", ["prepare", "summarization", "--xsum", "--no-model"], "xsum", summarization=True),
}
# Enough pairs for one of valid: the recipe takes every 1333rd.
FEWEST = {"wmt14_en_fr": wmt14.RECIPES["fr"]["icml17"].nth or 0}
SYSTEMS = ("baseline", "rdrop")
# An untrained model does not end its sentences.
SHORT = ["--max-len-a", "1", "--max-len-b", "20"]


@dataclass(frozen=True)
class Step:
    """A command of this project, and what is set in its environment."""

    name: str
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rehearsal:
    """One benchmark in one folder: mirror/ (miniature archives), data/, the trainings, scores/, NUMBER-STEP.log."""

    benchmark: str
    root: Path
    out: Path
    models: Path
    updates: int
    train_words: list[str]
    pairs: int = PAIRS

    @property
    def way(self) -> Way:
        """What is the benchmark's own."""
        return WAYS[self.benchmark]

    @property
    def text(self) -> Path:
        """The folder of the prepared corpus."""
        return self.out / "data" / self.way.folder

    @property
    def binarized(self) -> Path:
        """The data directory."""
        return self.text / "bin"

    def steps(self) -> list[Step]:
        """All steps after the archives, in order."""
        summarization = self.way.summarization
        mirror = {"DATA_MIRROR": str(self.out / "mirror")}
        words = ["--out", str(self.text)] if summarization else ["--data", str(self.out / "data")]
        # 2,000 pairs have not enough words for the recipes' tens of thousands of merges.
        words += [] if summarization else ["--bpe-operations", str(self.pairs)]
        found = [Step("prepare", [*self.way.prepare, *words], mirror)]
        for system in SYSTEMS:
            found += [self._train(system), self._average(system)]
            found += self._summarize(system) if summarization else [self._score(system)]
        if not summarization:
            found.append(Step("compare", ["compare", *(str(self.scores(system)) for system in SYSTEMS)]))
        return found

    def scores(self, system: str) -> Path:
        """Folder of a system's translation and scores."""
        return self.out / "scores" / system

    def _average(self, system: str) -> Step:
        # A training that is this short may have neither two epochs nor, if each save falls on the end of an epoch, any
        # update checkpoint; these two it always has.
        both = [str(self.out / system / f"checkpoint_{name}.pt") for name in ("best", "last")]
        return Step(f"average {system}", ["average", *both, "--output", str(self._averaged(system))])

    def _averaged(self, system: str) -> Path:
        return self.out / system / "averaged.pt"

    def _train(self, system: str) -> Step:
        config = f"{self.way.config}_{system}"
        words = ["train", config, str(self.binarized), "--root", str(self.root), "--save-dir", str(self.out / system)]
        often = max(1, self.updates // 8)
        schedule = {"max-update": self.updates, "warmup-updates": max(1, self.updates // 4)}
        # On many GPUs an update or two are an epoch, which would each be validated and saved: gigabytes, 100 times.
        schedule |= {"save-interval": self.updates, "validate-interval": self.updates}
        schedule |= {"save-interval-updates": often, "keep-interval-updates": 1, "validate-interval-updates": 4 * often}
        options = [word for name, value in schedule.items() for word in (f"--{name}", str(value))]
        options.append("--no-epoch-checkpoints")
        if self.way.summarization:
            options += ["--finetune-from-model", str(self.models / "bart.base" / "model.pt")]
        return Step(f"train {system}", [*words, "--update-freq", "1", "--", *options, *self.train_words])

    def _score(self, system: str) -> Step:
        words = ["score", str(self.binarized), str(self._averaged(system)), "--output", str(self.scores(system))]
        return Step(f"generate and score {system}", [*words, "--", *SHORT])

    def _summarize(self, system: str) -> list[Step]:
        articles, references = (str(self.text / "text" / f"test.{side}") for side in ("source", "target"))
        summaries = self.scores(system) / "test.hyp"
        words = ["summarize", str(self._averaged(system)), str(self.binarized), articles, "--out", str(summaries)]
        words += ["--preset", self.benchmark]
        scored = ["rouge", "--hyp", str(summaries), "--ref", references, "--published", self.benchmark]
        return [Step(f"generate {system}", words), Step(f"score {system}", scored)]


def run(steps: Sequence[Step], out: Path) -> None:
    """Run the steps, their output in NUMBER-STEP.log. Raises UserError naming the first that fails."""
    for number, step in enumerate(steps, 1):
        log = out / f"{number:02}-{step.name.replace(' ', '-')}.log"
        print(f"[{number}/{len(steps)}] {step.name}: {' '.join(step.words)}", file=sys.stderr, flush=True)
        started = time.monotonic()
        with open(log, "wb") as file:
            command = [sys.executable, "-m", "rdrop_fairseq", *step.words]
            environment = {**os.environ, **step.environment}
            status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
        if status.returncode:
            raise UserError(f"the rehearsal failed at: {step.name} ({_last(log)}); its output is in {log}")
        print(f"      ok, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _last(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line]
    return (errors or lines or ["no output"])[-1]


def device_words() -> list[str]:
    """Options of fairseq-train for this machine."""
    import torch

    return [] if torch.cuda.is_available() else ["--max-tokens", str(CPU_TOKENS)]


def main(argv: list[str], prog: str) -> int:
    """The command line."""
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=sorted(WAYS))
    parser.add_argument("--pairs", type=int, default=PAIRS, metavar="N", help=f"default: {PAIRS:,}")
    parser.add_argument("--updates", type=int, default=UPDATES, metavar="N", help=f"default: {UPDATES}")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where archives are and go (default: data)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="made anew (default: work/rehearsal/BENCHMARK)")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)  # where configs/ is
    args = parser.parse_args(argv[:cut])
    fewest = max(200, FEWEST.get(args.benchmark, 0))
    if args.updates < 2 or args.pairs < fewest:
        raise UserError(f"--updates must be at least 2 and --pairs at least {fewest}")
    out = (args.out or args.root / "work" / "rehearsal" / args.benchmark).resolve()
    if out.exists() and not (out / "mirror").is_dir():
        raise UserError(f"{out} is not a rehearsal: give another --out, it is made anew")
    files.remove(out)
    (out / "mirror").mkdir(parents=True)
    started = time.monotonic()
    print(f"the first {args.pairs:,} pairs of the real archives", file=sys.stderr, flush=True)
    miniature.make(args.benchmark, args.pairs, args.data, out / "mirror")
    if WAYS[args.benchmark].summarization:
        from rdrop_fairseq.corpus import pretrained_models

        pretrained_models.fetch("bart.base", args.data)
    words = [*device_words(), *argv[cut + 1 :]]
    root, data = args.root.resolve(), args.data.resolve()
    rehearsal = Rehearsal(args.benchmark, root, out, data, args.updates, words, args.pairs)
    run(rehearsal.steps(), out)
    print(f"the way is clear: {args.benchmark}, {time.monotonic() - started:.0f} s, all of it in {out}")
    return 0
