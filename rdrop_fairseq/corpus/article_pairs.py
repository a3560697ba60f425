"""Articles and summaries, one a line in {train,val,test}.{source,target}: finding, cleaning and writing them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from rdrop_fairseq.corpus.stories import decode, one_line
from rdrop_fairseq.errors import UserError

SPLITS = ("train", "val", "test")
SIDES = ("source", "target")
# Other names for the same files (XSum's own scripts write validation.document).
SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
SIDE_NAMES = {"source": ("source", "document", "article"), "target": ("target", "summary", "highlights")}


class PairWriter:
    """Writes pairs to two open files and counts what is unusual about them.

    Both texts are put on one line each. Bytes that are not UTF-8 arrive as U+FFFD and are counted. A pair without a
    summary is dropped unless `keep_all` is set (in a test set); one without an article is kept, as in the
    published corpora (114 stories of CNN/DailyMail are empty).
    """

    def __init__(self, source: BinaryIO, target: BinaryIO, keep_all: bool) -> None:
        self.files = (source, target)
        self.keep_all = keep_all
        self.counts: Counter[str] = Counter(
            dict.fromkeys(("pairs", "dropped_without_summary", "empty_summary", "empty_article"), 0)
        )
        self.counts.update(dict.fromkeys(("one_word_article", "not_utf8", "source_words", "target_words"), 0))

    def add(self, article: str, summary: str, utf8: bool = True) -> None:
        """Writes one pair, or drops it."""
        article, summary = one_line(article), one_line(summary)
        self.counts["not_utf8"] += not utf8
        if not summary and not self.keep_all:
            self.counts["dropped_without_summary"] += 1
            return
        words = len(article.split())
        self.counts["pairs"] += 1
        self.counts["empty_summary"] += not summary
        self.counts["empty_article"] += words == 0
        self.counts["one_word_article"] += words == 1
        self.counts["source_words"] += words
        self.counts["target_words"] += len(summary.split())
        for file, text in zip(self.files, (article, summary)):
            file.write(text.encode("utf-8") + b"\n")


def find(directory: Path, split: str) -> tuple[Path, Path] | None:
    """The two files of a split in `directory`, by any of the usual names; None if there is neither.

    Raises UserError if only one of the two is there.
    """
    for name in SPLIT_NAMES[split]:
        found = [
            next((path for side in SIDE_NAMES[role] if (path := directory / f"{name}.{side}").is_file()), None)
            for role in SIDES
        ]
        source, target = found
        if source is not None and target is not None:
            return source, target
        if source is not None or target is not None:
            raise UserError(f"{source or target} is alone: put the other side ({name}.source, {name}.target) beside it")
    return None


def copy(source: Path, target: Path, writer: PairWriter, title: str) -> None:
    """Passes every pair of two files to the writer; raises UserError if they have different numbers of lines."""
    with open(source, "rb") as articles, open(target, "rb") as summaries:
        bar = tqdm(_in_step(source, articles, target, summaries), desc=title, unit="pairs", mininterval=1.0)
        for first, second in bar:
            (article, first_utf8), (summary, second_utf8) = decode(first), decode(second)
            writer.add(article, summary, first_utf8 and second_utf8)


def _in_step(source: Path, articles: BinaryIO, target: Path, summaries: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    # A line ends at \n only: a \r inside an article must not shift the two sides.
    for number, (first, second) in enumerate(zip_longest(articles, summaries)):
        if first is None or second is None:
            count = [
                number + (line is not None) + sum(1 for _ in rest)
                for line, rest in ((first, articles), (second, summaries))
            ]
            raise UserError(
                f"{source} has {count[0]} lines and {target} has {count[1]}: line n of both has to be one pair"
            )
        yield first, second
