"""A small parallel corpus in one folder, from sentence pairs to what fairseq reads.

    text/{train,valid,test}.{source,target} -> tok/ -> {train,valid,test}.{source,target} (BPE, and code) -> bin/
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq import files
from rdrop_fairseq.corpus import catalogs, lines, parallel
from rdrop_fairseq.corpus.catalogs import Pair
from rdrop_fairseq.corpus.moses import Tokenizer
from rdrop_fairseq.corpus.parallel import SPLITS
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.corpus.processes import add_workers
from rdrop_fairseq.errors import UserError

HELD_OUT = 1200  # pairs of valid, and of test; but never more than this share of all each:
HELD_OUT_SHARE = 0.1
MIN_PAIRS = 30  # fewer leave a test part of 3 at most, which measures nothing


def add_options(parser: argparse.ArgumentParser, out: str, operations: int, held_out: int) -> None:
    """The options of every small corpus, with its defaults."""
    parser.add_argument("--out", type=Path, default=Path(out), metavar="DIR", help=f"default: {out}")
    merges = f"BPE merges (default: {operations})"
    parser.add_argument("--operations", type=int, default=operations, metavar="N", help=merges)
    sizes = f"pairs of valid and of test (default: {held_out})"
    parser.add_argument("--held-out", type=int, default=held_out, metavar="N", help=sizes)
    add_workers(parser)


def checked(args: argparse.Namespace, *names: str) -> argparse.Namespace:
    """The parsed options; raises UserError for a number below 1 among them and the further `names`."""
    for name in (*names, "operations", "held_out", "workers"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: give 1 or more")
    return args


def split(
    pairs: list[Pair], held_out: int = HELD_OUT, share: float = HELD_OUT_SHARE, train: Optional[int] = None
) -> dict[str, list[Pair]]:
    """Pairs of train, valid and test, each in the given order.

    The pairs whose message (by `catalogs.key`) has the smallest sha256 are test, the next ones valid: the choice needs
    no seed and hardly depends on the rest of the corpus. held_out: pairs of valid, and of test, but at most `share` of
    all pairs each. train: at most this many pairs of train, the next in the same order. Raises UserError if there are
    too few pairs.
    """
    if len(pairs) < MIN_PAIRS:
        raise UserError(f"only {len(pairs)} usable sentence pairs, {MIN_PAIRS} are needed: give more catalogs")
    size = min(held_out, int(share * len(pairs)))
    digests = [hashlib.sha256(catalogs.key(message).encode()).digest() for message, _ in pairs]
    rank = sorted(range(len(pairs)), key=digests.__getitem__)
    name_of = {index: "test" for index in rank[:size]} | {index: "valid" for index in rank[size : 2 * size]}
    name_of |= {index: "train" for index in rank[2 * size :][:train]}
    parts: dict[str, list[Pair]] = {name: [] for name in SPLITS}
    for index, pair in enumerate(pairs):
        if index in name_of:
            parts[name_of[index]].append(pair)
    return parts


class SmallCorpus:
    """One language pair in one folder; the steps, in order. The first sentence of a Pair is in `target`."""

    def __init__(
        self, out: Path, source: str, target: str, workers: int, name: str, options: Mapping[str, Any]
    ) -> None:
        self.out, self.source, self.target, self.workers = out, source, target, workers
        self.pipeline = Pipeline(out, f"{name} {source}-{target}", options)

    def text(
        self,
        inputs: Sequence[Path],
        collect: Callable[[], tuple[list[Pair], Mapping[str, int]]],
        held_out: int,
        share: float = HELD_OUT_SHARE,
        train: Optional[int] = None,
        options: Optional[Mapping[str, Any]] = None,
    ) -> dict[str, int]:
        """Writes text/; returns how many pairs each split has.

        collect: reads `inputs`, returns pairs and how many entries each rule dropped. options: what it depends on.
        """

        def run(parts: list[Path]) -> dict[str, int]:
            pairs, counts = collect()
            splits = split(pairs, held_out, share, train)
            for name, outputs in zip(SPLITS, (parts[0:2], parts[2:4], parts[4:6])):
                for side, path in zip((1, 0), outputs):
                    with files.atomic(path, "w") as file:
                        file.writelines(f"{pair[side]}\n" for pair in splits[name])
            sizes = {name: len(splits[name]) for name in SPLITS}
            return {**sizes, **{f"entries: {reason}": count for reason, count in sorted(counts.items())}}

        key = {"held_out": held_out, **(options or {})}
        counts = self.pipeline.step("sentence pairs", self.paths("text"), run, inputs, key)
        return {name: counts[name] for name in SPLITS}

    def make(self, counts: Mapping[str, int], operations: int) -> Path:
        """The steps after text/; returns the folder of binarized data."""
        self.tokenize()
        self.segment(operations)
        data = parallel.binarized(self.pipeline, (self.source, self.target), self.workers)
        self.pipeline.finish(counts)
        return data

    def tokenize(self) -> None:
        """Moses tokenization, special characters escaped."""

        def run(parts: list[Path]) -> dict[str, int]:
            counts = {}
            for path, part in zip(self.paths("text"), parts):
                tokenizer = Tokenizer(path.suffix[1:])
                counts[path.name] = lines.map_files(tokenizer, [path], [part], self.workers).tokens[0]
            return counts

        self.pipeline.step("tokenize", self.paths("tok"), run, self.paths("text"))

    def segment(self, operations: int) -> None:
        """Joint BPE, learned on train."""
        tok, languages = self.out / "tok", (self.source, self.target)
        codes = parallel.learn_codes(self.pipeline, tok, languages, operations, self.workers)
        for name in SPLITS:
            parallel.segment(self.pipeline, name, tok, codes, languages, self.workers)

    def paths(self, stage: str) -> list[Path]:
        """The six files of a folder: train, valid, test, in the source and the target language."""
        return [self.out / stage / f"{name}.{language}" for name in SPLITS for language in (self.source, self.target)]
