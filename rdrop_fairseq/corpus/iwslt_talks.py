"""Preset bert-nmt of `prepare iwslt`: French and Chinese of IWSLT17, Spanish of IWSLT14, as in Zhu et al. 2020.

Steps, order and files are those of the script that the code of that paper (bert-nmt) names, teslacool/preprocess_iwslt.
R-Drop's paper names no preparation of these pairs; it shares authors with Zhu et al., and Chinese and English have a
vocabulary each, as in that script. Capitals stay, no pair of train is dropped, punctuation is normalized, nothing is
escaped, jieba cuts Chinese into words. valid is tst2013 to tst2015 (Spanish: tst2010 to tst2012), test is tst2017
(Spanish: tst2014), whose sides come from the archives of the two directions: what `sacrebleu -t iwslt17` scores. Other
than there, BPE is subword-nmt's and not fastBPE's.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rdrop_fairseq.corpus import archives, chinese, manifest, markup, moses, parallel, splits
from rdrop_fairseq.corpus.parallel import Chain, LineFilter
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

WIT3 = "https://wit3.fbk.eu/"
# WIT3's archive, which sacrebleu takes the sets of 2017 from; it lacks 2014.
HOSTS_2017 = ("https://raw.githubusercontent.com/hlt-mt/WIT3/master/", WIT3)


class Archive(NamedTuple):
    """One direction of one release: where it is on the hosts."""

    hosts: tuple[str, ...]
    release: str
    source: str
    target: str

    @property
    def pair(self) -> str:
        """en-fr: the folder inside."""
        return f"{self.source}-{self.target}"

    @property
    def path(self) -> str:
        """On each host."""
        return f"archive/{self.release}/texts/{self.source}/{self.target}/{self.pair}.tgz"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of the same file."""
        return tuple(host + self.path for host in self.hosts)

    @property
    def kept(self) -> str:
        """Where it is kept, below the folder of all data: two releases have files of one name."""
        return f"downloads/iwslt/{self.release}.{self.pair}.tgz"


@dataclass(frozen=True)
class Talks:
    """English and one other language. valid: the sets that are joined; test: one set."""

    year: int
    language: str
    valid: tuple[str, ...]
    test: str
    hosts: tuple[str, ...] = HOSTS_2017
    releases: tuple[str, str] = ("2017-01-trnted", "2017-01-ted-test")
    joined: bool = True

    @property
    def languages(self) -> tuple[str, str]:
        """English first, as in the names of the files of train."""
        return "en", self.language

    @property
    def prefix(self) -> str:
        """Of the names of test sets."""
        return f"IWSLT{self.year % 100}.TED"

    @property
    def train(self) -> Archive:
        """With the sets of valid."""
        return Archive(self.hosts, self.releases[0], *self.languages)

    @property
    def tests(self) -> tuple[Archive, Archive]:
        """One per language, in the order of `languages`: each direction's archive has its source side alone."""
        release = self.releases[1]
        return Archive(self.hosts, release, "en", self.language), Archive(self.hosts, release, self.language, "en")

    @property
    def archives(self) -> tuple[Archive, ...]:
        """All that are fetched."""
        return self.train, *self.tests

    def train_member(self, language: str) -> str:
        """Name inside the archive of train."""
        return f"{self.train.pair}/train.tags.{self.train.pair}.{language}"

    def valid_members(self, language: str) -> list[str]:
        """Names inside the archive of train."""
        pair = self.train.pair
        return [f"{pair}/{self.prefix}.{name}.{pair}.{language}.xml" for name in self.valid]

    def test_member(self, place: int) -> str:
        """Name inside tests[place]."""
        pair, language = self.tests[place].pair, self.languages[place]
        return f"{pair}/{self.prefix}.{self.test}.{pair}.{language}.xml"


SETS_2017 = ("tst2013", "tst2014", "tst2015")
TALKS = {
    "fr": Talks(2017, "fr", SETS_2017, "tst2017"),
    "zh": Talks(2017, "zh", SETS_2017, "tst2017", joined=False),
    "es": Talks(
        2014, "es", ("tst2010", "tst2011", "tst2012"), "tst2014", (WIT3,), ("2014-01", "2014-01-test")
    ),
}  # fmt: skip


