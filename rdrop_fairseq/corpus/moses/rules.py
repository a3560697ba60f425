"""The tokenization rules of Moses' tokenizer.perl, one after another on the whole line: the definition.

`tokenizer.Tokenizer` gives the same output several times faster and calls this for what it has not seen before.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Callable

from rdrop_fairseq.corpus.moses import prefixes
from rdrop_fairseq.corpus.moses.characters import ALNUM, ALPHA, BLANK, NUMBER, SPACES, is_category

Rule = Callable[[str], str]

# Characters that may stand inside a word in these languages (USA:n, il·lusio), and what is separated all the same where
# no lowercase letter follows. The Catalan rule reads as if it were about the middle dot, but the script is not marked
# as UTF-8, so that its pattern is the two characters of the dot's bytes.
_INSIDE_WORDS = {"fi": (":", ":"), "sv": (":", ":"), "tdt": ("'", "'"), "ca": ("·", "Â·")}

_CONTROL = re.compile("[\\x00-\\x1f]")
_MULTIDOT = re.compile(r"\.{2,}")
_MARKER = re.compile("((?:DOT)+)MULTI")
# Each ' between words is a token of its own, whatever is beside it, except in these languages.
_APOSTROPHE_RIGHT = ("en",)
_APOSTROPHE_LEFT = ("fr", "it", "ga", "ca")
_APOSTROPHE_INSIDE = ("so", "tdt")

DIGITS = frozenset("0123456789")
_ESCAPES = str.maketrans(
    {"&": "&amp;", "|": "&#124;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;", "[": "&#91;", "]": "&#93;"}
)

_ESCAPED = re.compile("[&|<>'\"\\[\\]]")


def squeeze(text: str) -> str:
    """One space between words, none around them; no other white space and no control characters."""
    return " ".join(_CONTROL.sub("", SPACES.sub(" ", text)).split())


def tokenize(line: str, lang: str, aggressive: bool = False, escape: bool = True) -> str:
    """What `tokenizer.perl -l lang [-a] [-no-escape]` makes of one line, both without the newline."""
    return line if BLANK.fullmatch(line) else tokenizer(lang, aggressive, escape)(squeeze(line))


@cache
def tokenizer(lang: str, aggressive: bool, escape: bool) -> Rule:
    """The function that tokenizes a squeezed line."""
    separate = [*_special_characters(lang), *([_hyphens()] if aggressive else []), _mark_multidots, *_commas()]
    separate += _apostrophes(lang)
    periods = _periods(*prefixes.load(lang))

    def tokenize(text: str) -> str:
        for rule in separate:
            text = rule(text)
        text = periods(text)
        if text.endswith(".'"):  # the last space of the output is the script's own
            text = text[:-2] + " . ' "
        if "DOTMULTI" in text:
            text = _MARKER.sub(lambda marker: "." * (len(marker.group(1)) // 3), text)
        return text.translate(_ESCAPES) if escape and _ESCAPED.search(text) else text

    return tokenize


def apostrophe_stands_alone(lang: str) -> bool:
    """Whether the language has no rule that looks at what is beside an apostrophe."""
    return lang not in (*_APOSTROPHE_RIGHT, *_APOSTROPHE_LEFT, *_APOSTROPHE_INSIDE)


def _sub(pattern: str, replacement: str, needs: str = "") -> Rule:
    """Substitution of a pattern that can only match where the text has the character `needs`.

    ALNUM, ALPHA and NUMBER in the pattern stand for these classes. ASCII text gets a pattern with their ASCII parts,
    since a search through the tables costs a microsecond for each character that is not in them.
    """
    everything, ascii_only = (re.compile(_filled(pattern, classes)) for classes in (_CLASSES, _ASCII_CLASSES))

    def substitute(text: str) -> str:
        if needs not in text:
            return text
        return (ascii_only if text.isascii() else everything).sub(replacement, text)

    return substitute


_CLASSES = {"ALNUM": ALNUM, "ALPHA": ALPHA, "NUMBER": NUMBER}
_ASCII_CLASSES = {"ALNUM": "0-9A-Za-z", "ALPHA": "A-Za-z", "NUMBER": "0-9"}


def _filled(pattern: str, classes: dict[str, str]) -> str:
    for name, characters in classes.items():
        pattern = pattern.replace(name, characters)
    return pattern


def _special_characters(lang: str) -> list[Rule]:
    """Set apart what is neither a letter or digit nor one of . ' ` , - and the language's own."""
    inner, unless_lower = _INSIDE_WORDS.get(lang, ("", ""))
    rules = [_sub(f"([^ALNUM .'`,\\-{inner}])", r" \1 ")]
    if unless_lower:
        pattern = re.compile(unless_lower)

        def separate(match: re.Match[str]) -> str:
            following = match.string[match.end() : match.end() + 1]
            return match.group() if following and is_category(following, "Ll") else f" {match.group()} "

        rules.append(lambda text: pattern.sub(separate, text))
    return rules


def _hyphens() -> Rule:
    return _sub("([ALNUM])-(?=[ALNUM])", r"\1 @-@ ", needs="-")


def _mark_multidots(text: str) -> str:
    """A run of n dots becomes the word DOT...DOTMULTI with n times DOT, so that the rules for periods pass it by."""
    if ".." not in text:
        return text
    return _MULTIDOT.sub(
        lambda dots: " " + "DOT" * len(dots.group()) + "MULTI" + (" " if dots.end() < len(text) else ""), text
    )


def _commas() -> list[Rule]:
    """Set commas apart except between digits; in two steps, because a match uses up the character beside the comma."""
    return [
        _sub("([^NUMBER]),", r"\1 , ", needs=","),
        _sub(",([^NUMBER])", r" , \1", needs=","),
        _sub("([NUMBER]),$", r"\1 ,", needs=","),
    ]


def _apostrophes(lang: str) -> list[Rule]:
    """'s goes with what follows in English, l' with what precedes in Romance languages; elsewhere ' stands alone."""
    both, before, after, inside = (
        "([^ALPHA])'([^ALPHA])",
        "([^ALPHA])'([ALPHA])",
        "([ALPHA])'([^ALPHA])",
        "([ALPHA])'([ALPHA])",
    )
    apart = r"\1 ' \2"
    if lang in _APOSTROPHE_RIGHT:
        no_digit_before = "([^ALPHANUMBER])'([ALPHA])"
        rules = [(both, apart), (no_digit_before, apart), (after, apart), (inside, r"\1 '\2")]
        rules.append(("([NUMBER])'(s)", r"\1 '\2"))
    elif lang in _APOSTROPHE_LEFT:
        rules = [(both, apart), (before, apart), (after, apart), (inside, r"\1' \2")]
    elif lang in _APOSTROPHE_INSIDE:
        rules = [(both, apart), (before, apart), (after, apart)]
    else:
        rules = [("'", " ' ")]
    return [_sub(pattern, replacement, needs="'") for pattern, replacement in rules]


def _periods(always: frozenset[str], numeric: frozenset[str]) -> Rule:
    """Split the period off each word's end, except after a non-breaking prefix, an initialism, or before lowercase."""
    alpha = re.compile(f"[{ALPHA}]")

    def stays(prefix: str, following: str) -> bool:
        return (
            ("." in prefix and alpha.search(prefix) is not None)
            or prefix in always
            or following[0].islower()
            or (prefix in numeric and following[0] in DIGITS)
        )

    def periods(text: str) -> str:
        words = text.split()
        for index, word in enumerate(words):
            if word[-1] == "." and len(word) > 1:
                following = words[index + 1 : index + 2]
                if not following or not stays(word[:-1], following[0]):
                    words[index] = word[:-1] + " ."
        return " ".join(words)

    return periods
