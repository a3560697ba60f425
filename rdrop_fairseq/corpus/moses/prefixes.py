"""Non-breaking prefixes: words after which a period does not end a sentence, from the lists that sacremoses carries."""

from __future__ import annotations

import re

from sacremoses._data_nonbreaking_prefixes import NONBREAKING_PREFIXES

_NUMERIC_ONLY = re.compile(r"(.*)\s+#NUMERIC_ONLY#")
_FILE = "nonbreaking_prefix."

LANGUAGES = tuple(sorted(name[len(_FILE) :] for name in NONBREAKING_PREFIXES if name.startswith(_FILE)))


def load(lang: str) -> tuple[frozenset[str], frozenset[str]]:
    """The prefixes of a language: (those that always hold, those that hold before a number).

    A language without a list gets the English one, as in tokenizer.perl. The lines are taken as they are: an entry with
    a space after it never matches there either, and an entry given twice counts as it was given last.
    """
    always: set[str] = set()
    numeric: set[str] = set()
    for line in NONBREAKING_PREFIXES[_FILE + (lang if lang in LANGUAGES else "en")].split("\n"):
        if not line or line == "0" or line.startswith("#"):
            continue
        match = _NUMERIC_ONLY.match(line)
        word = match.group(1) if match else line
        (numeric if match else always).add(word)
        (always if match else numeric).discard(word)
    return frozenset(always), frozenset(numeric)