def prepare(talks: Talks, directory: Path, data: Path, operations: int, workers: int) -> dict[str, Any]:
    """Runs all steps from the archives to `directory`/bin, which serves both directions; returns the manifest."""
    talk = functools.partial(markup.talk_text, dropped=markup.IWSLT17_DROPPED)
    words = [text_filter(language, talk) for language in talks.languages]  # before the download: jieba may be missing
    options = {
        "preset": "bert-nmt",
        "languages": list(talks.languages),
        "bpe_operations": operations,
        "joined": talks.joined,
        "dropped_lines_with": list(markup.IWSLT17_DROPPED),
        "valid": list(talks.valid),
        "test": talks.test,
        "lowercase": False,
        "tokenizer": {x: "jieba" if x == "zh" else f"Moses, -l {x} -no-escape" for x in talks.languages},
    }
    pipeline = Pipeline(directory, f"IWSLT{talks.year % 100} {talks.language}-en", options)
    train, *tests = [_unpacked(pipeline, archive, data, talks) for archive in talks.archives]
    text = directory / "tmp"
    tools = {"tools": manifest.versions(*parallel.TEXT_TOOLS, "jieba")}
    for language, function in zip(talks.languages, words):
        source, output = _member(train, talks.train_member(language)), text / f"train.{language}"
        title = f"tokenize train.{language}"
        parallel.mapped(pipeline, title, function, [source], [output], [language], workers, tools, [train])
    valid = [[_member(train, name) for name in talks.valid_members(language)] for language in talks.languages]
    test = [[_member(folder, talks.test_member(place))] for place, folder in enumerate(tests)]
    functions = [text_filter(language, segment_filter(language)) for language in talks.languages]
    _sets(pipeline, "tokenize valid", functions, valid, [text / f"valid.{x}" for x in talks.languages], [train], tools)
    _sets(pipeline, "tokenize test", functions, test, [text / f"test.{x}" for x in talks.languages], tests, tools)
    plain = [directory / f"test.plain.{x}" for x in talks.languages]
    _sets(pipeline, "keep the published test", [markup.segment] * 2, test, plain, tests, {})
    codes = parallel.learn_codes(pipeline, text, talks.languages, operations, workers, talks.joined)
    counts = {
        split: parallel.segment(pipeline, split, text, codes, talks.languages, workers)["sentences"]
        for split in parallel.SPLITS
    }
    parallel.binarized(pipeline, talks.languages, workers, joined=talks.joined)
    return pipeline.finish(counts, {})


def text_filter(language: str, first: LineFilter) -> LineFilter:
    """line -> tokens: after `first`, what Moses' scripts make of it in the recipe's order, or jieba."""
    if language == "zh":
        return Chain(first, moses.remove_nonprinting, chinese.Words())
    normalized = Chain(moses.replace_unicode_punctuation, moses.Normalizer(language), moses.remove_nonprinting)
    return Chain(first, normalized, moses.Tokenizer(language, escape=False))


def segment_filter(language: str) -> LineFilter:
    """A line of a test set -> its text; ’ stays in Chinese."""
    return markup.segment if language == "zh" else markup.segment_text


def _unpacked(pipeline: Pipeline, archive: Archive, data: Path, talks: Talks) -> Path:
    """Steps: the archive fetched and unpacked; returns the folder."""
    kept = data / archive.kept
    if talks.hosts == (WIT3,) and not kept.exists():
        inside = archive.path.partition("/texts/")[2]
        note = f"note: no address of {kept.name} has answered since 2020; put a copy at {kept}: texts/{inside}"
        print(f"{note} in release {archive.release}, which the talks' site (WIT3) gives as a whole", file=sys.stderr)
    pipeline.download(archive.addresses, kept)
    folder = pipeline.directory / "orig" / kept.stem
    pipeline.step(f"unpack {folder.name}", [folder], lambda parts: archives.unpack(kept, parts[0]), [kept])
    return folder


def _member(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{folder.name} has no {name}: is it the archive of another release?")
    return path


def _sets(
    pipeline: Pipeline,
    title: str,
    functions: Sequence[LineFilter],
    files: Sequence[Sequence[Path]],
    outputs: Sequence[Path],
    made_from: Sequence[Path],
    options: dict[str, Any],
) -> None:
    """Step: the segments of the sets in `files` (of each language), one set after the other."""
    languages = [output.suffix[1:] for output in outputs]

    def run(parts: list[Path]) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        pieces: list[list[Path]] = []
        for number, sources in enumerate(zip(*files)):
            pieces.append([part.with_name(f"{part.name}.{number}") for part in parts])
            counts[sources[0].name] = parallel.segments(functions, sources, pieces[-1], languages)
        for part, of_side in zip(parts, zip(*pieces)):
            splits.concatenate(of_side, part)
            for piece in of_side:
                piece.unlink()
        return counts

    sets = [path.name for path in files[0]]
    pipeline.step(title, outputs, run, made_from, {**options, "sets": sets})
