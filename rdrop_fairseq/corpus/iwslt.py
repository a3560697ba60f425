"""`prepare iwslt [SRC TGT]`: IWSLT14 German-English and Spanish-English, IWSLT17 French-English and Chinese-English.

By --preset: bert-nmt (all but German) as in iwslt_talks.py, cased, for scores that the paper's can be compared with; or
fairseq, as follows.

Steps, order and files are those of fairseq's examples/translation/prepare-iwslt14.sh, so that text and
BPE come out the same: DIR/{train,valid,test}.LANG (BPE), DIR/code, DIR/tmp (the same text before BPE), DIR/bin.
Chinese and English have a BPE (DIR/code.LANG) and a dictionary each, as in the paper: no --share-all-embeddings.

All text is lowercased. Test is every set of the archive, joined: dev2010 to tst2012, in 2017 to tst2015.

Spanish-English has one address, unanswered since 2020: put a copy of es-en.tgz into DATA/downloads/iwslt14/. The talks'
site (WIT3) gives whole releases now: the file is texts/es/en/es-en.tgz in the archive of release 2014-01.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rdrop_fairseq.corpus import archives, iwslt_talks, manifest, markup, moses, parallel, splits
from rdrop_fairseq.corpus.clean import Cleaner
from rdrop_fairseq.corpus.parallel import Chain
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

WIT3 = "https://wit3.fbk.eu/archive/2014-01/texts/{0}/{1}/{0}-{1}.tgz"
# The talks' own site gives whole releases now, and 404 for a pair; this is its archive, which sacrebleu takes the sets
# of 2017 from.
WIT3_2017 = (
    "https://raw.githubusercontent.com/hlt-mt/WIT3/master/archive/2017-01-trnted/texts/{0}/{1}/{0}-{1}.tgz",
    "https://wit3.fbk.eu/archive/2017-01-trnted/texts/{0}/{1}/{0}-{1}.tgz",
)
PRESETS = ("fairseq", "bert-nmt")
NTH = 23
CLEAN = Cleaner(minimum=1, maximum=175, ratio=1.5)


@dataclass(frozen=True)
class Release:
    """One pair of one year: the archive, the test sets in the order in which they are joined, and published counts.

    clean: Chinese is counted in characters, so that a ratio of 1.5 would drop about half of the pairs; zh-en has the
    default of clean-corpus-n.perl, 9. joined: one BPE and one dictionary for both languages, as in the paper for all
    pairs but Chinese-English.
    """

    year: int
    languages: tuple[str, str]
    urls: tuple[str, ...]
    tests: tuple[str, ...]
    all_tests: bool
    clean: Cleaner = CLEAN
    joined: bool = True
    dropped: tuple[str, ...] = markup.IWSLT17_DROPPED
    known: tuple[tuple[str, int], ...] = ()

    @property
    def pair(self) -> str:
        """As in the names of the files: de-en."""
        return "-".join(self.languages)

    @property
    def folder(self) -> str:
        """Of the prepared corpus, below the folder of all data: iwslt14.de-en."""
        return f"iwslt{self.year % 100}.{self.pair}"

    @property
    def archive(self) -> str:
        """Where the archive is kept, below the folder of all data: downloads/iwslt14/de-en.tgz."""
        return f"downloads/iwslt{self.year % 100}/{self.pair}.tgz"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of the archive."""
        return tuple(url.format(*self.languages) for url in self.urls)


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
    Release(2017, ("zh", "en"), WIT3_2017, YEARS_2017, all_tests=False, clean=Cleaner(1, 175, 9), joined=False),
)


def prepare(release: Release, directory: Path, data: Path, operations: int, workers: int) -> dict[str, Any]:
    """Runs all steps from the archive to `directory`/bin; returns the manifest."""
    options: dict[str, Any] = {
        "languages": list(release.languages),
        "bpe_operations": operations,
        "joined": release.joined,
        "dropped_lines_with": list(release.dropped),
        "clean": asdict(release.clean),
        "valid": f"one line in {NTH}",
        "lowercase": True,
        "tokenizer": {x: "one token per character" if x == "zh" else f"Moses, -l {x}" for x in release.languages},
    }
    pipeline = Pipeline(directory, f"IWSLT{release.year % 100} {release.pair}", options)
    destination = data / release.archive
    if release.urls == (WIT3,) and not destination.exists():
        note = f"note: the one address of {destination.name} has not answered since 2020; a copy put at {destination}"
        inside = f"texts/{'/'.join(release.languages)}/{destination.name} in the archive of release 2014-01"
        print(f"{note} is taken instead: {inside}, which the talks' site (WIT3) gives as a whole", file=sys.stderr)
    archive = pipeline.download(release.addresses, destination)
    original = directory / "orig"
    pipeline.step("unpack", [original], lambda parts: archives.unpack(archive, parts[0]), [archive])
    text = directory / "tmp"
    for language in release.languages:
        _tokenize_talks(pipeline, release, language, workers)
    _clean(pipeline, release, workers)
    _tokenize_tests(pipeline, release)
    corpus = {language: [text / f"train.tags.{release.pair}.{language}"] for language in release.languages}
    parallel.split_every(pipeline, corpus, NTH, text)
    codes = parallel.learn_codes(pipeline, text, release.languages, operations, workers, release.joined)
    counts = {
        split: parallel.segment(pipeline, split, text, codes, release.languages, workers)["sentences"]
        for split in parallel.SPLITS
    }
    parallel.binarized(pipeline, release.languages, workers, joined=release.joined)
    return pipeline.finish(counts, {split: manifest.Known(count) for split, count in release.known})


