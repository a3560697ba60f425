"""What the preparations of parallel corpora share: steps of a Pipeline, and the functions that these map over lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable

from rdrop_fairseq.corpus import binarize, bpe, chinese, lines, manifest, moses, splits
from rdrop_fairseq.corpus.clean import Cleaner
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.corpus.processes import add_workers
from rdrop_fairseq.errors import UserError

SPLITS = ("train", "valid", "test")
# Their versions determine the text, so a step that uses them is repeated when one changes.
TEXT_TOOLS = ("rdrop-fairseq", "sacremoses")
BPE_TOOLS = ("rdrop-fairseq", "subword-nmt")

LineFilter = Callable[[str], "str | None"]
PairFilter = Callable[[str, str], "tuple[str, str] | None"]


class Chain:
    """line -> line through several functions, in order; None as soon as one of them returns None."""

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
    """(source, target) -> a function of each, then one of the pair; None from any of them drops the pair."""

    def __init__(self, source: LineFilter, target: LineFilter, pair: PairFilter | None = None) -> None:
        self.source, self.target, self.pair = source, target, pair

    def __call__(self, source: str, target: str) -> tuple[str, str] | None:
        first, second = self.source(source), self.target(target)
        if first is None or second is None:
            return None
        return self.pair(first, second) if self.pair is not None else (first, second)


def tokenizer(language: str, aggressive: bool = False) -> LineFilter:
    """The tokenizer of a language; Moses has none for zh, which is cut into characters."""
    return chinese.Tokenizer() if language == "zh" else moses.Tokenizer(language, aggressive=aggressive)


def as_counts(counts: lines.Counts, languages: Sequence[str]) -> dict[str, Any]:
    """Counts in the manifest's form."""
    tokens = dict(zip(languages, counts.tokens))
    return {"read": counts.read, "sentences": counts.written, "dropped": counts.dropped, "tokens": tokens}


def mapped(
    pipeline: Pipeline,
    title: str,
    function: Callable[..., Any],
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    languages: Sequence[str],
    workers: int,
    options: Mapping[str, Any] | None = None,
    made_from: Sequence[Path] | None = None,
) -> dict[str, Any]:
    """Step: `function` over the lines of `inputs`, read in parallel, to `outputs`; returns its counts.

    made_from: what the step depends on where that is not `inputs` (the folder that they were unpacked into).
    """

    def run(parts: list[Path]) -> dict[str, Any]:
        return as_counts(lines.map_files(function, inputs, parts, workers, title), languages)

    return pipeline.step(title, outputs, run, made_from or inputs, options)


def segments(
    functions: Sequence[LineFilter], inputs: Sequence[Path], outputs: Sequence[Path], languages: Sequence[str]
) -> dict[str, Any]:
    """Writes the segments of a test set's two files, whose other lines are not parallel; returns counts.

    Raises UserError if the sides do not have as many segments.
    """
    done = [lines.map_files(f, [path], [part]) for f, path, part in zip(functions, inputs, outputs)]
    if done[0].written != done[1].written:
        found = ", ".join(f"{path.name} has {each.written}" for path, each in zip(inputs, done))
        raise UserError(f"the sides of a test set have different numbers of segments ({found}): fetch it again")
    return {"sentences": done[0].written, "tokens": {x: each.tokens[0] for x, each in zip(languages, done)}}


def split_every(pipeline: Pipeline, sources: Mapping[str, Sequence[Path]], nth: int, text: Path) -> None:
    """Step: `text`/{train,valid}.LANGUAGE from the files of each language, every `nth` line to valid."""
    outputs = [text / f"{split}.{language}" for language in sources for split in ("train", "valid")]

    def run(parts: list[Path]) -> dict[str, Any]:
        pairs = zip(sources, parts[::2], parts[1::2])
        return {language: splits.every_nth(sources[language], nth, train, valid) for language, train, valid in pairs}

    inputs = [path for paths in sources.values() for path in paths]
    pipeline.step(f"split: one line in {nth} to valid", outputs, run, inputs, {"nth": nth})


def learn_codes(
    pipeline: Pipeline, text: Path, languages: tuple[str, str], operations: int, workers: int, joined: bool = True
) -> tuple[Path, Path]:
    """Step: BPE codes learned on train in `text`, on both languages together if joined (code), else on each by itself
    (code.LANGUAGE); returns those of each language."""
    found = []
    for name, learned in [("code", languages)] if joined else [(f"code.{x}", (x,)) for x in languages]:
        inputs, codes = [text / f"train.{language}" for language in learned], pipeline.directory / name

        def run(parts: list[Path], inputs: list[Path] = inputs) -> dict[str, int]:
            return bpe.learn(inputs, parts[0], operations, workers)

        title = f"learn {operations:,} BPE operations" + ("" if joined else f" of {learned[0]}")
        options = {"operations": operations, "tools": manifest.versions(*BPE_TOOLS)}
        pipeline.step(title, [codes], run, inputs, options)
        found.append(codes)
    return found[0], found[-1]


def segment(
    pipeline: Pipeline,
    split: str,
    text: Path,
    codes: tuple[Path, Path],
    languages: tuple[str, str],
    workers: int,
    clean: Cleaner | None = None,
) -> dict[str, Any]:
    """Step: BPE applied to a split of `text`; pairs that `clean` drops after it are left out."""
    inputs = [text / f"{split}.{language}" for language in languages]
    outputs = [pipeline.directory / f"{split}.{language}" for language in languages]
    function = Both(bpe.Segmenter(codes[0]), bpe.Segmenter(codes[1]), clean)
    options = {"clean": asdict(clean) if clean else None, "tools": manifest.versions(*BPE_TOOLS)}
    title = f"apply BPE to {split}"
    made_from = [*inputs, *dict.fromkeys(codes)]
    return mapped(pipeline, title, function, inputs, outputs, languages, workers, options, made_from)


def binarized(
    pipeline: Pipeline, languages: tuple[str, str], workers: int, words: int | None = None, joined: bool = True
) -> Path:
    """Step: the data directory `bin` for both directions; one dictionary, or one per language, of at most `words`
    entries."""
    destination = pipeline.directory / "bin"
    inputs = [pipeline.directory / f"{split}.{language}" for split in SPLITS for language in languages]

    def run(parts: list[Path]) -> dict[str, Any]:
        return binarize.binarize(pipeline.directory, parts[0], *languages, joined=joined, workers=workers, words=words)

    tools = manifest.versions("fairseq", "ve-fairseq", "fairseq-fixed")
    pipeline.step("binarize", [destination], run, inputs, {"joined": joined, "words": words, "tools": tools})
    return destination


def add_options(parser: argparse.ArgumentParser, output: str, operations: int | None) -> None:
    """The options of every parallel corpus; operations: None if the preset determines the number."""
    parser.add_argument("--data", type=Path, default=Path("data"), help="where all data goes (default: data)")
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"where this corpus goes (default: {output})")
    default = f"default: {operations:,}" if operations else "default: the preset's"
    parser.add_argument("--bpe-operations", type=int, default=operations, metavar="N", help=default)
    add_workers(parser)


def report(whole: Mapping[str, Any], directory: Path) -> None:
    """Prints a summary for people on stderr, and the data directory for scripts on stdout."""
    counts = ", ".join(f"{split} {count:,}" for split, count in whole["sentence_pairs"].items())
    print(f"{whole['name']}: {counts} sentence pairs; all about it in {directory / 'manifest.json'}", file=sys.stderr)
    print(directory / "bin")
