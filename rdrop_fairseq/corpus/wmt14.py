"""`prepare wmt14 TARGET`: WMT14 English-German (de) or English-French (fr), as fairseq's prepare-wmt14en2{de,fr}.sh do.

DIR/{train,valid,test}.LANG (BPE, train and valid cleaned by length after it), DIR/code, DIR/tmp (before BPE), DIR/bin.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rdrop_fairseq.corpus import archives, lines, manifest, markup, moses, parallel, splits
from rdrop_fairseq.corpus.clean import Cleaner
from rdrop_fairseq.corpus.parallel import Both, Chain
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

STATMT = ("https://www.statmt.org/", "http://statmt.org/")
DATA_STATMT = ("https://data.statmt.org/", "http://data.statmt.org/")
CLEAN = Cleaner(minimum=1, maximum=250, ratio=1.5)


@dataclass(frozen=True)
class Source:
    """An archive and what is taken from it: `stem`.LANG, or `stem`.LANG.gz inside a .tar."""

    hosts: tuple[str, ...]
    path: str
    stem: str
    packed: bool = False

    @property
    def name(self) -> str:
        """The archive's file name."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def corpus(self) -> str:
        """europarl-v7.de-en, for example."""
        return self.stem.rsplit("/", 1)[-1]

    def members(self, languages: Sequence[str]) -> list[str]:
        """Names inside the archive."""
        return [f"{self.stem}.{language}{'.gz' if self.packed else ''}" for language in languages]


@dataclass(frozen=True)
class Recipe:
    """What is trained on, which lines become valid, and what is known of the result."""

    target: str
    corpora: tuple[Source, ...]
    test: str
    nth: int
    known: tuple[tuple[str, manifest.Known], ...]


EUROPARL = Source(STATMT, "wmt13/training-parallel-europarl-v7.tgz", "training/europarl-v7.{0}-en")
COMMONCRAWL = Source(STATMT, "wmt13/training-parallel-commoncrawl.tgz", "commoncrawl.{0}-en")
NEWS_V9 = Source(STATMT, "wmt14/training-parallel-nc-v9.tgz", "training/news-commentary-v9.{0}-en")
NEWS_V12 = Source(
    DATA_STATMT, "wmt17/translation-task/training-parallel-nc-v12.tgz", "training/news-commentary-v12.{0}-en"
)
UN = Source(STATMT, "wmt13/training-parallel-un.tgz", "un/undoc.2000.{0}-en")
GIGA = Source(STATMT, "wmt10/training-giga-fren.tar", "giga-fren.release2.fixed", packed=True)
DEV = Source(DATA_STATMT, "wmt17/translation-task/dev.tgz", "dev/newstest2013")
TEST = Source(STATMT, "wmt14/test-full.tgz", "test-full/newstest2014")
SENTENCES = manifest.Known(3_003)
RECIPES = {
    "de": Recipe(
        "de",
        (EUROPARL, COMMONCRAWL, NEWS_V9),
        "deen",
        100,
        (("train", manifest.Known(4_000_000, rounded_to=100_000)), ("test", SENTENCES)),
    ),
    "fr": Recipe(
        "fr",
        (EUROPARL, COMMONCRAWL, UN, NEWS_V9, GIGA),
        "fren",
        1333,
        (
            ("train", manifest.Known(35_800_000, rounded_to=100_000)),
            ("valid", manifest.Known(26_854)),
            ("test", SENTENCES),
        ),
    ),
}


@dataclass(frozen=True)
class Choices:
    """The options that change what comes out."""

    valid: str
    news_commentary: str
    bpe_operations: int


