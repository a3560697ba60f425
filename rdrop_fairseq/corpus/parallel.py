"""The stages that the preparations of parallel corpora share, as steps of a Pipeline, and the functions they map."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable

from rdrop_fairseq.corpus import binarize, bpe, chinese, lines, manifest, moses, splits
from rdrop_fairseq.corpus.clean import Cleaner
from rdrop_fairseq.corpus.pipeline import Pipeline

SPLITS = ("train", "valid", "test")
# Their versions decide what text comes out, so a step that uses them is done again under another one.
TEXT_TOOLS = ("rdrop-fairseq", "sacremoses")
BPE_TOOLS = ("rdrop-fairseq", "subword-nmt")

LineFilter = Callable[[str], "str | None"]
PairFilter = Callable[[str, str], "tuple[str, str] | None"]


class Chain:
    """line -> line through several functions, in order; None as soon as one of them gives None."""

    def __init__(self, *functions: LineFilter) -> None:
        self.functions = functions

    def __call__(self, line: str) -> str | None:
        result: str | None = line
        for function in self.functions:
            if result is None:
                return None
            result = function(result)
        return result


class Both:
    """(source, target) -> a function of each, then of the pair (to drop it by giving None)."""

    def __init__(self, source: LineFilter, target: LineFilter, pair: PairFilter | None = None) -> None:
        self.source, self.target, self.pair = source, target, pair

    def __call__(self, source: str, target: str) -> tuple[str, str] | None:
        first, second = self.source(source), self.target(target)
        if first is None or second is None:
            return None
        return self.pair(first, second) if self.pair is not None else (first, second)


def tokenizer(language: str, aggressive: bool = False) -> LineFilter:
    """The tokenizer of a language; zh, for which Moses has none, is cut into characters."""
    return chinese.Tokenizer() if language == "zh" else moses.Tokenizer(language, aggressive=aggressive)


def as_counts(counts: lines.Counts, languages: Sequence[str]) -> dict[str, Any]:
    """Counts as the manifest has them."""
    tokens = dict(zip(languages, counts.tokens))
    return {"read": counts.read, "sentences": counts.written, "dropped": counts.dropped, "tokens": tokens}


def split_every(pipeline: Pipeline, sources: Mapping[str, Sequence[Path]], nth: int, text: Path) -> None:
    """Step: `text`/{train,valid}.LANGUAGE from the files of each language, each `nth` line to valid."""
    outputs = [text / f"{split}.{language}" for language in sources for split in ("train", "valid")]

    def run(parts: list[Path]) -> dict[str, Any]:
        pairs = zip(sources, parts[::2], parts[1::2])
        return {language: splits.every_nth(sources[language], nth, train, valid) for language, train, valid in pairs}

    inputs = [path for paths in sources.values() for path in paths]
    pipeline.step(f"split: one line in {nth} to valid", outputs, run, inputs, {"nth": nth})


def learn_codes(pipeline: Pipeline, text: Path, languages: Sequence[str], operations: int, workers: int) -> Path:
    """Step: joint BPE codes of train in `text`; returns where they are."""
    codes = pipeline.directory / "code"
    inputs = [text / f"train.{language}" for language in languages]
    pipeline.step(
        f"learn {operations:,} BPE operations",
        [codes],
        lambda parts: bpe.learn(inputs, parts[0], operations, workers),
        inputs,
        {"operations": operations, "tools": manifest.versions(*BPE_TOOLS)},
    )
    return codes


def segment(
    pipeline: Pipeline,
    split: str,
    text: Path,
    codes: Path,
    languages: tuple[str, str],
    workers: int,
    clean: Cleaner | None = None,
) -> dict[str, Any]:
    """Step: BPE applied to a split of `text`; pairs that `clean` drops after it are left out."""
    inputs = [text / f"{split}.{language}" for language in languages]
    outputs = [pipeline.directory / f"{split}.{language}" for language in languages]
    segmenter = bpe.Segmenter(codes)

    def run(parts: list[Path]) -> dict[str, Any]:
        function = Both(segmenter, segmenter, clean)
        return as_counts(lines.map_files(function, inputs, parts, workers, f"segmenting {split}"), languages)

    options = {"clean": asdict(clean) if clean else None, "tools": manifest.versions(*BPE_TOOLS)}
    return pipeline.step(f"apply BPE to {split}", outputs, run, [*inputs, codes], options)


def binarized(pipeline: Pipeline, languages: tuple[str, str], workers: int, words: int | None = None) -> Path:
    """Step: the data directory `bin`, with one dictionary (of at most `words` entries) for both languages; serves both
    directions."""
    destination = pipeline.directory / "bin"
    inputs = [pipeline.directory / f"{split}.{language}" for split in SPLITS for language in languages]

    def run(parts: list[Path]) -> dict[str, Any]:
        return binarize.binarize(pipeline.directory, parts[0], *languages, joined=True, workers=workers, words=words)

    tools = manifest.versions("fairseq", "ve-fairseq", "fairseq-fixed")
    pipeline.step("binarize", [destination], run, inputs, {"joined": True, "words": words, "tools": tools})
    return destination


def add_options(parser: argparse.ArgumentParser, output: str, operations: int | None) -> None:
    """The options that all preparations of parallel corpora have; operations: None if the preset says how many."""
    parser.add_argument("--data", type=Path, default=Path("data"), help="where all data goes (default: data)")
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"where this corpus goes (default: {output})")
    told = f"default: {operations:,}" if operations else "default: the preset's"
    parser.add_argument("--bpe-operations", type=int, default=operations, metavar="N", help=told)
    workers = os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=workers, metavar="N", help="processes (default: all cores)")


def report(whole: Mapping[str, Any], directory: Path) -> None:
    """What was made, for the person who waited for it; on stdout the data directory, for a script."""
    counts = ", ".join(f"{split} {count:,}" for split, count in whole["sentence_pairs"].items())
    print(f"{whole['name']}: {counts} sentence pairs; all about it in {directory / 'manifest.json'}", file=sys.stderr)
    print(directory / "bin")
