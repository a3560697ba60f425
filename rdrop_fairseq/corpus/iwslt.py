"""`prepare iwslt [SRC TGT]`: IWSLT14 German-English and Spanish-English, IWSLT17 French-English and Chinese-English.

Steps, order and files are those of fairseq's examples/translation/prepare-iwslt14.sh, so that text and
BPE come out the same: DIR/{train,valid,test}.LANG (BPE), DIR/code, DIR/tmp (the same text before BPE), DIR/bin.

Spanish-English has one address, unanswered since 2020: put a copy of es-en.tgz into DATA/downloads/iwslt14/.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rdrop_fairseq.corpus import archives, lines, manifest, markup, moses, parallel, splits
from rdrop_fairseq.corpus.clean import Cleaner
from rdrop_fairseq.corpus.parallel import Chain
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

WIT3 = "https://wit3.fbk.eu/archive/2014-01/texts/{0}/{1}/{0}-{1}.tgz"
# The talks' own site is gone (404 since 2020); this is its archive, which sacrebleu takes the 2017 sets from.
WIT3_2017 = (
    "https://raw.githubusercontent.com/hlt-mt/WIT3/master/archive/2017-01-trnted/texts/{0}/{1}/{0}-{1}.tgz",
    "https://wit3.fbk.eu/archive/2017-01-trnted/texts/{0}/{1}/{0}-{1}.tgz",
)
NTH = 23
CLEAN = Cleaner(minimum=1, maximum=175, ratio=1.5)


@dataclass(frozen=True)
class Release:
    """One pair of one year: the archive, the test sets in the order in which they become test, and what is known.

    clean: characters are not words, so the ratio of 1.5 would drop about half of Chinese-English: zh-en has the default
    of clean-corpus-n.perl, 9.
    """

    year: int
    languages: tuple[str, str]
    urls: tuple[str, ...]
    tests: tuple[str, ...]
    all_tests: bool
    clean: Cleaner = CLEAN
    dropped: tuple[str, ...] = markup.IWSLT17_DROPPED
    known: tuple[tuple[str, int], ...] = ()

    @property
    def pair(self) -> str:
        """As in the names of the files: de-en."""
        return "-".join(self.languages)


YEARS_2014 = ("TED.dev2010", "TED.tst2010", "TED.tst2011", "TED.tst2012")
YEARS_2017 = (*YEARS_2014, "TED.tst2013", "TED.tst2014", "TED.tst2015")
RELEASES = (
    Release(
        2014,
        ("de", "en"),
        ("http://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz", WIT3),
        ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"),
        all_tests=True,
        dropped=markup.IWSLT14_DROPPED,
        known=(("train", 160_239), ("valid", 7_283), ("test", 6_750)),
    ),
    Release(2014, ("es", "en"), (WIT3,), YEARS_2014, all_tests=False, dropped=markup.IWSLT14_DROPPED),
    Release(2017, ("fr", "en"), WIT3_2017, YEARS_2017, all_tests=False),
    Release(2017, ("zh", "en"), WIT3_2017, YEARS_2017, all_tests=False, clean=Cleaner(1, 175, 9)),
)


def prepare(release: Release, directory: Path, downloads: Path, operations: int, workers: int) -> dict[str, Any]:
    """Everything from the archive to `directory`/bin; returns the manifest."""
    options: dict[str, Any] = {
        "languages": list(release.languages),
        "bpe_operations": operations,
        "dropped_lines_with": list(release.dropped),
        "clean": asdict(release.clean),
        "valid": f"one line in {NTH}",
        "lowercase": True,
        "tokenizer": {x: "one token per character" if x == "zh" else f"Moses, -l {x}" for x in release.languages},
    }
    pipeline = Pipeline(directory, f"IWSLT{release.year % 100} {release.pair}", options)
    urls = [url.format(*release.languages) for url in release.urls]
    destination = downloads / f"iwslt{release.year % 100}" / f"{release.pair}.tgz"
    if urls == [WIT3.format(*release.languages)] and not destination.exists():
        told = f"note: the one address of {destination.name} has not answered since 2020; a copy put at {destination}"
        print(f"{told} is taken instead", file=sys.stderr)
    archive = pipeline.download(urls, destination)
    original = directory / "orig"
    pipeline.step("unpack", [original], lambda parts: archives.unpack(archive, parts[0]), [archive])
    text = directory / "tmp"
    for language in release.languages:
        _tokenize_talks(pipeline, release, language, workers)
    _clean(pipeline, release, workers)
    _tokenize_tests(pipeline, release, workers)
    corpus = {language: [text / f"train.tags.{release.pair}.{language}"] for language in release.languages}
    parallel.split_every(pipeline, corpus, NTH, text)
    codes = parallel.learn_codes(pipeline, text, release.languages, operations, workers)
    counts = {
        split: parallel.segment(pipeline, split, text, codes, release.languages, workers)["sentences"]
        for split in parallel.SPLITS
    }
    parallel.binarized(pipeline, release.languages, workers)
    return pipeline.finish(counts, {split: manifest.Known(count) for split, count in release.known})


def _tokenize_talks(pipeline: Pipeline, release: Release, language: str, workers: int) -> None:
    """Step: train.tags.*.LANG without its tags, tokenized."""
    name = f"train.tags.{release.pair}"
    original = pipeline.directory / "orig"
    source = _member(original, release, f"{name}.{language}")
    output = pipeline.directory / "tmp" / f"{name}.tok.{language}"
    function = Chain(functools.partial(markup.talk_text, dropped=release.dropped), parallel.tokenizer(language))

    def run(parts: list[Path]) -> dict[str, Any]:
        counts = lines.map_files(function, [source], parts, workers, f"tokenizing train.{language}")
        return parallel.as_counts(counts, [language])

    tools = manifest.versions(*parallel.TEXT_TOOLS)
    pipeline.step(f"tokenize train.{language}", [output], run, [original], {"dropped": release.dropped, "tools": tools})


def _clean(pipeline: Pipeline, release: Release, workers: int) -> None:
    """Step: pairs of odd length dropped, then all lowercased."""
    text = pipeline.directory / "tmp"
    inputs = [text / f"train.tags.{release.pair}.tok.{language}" for language in release.languages]
    outputs = [text / f"train.tags.{release.pair}.{language}" for language in release.languages]
    function = Lowered(release.clean)

    def run(parts: list[Path]) -> dict[str, Any]:
        done = lines.map_files(function, inputs, parts, workers, "cleaning train")
        return parallel.as_counts(done, release.languages)

    options = {**asdict(release.clean), "tools": manifest.versions(*parallel.TEXT_TOOLS)}
    pipeline.step("clean and lowercase train", outputs, run, inputs, options)


class Lowered:
    """A pair filter whose survivors are lowercased."""

    def __init__(self, clean: parallel.PairFilter) -> None:
        self.clean = clean

    def __call__(self, source: str, target: str) -> tuple[str, str] | None:
        kept = self.clean(source, target)
        return (moses.lowercase(kept[0]), moses.lowercase(kept[1])) if kept is not None else None


def _tokenize_tests(pipeline: Pipeline, release: Release, workers: int) -> None:
    """Step: the test sets' segments, tokenized, lowercased, one set after the other."""
    text = pipeline.directory / "tmp"
    original = pipeline.directory / "orig"
    tests = _tests(original, release)
    outputs = [text / f"test.{language}" for language in release.languages]
    functions = [Chain(markup.segment_text, parallel.tokenizer(x), moses.lowercase) for x in release.languages]

    def run(parts: list[Path]) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        pieces: list[list[Path]] = [[], []]
        for test in tests:
            name = f"IWSLT{release.year % 100}.{test}.{release.pair}"
            for side, language in enumerate(release.languages):
                piece = text / f"{name}.{language}"
                source = _member(original, release, f"{name}.{language}.xml")
                result = lines.map_files(functions[side], [source], [piece], workers)
                pieces[side].append(piece)
                counts.setdefault(test, {})[language] = {"sentences": result.written, "tokens": result.tokens[0]}
            _aligned(name, counts[test])
        for side, part in enumerate(parts):
            splits.concatenate(pieces[side], part)
        return counts

    options = {"tests": tests, "tools": manifest.versions(*parallel.TEXT_TOOLS)}
    pipeline.step("tokenize test", outputs, run, [original], options)


