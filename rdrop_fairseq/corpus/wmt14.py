"""`prepare wmt14 TARGET`: WMT14 English-German (de) or English-French (fr), by a preset that has a name:

  scaling-nmt  de: the data of "Scaling NMT" as fairseq #203 made it, which the R-Drop authors start from: news
               commentary v12, newstest2013 as valid, pairs of 1 to 80 words before BPE, dictionary of 32,768 entries
  icml17       de, fr: the data of "ConvS2S", by fairseq's prepare-wmt14en2{de,fr}.sh: news commentary v9, every 100th
               (fr: 1333rd) line as valid, pairs of 1 to 250 pieces with a ratio up to 1.5 after BPE

DIR/{train,valid,test}.LANG (BPE), DIR/code, DIR/tmp (before BPE), DIR/bin. --from-bpe takes the text of scaling-nmt as
Google published it, tokenized and segmented, and only binarizes it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rdrop_fairseq.corpus import archives, manifest, markup, moses, parallel, splits
from rdrop_fairseq.corpus.clean import Cleaner
from rdrop_fairseq.corpus.parallel import Both, Chain
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

STATMT = ("https://www.statmt.org/", "http://statmt.org/")
DATA_STATMT = ("https://data.statmt.org/", "http://data.statmt.org/")
AFTER_BPE = Cleaner(minimum=1, maximum=250, ratio=1.5)
BEFORE_BPE = Cleaner(minimum=1, maximum=80)
# Google's archive wmt16_en_de.tar.gz, by the names that the files have here.
GOOGLE = {
    "train": "train.tok.clean.bpe.32000",
    "valid": "newstest2013.tok.bpe.32000",
    "test": "newstest2014.tok.bpe.32000",
}


@dataclass(frozen=True)
class Source:
    """An archive and the members that are used: `stem`.LANG, or if packed `stem`.LANG.gz."""

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
    """The training corpora, the choice of valid, the cleaning of pairs, and published counts of the result.

    nth: every nth line goes to valid; None: valid is newstest2013. before, after: the rule for pairs before and after
    BPE. words: the size of the dictionary, None for all words. known: published counts; known_of_news: counts that are
    true of one version of news commentary only, by version.
    """

    target: str
    corpora: tuple[Source, ...]
    news: str
    test: str
    nth: int | None
    operations: int
    before: Cleaner | None = None
    after: Cleaner | None = None
    words: int | None = None
    known: Mapping[str, manifest.Known] = field(default_factory=dict)
    known_of_news: Mapping[str, Mapping[str, manifest.Known]] = field(default_factory=dict)


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
NEWS = {"v9": NEWS_V9, "v12": NEWS_V12}
SENTENCES = manifest.Known(3_003)
# Pairs in the three corpora of English-German, before anything is dropped (fairseq #132).
PAIRS_IN = {"v9": manifest.Known(4_544_200 - 68_786), "v12": manifest.Known(4_544_200)}
SCALING = Recipe(
    "de",
    (EUROPARL, COMMONCRAWL, NEWS_V12),
    news="v12",
    test="deen",
    nth=None,
    operations=32_764,  # fairseq #203
    before=BEFORE_BPE,
    words=32_768,
    known={
        "train": manifest.Known(4_500_000, rounded_to=100_000),
        "valid": manifest.Known(3_000),
        "test": SENTENCES,
    },
    known_of_news={version: {"input": count} for version, count in PAIRS_IN.items()},
)
GERMAN = Recipe(
    "de",
    (EUROPARL, COMMONCRAWL, NEWS_V9),
    news="v9",
    test="deen",
    nth=100,
    operations=40_000,
    after=AFTER_BPE,
    known={"test": SENTENCES},
    known_of_news={
        "v9": {"input": PAIRS_IN["v9"], "train": manifest.Known(3_900_000, rounded_to=100_000)},
        "v12": {"input": PAIRS_IN["v12"], "train": manifest.Known(3_960_793)},
    },
)
FRENCH = Recipe(
    "fr",
    (EUROPARL, COMMONCRAWL, UN, NEWS_V9, GIGA),
    news="v9",
    test="fren",
    nth=1333,
    operations=40_000,
    after=AFTER_BPE,
    known={
        "train": manifest.Known(35_800_000, rounded_to=100_000),
        "valid": manifest.Known(26_854),
        "test": SENTENCES,
    },
)
# By target and preset; the first preset of a target is its default.
RECIPES = {"de": {"scaling-nmt": SCALING, "icml17": GERMAN}, "fr": {"icml17": FRENCH}}


class Wmt14:
    """One preparation, whose steps share the pipeline, the languages and the folders."""

    def __init__(self, preset: str, recipe: Recipe, directory: Path, downloads: Path, workers: int) -> None:
        self.recipe = recipe
        self.languages = ("en", recipe.target)
        self.workers = workers
        self.downloads = downloads / "wmt14"
        self.original = directory / "orig"
        self.text = directory / "tmp"
        self.corpora = [replace(source, stem=source.stem.format(recipe.target)) for source in recipe.corpora]
        rules = {
            "preset": preset,
            "news_commentary": recipe.news,
            "valid": "newstest2013" if recipe.nth is None else f"one line in {recipe.nth}",
            "bpe_operations": recipe.operations,
            "clean_before_bpe": asdict(recipe.before) if recipe.before else None,
            "clean_after_bpe": asdict(recipe.after) if recipe.after else None,
            "dictionary_size": recipe.words,
            "languages": list(self.languages),
            "tokenizer": "Moses, -a",
        }
        self.pipeline = Pipeline(directory, f"WMT14 en-{recipe.target} ({preset})", rules)

    def run(self) -> dict[str, Any]:
        """Runs all steps from the archives to bin; returns the manifest."""
        for source in self.corpora:
            self._unpack(source, source.members(self.languages))
        tokenized = {
            x: [self.text / f"{source.corpus}.tok.{x}" for source in self.corpora] for x in self.languages
        }
        pairs = zip(*tokenized.values())
        counts = {"input": sum(self._tokenize(source, paths) for source, paths in zip(self.corpora, pairs))}
        self._tokenize_test()
        if self.recipe.nth is None:
            self._unpack(DEV, DEV.members(self.languages))
            self._tokenize(DEV, [self.text / f"valid.{x}" for x in self.languages])
            self._join(tokenized)
        else:
            parallel.split_every(self.pipeline, tokenized, self.recipe.nth, self.text)
        codes = parallel.learn_codes(self.pipeline, self.text, self.languages, self.recipe.operations, self.workers)
        counts.update({split: self._segment(split, codes) for split in parallel.SPLITS})
        parallel.binarized(self.pipeline, self.languages, self.workers, self.recipe.words)
        known = {**self.recipe.known, **self.recipe.known_of_news.get(self.recipe.news, {})}
        return self.pipeline.finish(counts, known)

    def run_from_bpe(self, folder: Path) -> dict[str, Any]:
        """Binarizes text that is already tokenized and segmented; returns the manifest."""
        found = {
            split: [folder / f"{name}.{language}" for language in self.languages] for split, name in GOOGLE.items()
        }
        lacking = next((path for paths in found.values() for path in paths if not path.is_file()), None)
        if lacking:
            raise UserError(f"{lacking} is missing: --from-bpe takes the unpacked archive wmt16_en_de.tar.gz")
        counts = {}
        for split, inputs in found.items():
            outputs = [self.pipeline.directory / f"{split}.{language}" for language in self.languages]
            counts[split] = self._map(f"copy {split}", Both(str, str), inputs, outputs)["sentences"]
        parallel.binarized(self.pipeline, self.languages, self.workers, self.recipe.words)
        return self.pipeline.finish(counts, self.recipe.known)

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

    def _map(
        self, title: str, function: parallel.PairFilter, inputs: Sequence[Path], outputs: Sequence[Path], **more: Any
    ) -> dict[str, Any]:
        return parallel.mapped(self.pipeline, title, function, inputs, outputs, self.languages, self.workers, **more)

    def _tokenize(self, source: Source, outputs: Sequence[Path]) -> int:
        """Step: training text (newstest2013 is treated alike) normalized and tokenized; returns how many pairs."""
        folder = self._folder(source)
        inputs = [folder / f"{source.stem}.{language}" for language in self.languages]
        english, other = (
            Chain(moses.Normalizer(x), moses.remove_nonprinting, parallel.tokenizer(x, aggressive=True))
            for x in self.languages
        )
        title, options = f"tokenize {source.corpus}", {"tools": manifest.versions(*parallel.TEXT_TOOLS)}
        both = Both(english, other)
        return self._map(title, both, inputs, outputs, options=options, made_from=[folder])["sentences"]

    def _tokenize_test(self) -> None:
        sides = ("src", "ref")
        members = [f"{TEST.stem}-{self.recipe.test}-{side}.{x}.sgm" for side, x in zip(sides, self.languages)]
        folder = self._unpack(TEST, members)
        inputs = [folder / member for member in members]
        functions = [Chain(markup.segment_text, parallel.tokenizer(x, aggressive=True)) for x in self.languages]
        outputs = [self.text / f"test.{language}" for language in self.languages]

        def run(parts: list[Path]) -> dict[str, Any]:
            return parallel.segments(functions, inputs, parts, self.languages)

        self.pipeline.step("tokenize test", outputs, run, [folder], {"tools": manifest.versions(*parallel.TEXT_TOOLS)})

    def _join(self, tokenized: dict[str, list[Path]]) -> None:
        """Steps: all corpora joined, then cleaned by the rule before BPE, which gives train."""
        joined = [self.text / f"joined.{language}" for language in self.languages]

        def join(parts: list[Path]) -> dict[str, Any]:
            return {x: splits.concatenate(tokenized[x], part) for x, part in zip(self.languages, parts)}

        self.pipeline.step("join the corpora", joined, join, [path for x in self.languages for path in tokenized[x]])
        rule = self.recipe.before or Cleaner()
        outputs = [self.text / f"train.{language}" for language in self.languages]
        self._map("clean train", rule, joined, outputs, options=asdict(rule))

    def _segment(self, split: str, codes: tuple[Path, Path]) -> int:
        # A test set keeps all its lines; newstest2013 is one.
        clean = split == "train" or (split == "valid" and self.recipe.nth is not None)
        rule = self.recipe.after if clean else None
        counts = parallel.segment(self.pipeline, split, self.text, codes, self.languages, self.workers, rule)
        return counts["sentences"]


def recipe_of(target: str, preset: str | None, news: str | None, operations: int | None) -> tuple[str, Recipe]:
    """The preset's name, and its recipe changed by the options; raises UserError for one that is for German only."""
    presets = RECIPES[target]
    name = preset or next(iter(presets))
    if name not in presets:
        raise UserError(f"--preset {name} is for English-German only: leave it out ({', '.join(presets)} is taken)")
    recipe = presets[name]
    if news not in (None, recipe.news):
        if target == "fr":
            raise UserError(f"--news-commentary {news} is for English-German only: leave it out")
        corpora = tuple(NEWS[news] if source in NEWS.values() else source for source in recipe.corpora)
        recipe = replace(recipe, corpora=corpora, news=news)
    return name, replace(recipe, operations=operations or recipe.operations)