class Wmt14:
    """One preparation: its steps share the pipeline, the languages and the folders."""

    def __init__(self, recipe: Recipe, choices: Choices, directory: Path, downloads: Path, workers: int) -> None:
        self.recipe = recipe
        self.choices = choices
        self.languages = ("en", recipe.target)
        self.workers = workers
        self.downloads = downloads / "wmt14"
        self.original = directory / "orig"
        self.text = directory / "tmp"
        self.newstest = choices.valid == "newstest2013"
        corpora = [replace(source, stem=source.stem.format(recipe.target)) for source in recipe.corpora]
        if choices.news_commentary == "v12":
            corpora[corpora.index(replace(NEWS_V9, stem=NEWS_V9.stem.format(recipe.target)))] = replace(
                NEWS_V12, stem=NEWS_V12.stem.format(recipe.target)
            )
        self.corpora = corpora
        archives_needed = len(corpora) + 1 + self.newstest
        # Two steps per archive, one per corpus, test, newstest2013; then split or join, learn, apply (3), binarize.
        total = 2 * archives_needed + len(corpora) + 1 + self.newstest + 6
        name = f"WMT14 en-{recipe.target}"
        rules = {"clean_after_bpe": asdict(CLEAN), "languages": list(self.languages), "tokenizer": "Moses, -a"}
        self.pipeline = Pipeline(directory, name, {**vars(choices), **rules}, total)

    def run(self) -> dict[str, Any]:
        """Everything from the archives to bin; returns the manifest."""
        for source in self.corpora:
            self._unpack(source, source.members(self.languages))
        for source in self.corpora:
            self._tokenize(source)
        self._tokenize_test()
        tokenized = {x: [self._tokenized(source, x) for source in self.corpora] for x in self.languages}
        if self.newstest:
            self._tokenize_newstest()
            self._join(tokenized)
        else:
            parallel.split_every(self.pipeline, tokenized, self.recipe.nth, self.text)
        operations = self.choices.bpe_operations
        codes = parallel.learn_codes(self.pipeline, self.text, self.languages, operations, self.workers)
        counts = {split: self._segment(split, codes) for split in parallel.SPLITS}
        parallel.binarized(self.pipeline, self.languages, self.workers)
        return self.pipeline.finish(counts, self._known())

    def _known(self) -> dict[str, manifest.Known]:
        known = dict(self.recipe.known)
        if self.choices.news_commentary == "v12":
            del known["train"]  # published for v9 only
        if self.newstest:
            known["valid"] = manifest.Known(3_000)
        return known

    def _unpack(self, source: Source, members: Sequence[str]) -> Path:
        urls = [host + source.path for host in source.hosts]
        archive = self.pipeline.download(urls, self.downloads / source.name)
        folder = self._folder(source)

        def run(parts: list[Path]) -> None:
            archives.unpack(archive, parts[0], members)
            for member in members if source.packed else ():
                packed = parts[0] / member
                archives.unpack(packed, packed.parent)
                packed.unlink()

        self.pipeline.step(f"unpack {source.name}", [folder], run, [archive], {"members": list(members)})
        return folder

    def _folder(self, source: Source) -> Path:
        return self.original / source.name.split(".")[0]

    def _tokenized(self, source: Source, language: str) -> Path:
        return self.text / f"{source.corpus}.tok.{language}"

    def _normalized(self, language: str) -> Chain:
        normalize = moses.Normalizer(language)
        return Chain(normalize, moses.remove_nonprinting, parallel.tokenizer(language, aggressive=True))

    def _map_pairs(
        self, title: str, folder: Path, inputs: Sequence[Path], outputs: Sequence[Path], functions: Sequence[Chain]
    ) -> None:
        """Step: a function for each side of two parallel files from an unpacked folder."""

        def run(parts: list[Path]) -> dict[str, Any]:
            counts = lines.map_files(Both(functions[0], functions[1]), inputs, parts, self.workers, title)
            return parallel.told(counts, self.languages)

        options = {"tools": manifest.versions(*parallel.TEXT_TOOLS)}
        self.pipeline.step(title, outputs, run, [folder], options)

    def _tokenize(self, source: Source) -> None:
        folder = self._folder(source)
        self._map_pairs(
            f"tokenize {source.corpus}",
            folder,
            [folder / f"{source.stem}.{language}" for language in self.languages],
            [self._tokenized(source, language) for language in self.languages],
            [self._normalized(language) for language in self.languages],
        )

    def _tokenize_test(self) -> None:
        sides = ("src", "ref")
        members = [f"{TEST.stem}-{self.recipe.test}-{side}.{x}.sgm" for side, x in zip(sides, self.languages)]
        folder = self._unpack(TEST, members)
        inputs = [folder / member for member in members]
        functions = [Chain(markup.segment_text, parallel.tokenizer(x, aggressive=True)) for x in self.languages]
        outputs = [self.text / f"test.{language}" for language in self.languages]
        self._map_sgm("tokenize test", folder, inputs, outputs, functions)

    def _tokenize_newstest(self) -> None:
        """newstest2013 as training text is done: normalized, tokenized with -a."""
        members = DEV.members(self.languages)
        folder = self._unpack(DEV, members)
        self._map_pairs(
            "tokenize newstest2013",
            folder,
            [folder / member for member in members],
            [self.text / f"valid.{language}" for language in self.languages],
            [self._normalized(language) for language in self.languages],
        )

    def _map_sgm(
        self, title: str, folder: Path, inputs: Sequence[Path], outputs: Sequence[Path], functions: Sequence[Chain]
    ) -> None:
        """Step: as _map_pairs, for files whose lines without a segment are on one side only."""

        def run(parts: list[Path]) -> dict[str, Any]:
            results = [lines.map_files(f, [i], [part], self.workers) for f, i, part in zip(functions, inputs, parts)]
            if results[0].written != results[1].written:
                told = ", ".join(f"{path.name}: {result.written}" for path, result in zip(inputs, results))
                raise UserError(f"the test set's sides have different numbers of segments ({told}): fetch it again")
            tokens = {language: result.tokens[0] for language, result in zip(self.languages, results)}
            return {"sentences": results[0].written, "tokens": tokens}

        self.pipeline.step(title, outputs, run, [folder], {"tools": manifest.versions(*parallel.TEXT_TOOLS)})

    def _join(self, tokenized: dict[str, list[Path]]) -> None:
        outputs = [self.text / f"train.{language}" for language in self.languages]

        def run(parts: list[Path]) -> dict[str, Any]:
            return {x: splits.concatenate(tokenized[x], part) for x, part in zip(self.languages, parts)}

        self.pipeline.step("join the corpora", outputs, run, [path for x in self.languages for path in tokenized[x]])

    def _segment(self, split: str, codes: Path) -> int:
        # A test set keeps all its lines, and newstest2013 is one.
        clean = split == "train" or (split == "valid" and not self.newstest)
        counts = parallel.segment(
            self.pipeline, split, self.text, codes, self.languages, self.workers, CLEAN if clean else None
        )
        return counts["sentences"]


def main(argv: Sequence[str], prog: str) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", choices=sorted(RECIPES), help="de: English-German, fr: English-French")
    parser.add_argument(
        "--valid",
        choices=("split", "newstest2013"),
        default="split",
        help="split: every 100th (fr: 1333rd) line of the training text; newstest2013: only for de",
    )
    versions = "v9: that of WMT14; v12: that of WMT17, only for de"
    parser.add_argument("--news-commentary", choices=("v9", "v12"), default="v9", help=versions)
    parallel.add_options(parser, "DATA/wmt14.en-TARGET", operations=40_000)
    args = parser.parse_args(argv)
    if args.target == "fr" and (args.valid, args.news_commentary) != ("split", "v9"):
        raise UserError("--valid newstest2013 and --news-commentary v12 are for English-German only: leave them out")
    directory = args.output or args.data / f"wmt14.en-{args.target}"
    choices = Choices(args.valid, args.news_commentary, args.bpe_operations)
    whole = Wmt14(RECIPES[args.target], choices, directory, args.data / "downloads", args.workers).run()
    parallel.report(whole, directory)
