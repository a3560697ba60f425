"""Perl's character classes, as bodies of Python `[...]` classes and as patterns."""

from __future__ import annotations

import re
import unicodedata

from rdrop_fairseq.corpus.moses import unicode14


def _body(*tables: str) -> str:
    """The inside of a `[...]` that matches the ranges of the tables."""
    parts = []
    for item in " ".join(tables).split():
        first, _, last = item.partition("-")
        parts.append(f"\\U{int(first, 16):08x}-\\U{int(last or first, 16):08x}")
    return "".join(parts)


ALPHA = _body(unicode14.ALPHABETIC)
ALNUM = _body(unicode14.ALPHABETIC, unicode14.DECIMAL_DIGIT)
NUMBER = _body(unicode14.NUMBER)

# What \s means in Perl for text with the UTF-8 flag. Python's \s has \x1c-\x1f besides.
SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
SPACES = re.compile(f"[{SPACE}]+")
BLANK = re.compile(f"[{SPACE}]*")


def is_category(character: str, category: str) -> bool:
    """Whether the Unicode general category of the character starts so: Perl's \\p{C}, \\p{Ll}, \\p{Sc}."""
    return unicodedata.category(character).startswith(category)
