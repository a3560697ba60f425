"""What Moses' detokenizer.perl makes of a tokenized line."""

from __future__ import annotations

import re

from rdrop_fairseq.corpus.moses.characters import ALNUM, ALPHA, BLANK, is_category

# In the order of the script: &amp; last, so that &amp;lt; becomes &lt; and not <. bar, bra and ket are of old versions.
_UNESCAPES = (
    ("&bar;", "|"),
    ("&#124;", "|"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&bra;", "["),
    ("&ket;", "]"),
    ("&quot;", '"'),
    ("&apos;", "'"),
    ("&#91;", "["),
    ("&#93;", "]"),
    ("&amp;", "&"),
)
_MARKUP = re.compile("<.+>")
_CLOSING = re.compile(r"[,.?!:;\\%}\])]+")
_FRENCH_SPACED = frozenset("?!:;\\%")
_QUOTES = re.compile("['\"„“`]+")
_DOUBLE_QUOTES = re.compile("[„“]+")
_DIGITS = re.compile("[0-9]+")
_STARTS_ALPHA = re.compile(f"[{ALPHA}]")
_CONTRACTION = re.compile(f"'[{ALPHA}]")
_ENDS_ALNUM = re.compile(f"[{ALNUM}]\\Z")
_ENDS_ALPHA = re.compile(f"[{ALPHA}]\\Z")
_ELISION = re.compile(f"[{ALPHA}]'\\Z")
_SPACES = re.compile("  +")

# Hangul Jamo; radicals to Yi; Phags-pa; Hangul; compatibility ideographs and forms; half-width forms; planes 2 and 3.
_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\ua4cf\ua840-\ua87f\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff65-\uffdc"
    "\U00020000-\U0002ffff]"
)

# Case endings that follow an abbreviation and a colon (EU:ssa), possessive suffixes, clitics.
_FINNISH_CASE = re.compile(
    "(N|n|A|a|Ä|ä|[Ss]s[aä]|[Ss]t[aä]|[Hh][uyaäö]n|[UuYyAaÄäÖö]n|[Ss]een|[Ll]l[aä]|[Ll]t[aä]|[Ll]le|[Kk]s[ie]|[Tt]ta"
    "|[Ii]ne)(ni|si|mme|nne|nsa)?(ko|kö|han|hän|pa|pä|kaan|kään|kin)?"
)

# Where a word is joined: to the word on its left, on its right, or to neither.
_LEFT, _RIGHT, _NEITHER = "left", "right", "neither"


class Detokenizer:
    """`detokenizer.perl -l lang` for one line without its newline."""

    def __init__(self, lang: str) -> None:
        self._lang = lang

    def __call__(self, line: str) -> str:
        """Plain text. A line of white space only, or one that is <markup> from end to end, is returned unchanged."""
        if _MARKUP.fullmatch(line) or BLANK.fullmatch(line):
            return line
        text = f" {line} ".replace(" @-@ ", "-")
        for escaped, plain in _UNESCAPES:
            text = text.replace(escaped, plain)
        # The empty word before the first space stays: the rules look back at it. Those at the end do not.
        words = text.rstrip(" ").split(" ")
        text = _SPACES.sub(" ", "".join(self._join(words)))
        return text[text.startswith(" ") : len(text) - text.endswith(" ")]

    def _join(self, words: list[str]) -> list[str]:
        """The words, each with the space before it if it has one."""
        parts: list[str] = []
        quotes: dict[str, int] = {}
        space = " "
        index = 0
        while index < len(words):
            word = words[index]
            side = self._side(words, index, quotes)
            if side is _RIGHT and self._before_czech_dash(words, index):
                index += 1
                word += words[index]
            elif side is _LEFT and self._lang == "fr" and word in _FRENCH_SPACED:
                word = " " + word
            elif side is _LEFT and self._finnish_ending(words, index):
                word = word.lower()
            parts.append(word if side is _LEFT else space + word)
            space = "" if side is _RIGHT else " "
            index += 1
        return parts

    def _side(self, words: list[str], index: int, quotes: dict[str, int]) -> str:
        """The side on which the word at `index` is joined; counts the quotes seen so far."""
        word, before = words[index], words[index - 1] if index else ""
        if _CJK.match(word):
            return _LEFT if before and _CJK.match(before[-1]) and self._lang != "ko" else _NEITHER
        if word and all(c in "([{¿¡" or is_category(c, "Sc") for c in word):
            return _RIGHT
        if _CLOSING.fullmatch(word) or self._continues(words, index, before):
            return _LEFT
        if self._elides(words, index) or self._before_czech_dash(words, index):
            return _RIGHT
        if _QUOTES.fullmatch(word):
            return self._quote_side(word, before, quotes)
        return _LEFT if self._finnish_ending(words, index) else _NEITHER

    def _continues(self, words: list[str], index: int, before: str) -> bool:
        """English 's after a word; Czech decimals that were split at the comma."""
        word = words[index]
        if self._lang == "en":
            return bool(_CONTRACTION.match(word) and _ENDS_ALNUM.search(before))
        if self._lang == "cs" and index > 1:
            return bool(_DIGITS.fullmatch(words[index - 2]) and before in (".", ",") and _DIGITS.fullmatch(word))
        return False

    def _elides(self, words: list[str], index: int) -> bool:
        """l' before a word."""
        if self._lang not in ("fr", "it", "ga") or index > len(words) - 2:
            return False
        return bool(_ELISION.search(words[index]) and _STARTS_ALPHA.match(words[index + 1]))

    def _before_czech_dash(self, words: list[str], index: int) -> bool:
        """je-li, e-mail."""
        if self._lang != "cs" or index >= len(words) - 3 or not _ENDS_ALPHA.search(words[index]):
            return False
        after = words[index + 2].lower()
        return words[index + 1] in ("-", "–") and (after == "li" or after.startswith("mail"))

    def _finnish_ending(self, words: list[str], index: int) -> bool:
        return self._lang == "fi" and words[index - 1].endswith(":") and bool(_FINNISH_CASE.fullmatch(words[index]))

    def _quote_side(self, word: str, before: str, quotes: dict[str, int]) -> str:
        """The first quote of its kind opens, the second closes."""
        kind = '"' if _DOUBLE_QUOTES.fullmatch(word) else word
        if self._lang == "cs" and word in ("„", "“"):
            quotes[kind] = 0 if word == "„" else 1
        seen = quotes.get(kind, 0)
        if seen % 2 == 0 and self._lang == "en" and word == "'" and before.endswith("s"):
            return _LEFT  # the Jones' house; it does not count as a quote
        quotes[kind] = seen + 1
        return _RIGHT if seen % 2 == 0 else _LEFT
