"""News stories in the format of CNN/DailyMail: a file per article, named after its url, highlights at the end."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from rdrop_fairseq.errors import UserError

HIGHLIGHT = "@highlight"
# Characters that some reader treats as a line end, which would misalign the pairs: because of \r, many preparations of
# this corpus have 250 more lines than articles in the train set.
LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# A line that ends in one of these needs no period (fix_missing_period in the scripts of the pointer-generator paper).
CLOSED = (".", "!", "?", "'", "`", '"', "’", "”", ")")
AGENCY = "(CNN)"
DATELINE = 50  # a dateline ends within so many characters; a later (CNN) is part of the text


@dataclass(frozen=True)
class Story:
    """One line of source, one of target, and whether the file was valid UTF-8."""

    article: str
    summary: str
    utf8: bool = True


def parse(data: bytes, add_periods: bool = True, cut_dateline: bool = True) -> Story:
    """The article (what stands before the first @highlight) and the summary (every highlight), each on one line.

    The case is kept and nothing is tokenized; lines are stripped and joined by one space. Bytes that are not UTF-8
    become U+FFFD. A file without @highlight has an empty summary. Two changes are those of the files on which published
    figures were measured:
    add_periods: a period after each line that has no sentence end, such as captions and most highlights. It is attached
    to the last word, since this text is not tokenized; the scripts of the pointer-generator paper set it apart.
    cut_dateline: see without_dateline.
    """
    text, utf8 = decode(data)
    lines = [line.strip() for line in LINE_BREAKS.split(text)]
    if add_periods:
        lines = [with_period(line) for line in lines]
    article: list[str] = []
    highlights: list[str] = []
    side = article
    for line in lines:
        if line.startswith(HIGHLIGHT):
            side = highlights
        elif line:
            side.append(line)
    whole = " ".join(article)
    return Story(without_dateline(whole) if cut_dateline else whole, " ".join(highlights), utf8)


def with_period(line: str) -> str:
    """The line, ended by a period unless it is empty, has @highlight in it or ends in a character of CLOSED."""
    return line if not line or HIGHLIGHT in line or line.endswith(CLOSED) else line + "."


def without_dateline(article: str) -> str:
    """The article after "(CNN)", if that is within its first 50 characters: LONDON, England (CNN) -- It began.

    The text after it is unchanged, dashes included.
    """
    end = article.find(AGENCY, 0, DATELINE)
    return article if end < 0 else article[end + len(AGENCY) :].lstrip()


def decode(data: bytes) -> tuple[str, bool]:
    """The text, U+FFFD for what is not UTF-8, and whether all of it was UTF-8; a byte order mark is dropped."""
    try:
        return data.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return data.decode("utf-8-sig", errors="replace"), False


def one_line(text: str) -> str:
    """`text` without anything that a reader could take for a line end, and without blanks around it."""
    return LINE_BREAKS.sub(" ", text).strip()


def file_name(url: str) -> str:
    """The name of the file that holds the article of this url: the sha1 of the url in hexadecimal, and .story."""
    return hashlib.sha1(url.strip().encode("utf-8")).hexdigest() + ".story"


def read_urls(data: bytes, name: str) -> list[str]:
    """The urls of a list, one a line, without blank lines. Raises UserError if a line is not a url."""
    urls = [line.strip() for line in data.decode("utf-8", errors="replace").splitlines() if line.strip()]
    if not urls or not all("://" in url for url in urls):
        raise UserError(f"{name} is not a list of urls, one a line: fetch it again")
    return urls
