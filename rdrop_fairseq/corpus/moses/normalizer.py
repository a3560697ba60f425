"""What Moses' normalize-punctuation.perl, remove-non-printing-char.perl, replace-unicode-punctuation.perl and
lowercase.perl do to a line."""

from __future__ import annotations

import re

from rdrop_fairseq.corpus.moses.characters import is_category

_SPACES = re.compile("  +")
_AFTER_CLOSING = re.compile(r"\) ([.!:?;,])")
_PERCENT = re.compile("([0-9]) %")
_SINGLE_IN_WORD = {quote: re.compile(f"([A-Za-z]){quote}([A-Za-z])") for quote in "‘’"}
_NUMBER_SPACE = re.compile("([0-9])\xa0([0-9])")

# Full-width and typographic marks of replace-unicode-punctuation.perl, and what each becomes; the stops take the spaces
# after them along.
_ASCII = str.maketrans("，、”“∶：？《》）！（；」「～’━〈〉【】％", """,,""::?"")!(;""~'-<>[]%""")
_ASCII |= str.maketrans("０１２３４５６７８９", "0123456789")
_STOP = re.compile("[。．] *")

# Old and new, in the order of the script.
_QUOTES_AND_DASHES = (("„", '"'), ("“", '"'), ("”", '"'), ("–", "-"), ("—", " - "))
_SINGLE_QUOTES = (("‘", "'"), ("‚", "'"), ("’", '"'), ("''", '"'), ("…", "..."))
_GUILLEMETS = (
    ("\xa0«\xa0", ' "'),
    ("«\xa0", '"'),
    ("«", '"'),
    ("\xa0»\xa0", '" '),
    ("\xa0»", '"'),
    ("»", '"'),
)
_NO_BREAK_SPACES = (
    ("\xa0%", "%"),
    ("nº\xa0", "nº "),
    ("\xa0:", ":"),
    ("\xa0ºC", " ºC"),
    ("\xa0cm", " cm"),
    ("\xa0?", "?"),
    ("\xa0!", "!"),
    ("\xa0;", ";"),
    (",\xa0", ", "),
)

_COMMA_AFTER_QUOTE = re.compile(r'"([,.]+)')
# The script matches bytes that end in \n, and lets \n be the character after the quote.
_PERIOD_BEFORE_QUOTE = re.compile(r'(\.+)"([\t-\r ]*[^<])')


class Normalizer:
    """`normalize-punctuation.perl -l lang` for one line without its newline."""

    def __init__(self, lang: str) -> None:
        self._english = lang == "en"
        self._quotes_first = lang not in ("en", "cs", "cz")
        self._number_separator = "," if lang in ("de", "es", "cz", "cs", "fr") else "."

    def __call__(self, line: str) -> str:
        """The line with plain quotes, dashes and spaces. (A line is changed by few of the rules: look before work.)"""
        line = _spaces(line)
        line = line.replace("`", "'").replace("''", ' " ')
        if not line.isascii():
            line = self._unicode(line)
        if "  " in line:
            line = _SPACES.sub(" ", line)
        if '"' in line:
            line = self._quote_order(line)
        if "\xa0" in line:
            line = _NUMBER_SPACE.sub(rf"\1{self._number_separator}\2", line)
        return line

    def _unicode(self, line: str) -> str:
        for old, new in _QUOTES_AND_DASHES:
            line = line.replace(old, new)
        if "  " in line:
            line = _SPACES.sub(" ", line)
        line = line.replace("´", "'")
        for quote, pattern in _SINGLE_IN_WORD.items():
            if quote in line:
                line = pattern.sub(r"\1'\2", line)
        for old, new in (*_SINGLE_QUOTES, *_GUILLEMETS):
            line = line.replace(old, new)
        if "\xa0" in line:
            for old, new in _NO_BREAK_SPACES:
                line = line.replace(old, new)
        return line

    def _quote_order(self, line: str) -> str:
        """Punctuation goes inside the closing quote in English, outside in the other languages (not in Czech)."""
        if self._english:
            return _COMMA_AFTER_QUOTE.sub(r'\1"', line)
        if self._quotes_first:
            line = line.replace(',"', '",')
            if '."' in line:
                return _PERIOD_BEFORE_QUOTE.sub(r'"\1\2', line + "\n")[:-1]
        return line


def _spaces(line: str) -> str:
    """Spaces before and inside brackets, and before : ; %."""
    if "\r" in line:
        line = line.replace("\r", "")
    if "(" in line:
        line = line.replace("(", " (")
    closing = ")" in line
    if closing:
        line = line.replace(")", ") ")
    if "  " in line:
        line = _SPACES.sub(" ", line)
    if closing:
        line = _AFTER_CLOSING.sub(r")\1", line)
    line = line.replace("( ", "(").replace(" )", ")")
    if " %" in line:
        line = _PERCENT.sub(r"\1%", line)
    return line.replace(" :", ":").replace(" ;", ";")


def remove_nonprinting(line: str) -> str:
    """`remove-non-printing-char.perl`: each control, format, private or unassigned character becomes a space."""
    if line.isprintable():  # also false for unusual spaces, which stay
        return line
    return "".join([" " if not c.isprintable() and is_category(c, "C") else c for c in line])


def replace_unicode_punctuation(line: str) -> str:
    """`replace-unicode-punctuation.perl`: marks of East Asian text and curly quotes become those of ASCII."""
    if line.isascii():
        return line
    return _STOP.sub(". ", line.translate(_ASCII).replace("…", "..."))


def lowercase(line: str) -> str:
    """`lowercase.perl`: each character alone, so that a final sigma is σ like any other (str.lower makes it ς)."""
    return line.replace("Σ", "σ").lower()
