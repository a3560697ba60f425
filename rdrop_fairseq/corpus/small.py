"""A small parallel corpus in one folder, from sentence pairs to what fairseq reads.

    text/{train,valid,test}.{source,target} -> tok/ -> bpe/ (and codes) -> bin/, manifest.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq import files
from rdrop_fairseq.corpus import binarize, bpe, catalogs, lines
from rdrop_fairseq.corpus.catalogs import Pair
from rdrop_fairseq.corpus.moses import Tokenizer
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

SPLITS = ("train", "valid", "test")
HELD_OUT = 1200  # pairs of valid, and of test; but never more than this share of all each:
HELD_OUT_SHARE = 0.1
MIN_PAIRS = 30  # fewer leave a test part of 3 at most, which measures nothing


def split(
    pairs: list[Pair], held_out: int = HELD_OUT, share: float = HELD_OUT_SHARE, train: Optional[int] = None
) -> dict[str, list[Pair]]:
    """Pairs of train, valid and test, each in the given order.

    Those whose message (by `catalogs.key`) has the smallest sha256 are test, the next valid: the choice depends on no
    seed and hardly on what else is in the corpus. held_out: pairs of valid, and of test, but at most this share of all.
    train: at most so many pairs of train, the next by the same order. Raises UserError if there are too few.
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
    """One language pair in one folder; the steps, in order. Of a Pair, the first is a sentence of `target`."""

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

        collect: reads `inputs`, returns pairs and how many entries fell to which rule. options: what it depends on.
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
        data = self.binarize()
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
        codes, train = self.out / "codes", self.paths("tok")[:2]
        self.pipeline.step(
            "learn BPE",
            [codes],
            lambda parts: bpe.learn(train, parts[0], operations, self.workers),
            train,
            {"operations": operations},
        )

        def run(parts: list[Path]) -> dict[str, int]:
            tokens = (
                bpe.apply(codes, path, part, self.workers).tokens[0] for path, part in zip(self.paths("tok"), parts)
            )
            return {path.name: count for path, count in zip(self.paths("tok"), tokens)}

        self.pipeline.step("apply BPE", self.paths("bpe"), run, [codes, *self.paths("tok")])

    def binarize(self) -> Path:
        """fairseq's binary form, one dictionary for both languages; returns its folder, good for both directions."""
        data = self.out / "bin"
        self.pipeline.step(
            "binarize",
            [data],
            lambda parts: binarize.binarize(self.out / "bpe", parts[0], self.source, self.target, workers=self.workers),
            self.paths("bpe"),
            {"source": self.source, "target": self.target},
        )
        return data

    def paths(self, stage: str) -> list[Path]:
        """The six files of a folder: train, valid, test, in the source and the target language."""
        return [self.out / stage / f"{name}.{language}" for name in SPLITS for language in (self.source, self.target)]
