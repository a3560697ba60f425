"""English text as the Penn Treebank tokenizes it, one line at a time: what published ROUGE figures were computed on.

The figures come from Stanford's PTBTokenizer (Java). Here NLTK's port of the Treebank's own sed script does the work,
with two additions that the Java program has: a period is cut off at the end of every sentence of
the line, not of the last one only, and typographic quotes are taken for plain ones. What remains different:
PTBTokenizer knows more abbreviations and leaves smileys, addresses and the like whole, which moves few sentence ends;
of the tokens themselves ROUGE reads only letters and digits.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
_CLOSING = "\"')]}”’"
_ENDS = re.compile(r"(?<=[.!?])[" + re.escape(_CLOSING) + r"]*\s+")


def sentences(text: str) -> list[str]:
    """The sentences of a line: cut after . ! or ? (and closing quotes) and a blank, unless it ends an abbreviation.

    A capital letter alone ("J."), a word with periods inside ("U.S.") and Moses' list of English abbreviations that a
    name or a number follows ("Mr.", "Gen.") do not end a sentence; neither does a period before a lower-case word.
    """
    found, start = [], 0
    for match in _ENDS.finditer(text):
        after = text[match.end() : match.end() + 1]
        word = text[start : match.start()].rsplit(None, 1)[-1]
        if after and not after.islower() and not _abbreviation(word):
            found.append(text[start : match.end()].strip())
            start = match.end()
    rest = text[start:].strip()
    return [*found, rest] if rest else found


def tokenize(text: str) -> str:
    """The Treebank's tokens of a line, separated by blanks: (it can't.) becomes -LRB- it ca n't . -RRB-"""
    words = _treebank()
    return " ".join(
        token
        for sentence in sentences(text.translate(_QUOTES))
        for token in words.tokenize(sentence, convert_parentheses=True)
    )


def _abbreviation(word: str) -> bool:
    if not word.endswith("."):
        return False
    stem = word.lstrip("\"'([{“‘").rstrip(".")
    return "." in stem or stem in _prefixes()


@cache
def _prefixes() -> frozenset[str]:
    from sacremoses.corpus import NonbreakingPrefixes

    return frozenset(line for line in NonbreakingPrefixes().words("en") if "#NUMERIC_ONLY#" not in line)


@cache
def _treebank() -> Any:
    # NLTK takes a second to import, which nothing but this needs.
    from nltk.tokenize.treebank import TreebankWordTokenizer  # type: ignore[import-untyped]

    return TreebankWordTokenizer()
