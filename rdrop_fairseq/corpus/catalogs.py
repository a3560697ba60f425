"""Sentence pairs from gettext message catalogs (.po, .mo): found, read with polib, and kept if they are running text.

A catalog pairs each message of a program (the msgid, nearly always English) with its translation. Much of that is not
text: labels of a word or two, keyboard accelerators, markup, placeholders. Markup and accelerators are removed, because
a sentence remains; a pair with a placeholder is dropped, because none would.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polib

from rdrop_fairseq.errors import UserError

Pair = tuple[str, str]  # (message, translation)

MIN_WORDS, MAX_WORDS, MAX_RATIO = 3, 60, 2.5
MIN_LETTERS = 0.6  # share of letters among characters other than spaces; below it are tables, codes, key names

TAGS = "a abbr b big br button code dd div dl dt em h[1-6] hr i img input kbd label li nobr ol p pre s small span"
TAGS += " strong sub sup table tbody td th thead tr tt u ul var"
TAG = re.compile(rf"</?(?:{'|'.join(TAGS.split())})(?:\s[^<>]*)?/?>", re.IGNORECASE)
HOLE = re.compile(r"<(a|b|code|em|span|strong)(?:\s[^<>]*)?>\s*</\1>", re.IGNORECASE)  # the program writes text into it
ROLE = re.compile(r":[a-z][\w.-]*:(?=`)")  # reStructuredText, as in :hg:`help`
EMPHASIS = re.compile(r"(?<!\w)(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?!\w)")
CJK_ACCELERATOR = re.compile(r"\s*\([_&]\w\)")  # scripts without such a letter add it: (_F)
NOISE = {
    "format": re.compile(r"%(?:\d+\$)?[-+#0]*\d*(?:\.\d+)?(?:hh?|ll?|z)?[a-zA-Z](?![a-zA-Z])|%[\d(]|[{}]|\$\w|\\"),
    "markup": re.compile(r"[<>|]|&#?\w+;|::|\]\("),
    "address": re.compile(r"\w://|\bwww\.|\S@\S", re.IGNORECASE),
    "code": re.compile(r"\w_|_\w|\w\(\)|\w=\S|[a-z][A-Z]\w*[A-Z]|(?:^|\s)[~#.]?/?\w+/\w+/\w+|={2,}|-{3,}|\.{4,}"),
}
# One ideograph counts as a word: Chinese and Japanese put no spaces between theirs.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\d_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def is_of_language(path: str, language: str) -> bool:
    """True if a folder or a dotted part of the file's name is the language code: de/LC_MESSAGES/x.mo, de.po, x.de.po.

    A code without a region also names the language's home region (de_DE); - and _ and case make no difference.
    """
    wanted = language.lower().replace("-", "_")
    accepted = {wanted, f"{wanted}_{wanted}"}
    *folders, name = path.lower().replace("-", "_").replace("\\", "/").split("/")
    stem, dot, suffix = name.rpartition(".")
    return dot == "." and suffix in ("po", "mo") and not accepted.isdisjoint([*folders, *stem.split(".")])


def find_catalogs(directory: Path, language: str) -> list[Path]:
    """Catalogs of one language below a folder, in a fixed order. A .po, which marks fuzzy entries, replaces its .mo.

    Raises UserError where there is none.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; give one that holds .po or .mo catalogs")
    by_stem: dict[str, Path] = {}
    for path in sorted(directory.rglob("*.[pm]o"), key=lambda found: found.as_posix()):
        name = path.relative_to(directory).as_posix()
        if is_of_language(name, language) and path.is_file():
            by_stem[name[:-3]] = path  # .mo sorts before .po
    if not by_stem:
        raise UserError(f"{directory}: no catalog of language {language!r}, as in {language}/LC_MESSAGES/*.po or *.mo")
    return list(by_stem.values())