def main(argv: Sequence[str], prog: str) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", choices=sorted(RECIPES), help="de: English-German, fr: English-French")
    presets = sorted({preset for recipes in RECIPES.values() for preset in recipes})
    parser.add_argument("--preset", choices=presets, help="default: scaling-nmt for de, icml17 for fr")
    versions = "v9: that of WMT14; v12: that of WMT17, only for de (default: the preset's)"
    parser.add_argument("--news-commentary", choices=sorted(NEWS), help=versions)
    parser.add_argument(
        "--from-bpe",
        type=Path,
        metavar="DIR",
        help=f"import {GOOGLE['train']}.{{en,de}} and the rest of Google's wmt16_en_de.tar.gz from DIR",
    )
    parallel.add_options(parser, "DATA/wmt14.en-TARGET", operations=None)
    args = parser.parse_args(argv)
    preset, recipe = recipe_of(args.target, args.preset, args.news_commentary, args.bpe_operations)
    directory = args.output or args.data / f"wmt14.en-{args.target}"
    if args.from_bpe is None:
        whole = Wmt14(preset, recipe, directory, args.data / "downloads", args.workers).run()
    elif recipe == SCALING:
        name = f"{preset}, imported"
        whole = Wmt14(name, recipe, directory, args.data / "downloads", args.workers).run_from_bpe(args.from_bpe)
    else:
        raise UserError("--from-bpe imports the finished text of scaling-nmt: leave out --preset and its options")
    parallel.report(whole, directory)