def _tokenize_talks(pipeline: Pipeline, release: Release, language: str, workers: int) -> None:
    """Step: train.tags.*.LANG without its tags, tokenized."""
    name = f"train.tags.{release.pair}"
    original = pipeline.directory / "orig"
    source = _member(original, release, f"{name}.{language}")
    output = pipeline.directory / "tmp" / f"{name}.tok.{language}"
    function = Chain(functools.partial(markup.talk_text, dropped=release.dropped), parallel.tokenizer(language))
    options = {"dropped": release.dropped, "tools": manifest.versions(*parallel.TEXT_TOOLS)}
    title = f"tokenize train.{language}"
    parallel.mapped(pipeline, title, function, [source], [output], [language], workers, options, [original])


def _clean(pipeline: Pipeline, release: Release, workers: int) -> None:
    """Step: pairs of odd length dropped, then all lowercased."""
    text = pipeline.directory / "tmp"
    inputs = [text / f"train.tags.{release.pair}.tok.{language}" for language in release.languages]
    outputs = [text / f"train.tags.{release.pair}.{language}" for language in release.languages]
    options = {**asdict(release.clean), "tools": manifest.versions(*parallel.TEXT_TOOLS)}
    title = "clean and lowercase train"
    parallel.mapped(pipeline, title, Lowered(release.clean), inputs, outputs, release.languages, workers, options)


class Lowered:
    """A pair filter whose survivors are lowercased."""

    def __init__(self, clean: parallel.PairFilter) -> None:
        self.clean = clean

    def __call__(self, source: str, target: str) -> tuple[str, str] | None:
        kept = self.clean(source, target)
        return (moses.lowercase(kept[0]), moses.lowercase(kept[1])) if kept is not None else None


def _tokenize_tests(pipeline: Pipeline, release: Release) -> None:
    """Step: the test sets' segments, tokenized, lowercased, one set after the other."""
    text = pipeline.directory / "tmp"
    original = pipeline.directory / "orig"
    tests = _tests(original, release)
    outputs = [text / f"test.{language}" for language in release.languages]
    functions = [Chain(markup.segment_text, parallel.tokenizer(x), moses.lowercase) for x in release.languages]

    def run(parts: list[Path]) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        pieces: list[list[Path]] = []
        for test in tests:
            name = f"IWSLT{release.year % 100}.{test}.{release.pair}"
            sources = [_member(original, release, f"{name}.{language}.xml") for language in release.languages]
            pieces.append([text / f"{name}.{language}" for language in release.languages])
            counts[test] = parallel.segments(functions, sources, pieces[-1], release.languages)
        for part, of_side in zip(parts, zip(*pieces)):
            splits.concatenate(of_side, part)
        return counts

    options = {"tests": tests, "tools": manifest.versions(*parallel.TEXT_TOOLS)}
    pipeline.step("tokenize test", outputs, run, [original], options)


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
    parser.add_argument("--preset", choices=PRESETS, help="default: fairseq for German, bert-nmt for the others")
    parallel.add_options(parser, "DATA/iwslt14.de-en, for example", operations=10_000)
    args = parser.parse_intermixed_args(argv)
    release = release_of(args.source, args.target)
    talks = iwslt_talks.TALKS.get(release.languages[0])
    usual = PRESETS[talks is not None]
    preset = args.preset or usual
    directory = args.output or args.data / (release.folder + (f".{preset}" if preset != usual else ""))
    if preset == "fairseq":
        whole = prepare(release, directory, args.data, args.bpe_operations, args.workers)
    elif talks is not None:
        whole = iwslt_talks.prepare(talks, directory, args.data, args.bpe_operations, args.workers)
    else:
        raise UserError(f"the preset {preset} has no {release.pair}: leave --preset out")
    parallel.report(whole, directory)