def read_catalog(path: Path) -> Iterator[Pair]:
    """Translated messages of one catalog as they stand there; fuzzy, obsolete and empty entries are left out.

    A plural message gives a pair for each of its forms if the translation has one or two forms, and none if it has
    more: the language decides how these match the English ones. Raises UserError for a file that is not a catalog.
    """
    try:
        entries = (polib.pofile if path.suffix == ".po" else polib.mofile)(str(path))
    except (OSError, UnicodeDecodeError, ValueError, LookupError) as error:
        raise UserError(f"{path}: not a readable message catalog ({error}); remove it or fetch it again") from error
    for entry in entries:
        if entry.obsolete or "fuzzy" in getattr(entry, "flags", ()):
            continue
        forms = [(entry.msgid, entry.msgstr)]
        if entry.msgid_plural:
            translated = [form for _, form in sorted(entry.msgstr_plural.items())]
            english = (entry.msgid, entry.msgid_plural)[-len(translated) :] if translated else ()
            forms = list(zip(english, translated)) if len(translated) <= 2 else []
        yield from ((message, text) for message, text in forms if message.strip() and text.strip())


def plain(text: str) -> str:
    """A message without tags, entities, emphasis, roles, backticks and line breaks."""
    text = html.unescape(TAG.sub(" ", HOLE.sub("{}", text)))
    text = EMPHASIS.sub(r"\2", ROLE.sub("", text)).replace("`", "")
    text = unicodedata.normalize("NFC", text.replace("\u00ad", ""))
    text = "".join(" " if unicodedata.category(character) in ("Cc", "Cf", "Zs") else character for character in text)
    return re.sub(r" +([,.;:!?])(?=\s|$)", r"\1", " ".join(text.split()))


def without_accelerators(message: str, text: str) -> Pair:
    """Both sides without the mark of a keyboard accelerator: _File, E_xit, &File, (_F).

    A word with an underscore that stands on both sides (max_size) is a name and stays; so does & among capitals (Q&A).
    """
    same = set(message.split()) & set(text.split())
    return _without_accelerators(message, same), _without_accelerators(text, same)


def _without_accelerators(text: str, names: set[str]) -> str:
    words = CJK_ACCELERATOR.sub("", text).split()
    marked = [index for index, word in enumerate(words) if word.count("_") == 1 and word not in names]
    if len(marked) == 1 and re.search(r"_\w", words[marked[0]]):
        words[marked[0]] = words[marked[0]].replace("_", "")
    text = " ".join(words)
    return re.sub(r"(?<![A-Z&])&(?=[^\W\d_])|(?<=[A-Z])&(?=[a-z])", "", text).replace("&&", "&")


def words_of(text: str) -> list[str]:
    """What is counted as words: runs of letters, single ideographs."""
    return WORD.findall(text)


def key(text: str) -> str:
    """A key that ignores case, punctuation, spaces and the values of digits."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", re.sub(r"\d+", "0", folded)))


def fault(message: str, text: str) -> str | None:
    """The reason, in one word, for dropping a cleaned pair as not running text; None for a good pair."""
    for name, pattern in NOISE.items():
        if pattern.search(message) or pattern.search(text):
            return name
    if key(message) == key(text):
        return "untranslated"
    lengths = [len(words_of(side)) for side in (message, text)]
    if min(lengths) < MIN_WORDS:
        return "short"
    if max(lengths) > MAX_WORDS:
        return "long"
    if max(lengths) > MAX_RATIO * min(lengths):
        return "ratio"
    for side in (message, text):
        characters = [character for character in side if not character.isspace()]
        if sum(character.isalpha() for character in characters) < MIN_LETTERS * len(characters):
            return "letters"
    return None


class Seen:
    """The keys of the pairs taken so far, of each side."""

    def __init__(self) -> None:
        self._sides: tuple[set[str], set[str]] = (set(), set())

    def adds(self, pair: Pair) -> bool:
        """True, and the pair is remembered, unless one of its sides has been seen."""
        keys = [key(side) for side in pair]
        if any(each in known for each, known in zip(keys, self._sides)):
            return False
        for each, known in zip(keys, self._sides):
            known.add(each)
        return True


def collect(catalogs: list[Path]) -> tuple[list[Pair], Counter[str]]:
    """Good pairs of all catalogs, in order, each message and each translation once, and how many each rule dropped.

    Two messages count as one if their `key` is the same. A translation that serves two messages keeps the first, so
    that neither side of a pair ever stands in two splits.
    """
    seen = Seen()
    pairs: list[Pair] = []
    counts: Counter[str] = Counter()
    for path in catalogs:
        for message, text in read_catalog(path):
            pair = without_accelerators(plain(message), plain(text))
            reason = fault(*pair)
            if reason is None and not seen.adds(pair):
                reason = "duplicate"
            counts[reason or "kept"] += 1
            if reason is None:
                pairs.append(pair)
    return pairs, counts