def _aligned(name: str, counts: dict[str, dict[str, int]]) -> None:
    if len({count["sentences"] for count in counts.values()}) > 1:
        told = ", ".join(f"{language}: {count['sentences']}" for language, count in counts.items())
        raise UserError(f"{name} is misaligned, its sides have different numbers of segments ({told}): fetch it again")


def _tests(original: Path, release: Release) -> list[str]:
    """The test sets of the release that the archive has, in the release's order."""
    if release.all_tests:
        return list(release.tests)
    name = f"IWSLT{release.year % 100}.{{}}.{release.pair}.{release.languages[0]}.xml"
    found = [test for test in release.tests if (original / release.pair / name.format(test)).is_file()]
    if not found:
        example = name.format(release.tests[0])
        raise UserError(f"{release.pair}.tgz has no test set such as {example}: is it the archive of another release?")
    return found


def _member(original: Path, release: Release, name: str) -> Path:
    path = original / release.pair / name
    if not path.is_file():
        raise UserError(f"{release.pair}.tgz has no {release.pair}/{name}: is it the archive of another release?")
    return path


def release_of(source: str, target: str) -> Release:
    """The release with these two languages, in either order; raises UserError if there is none."""
    for release in RELEASES:
        if {source, target} == set(release.languages):
            return release
    pairs = ", ".join(release.pair for release in RELEASES)
    raise UserError(f"{source}-{target} is not among the pairs that can be prepared: {pairs}, in either direction")


def main(argv: Sequence[str], prog: str) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", nargs="?", default="de", help="source language: de, es, fr, zh or en (default: de)")
    parser.add_argument("target", nargs="?", default="en", help="target language (default: en)")
    parallel.add_options(parser, "DATA/iwslt14.de-en, for example", operations=10_000)
    args = parser.parse_intermixed_args(argv)
    release = release_of(args.source, args.target)
    directory = args.output or args.data / f"iwslt{release.year % 100}.{release.pair}"
    whole = prepare(release, directory, args.data / "downloads", args.bpe_operations, args.workers)
    parallel.report(whole, directory)
