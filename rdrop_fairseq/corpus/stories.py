"""News stories as CNN/DailyMail has them: a file per article, named after its url, the highlights at its end."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from rdrop_fairseq.errors import UserError

HIGHLIGHT = "@highlight"
# Characters that some reader down the line takes for the end of a line (\r made 250 lines more than articles in the
# train set of many who prepared this corpus): the pairs would no longer match.
LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
CLOSED = (".", "!", "?", "'", "`", '"', "’", "”", ")")


@dataclass(frozen=True)
class Story:
    """One line of source and one of target, and whether the bytes of the file were UTF-8."""

    article: str
    summary: str
    utf8: bool = True


def parse(data: bytes, add_periods: bool = False) -> Story:
    """The article (what stands before the first @highlight) and the summary (every highlight), each on one line.

    The case is kept and nothing is tokenized; lines are stripped and joined by one space. Bytes that are not UTF-8
    become U+FFFD. add_periods: a period after each line that ends in no punctuation, as the scripts of the
    pointer-generator paper do (there a token of its own, here attached, since this text is not tokenized). A file
    without @highlight has an empty summary.
    """
    text, utf8 = decode(data)
    lines = [line.strip() for line in LINE_BREAKS.split(text)]
    if add_periods:
        lines = [line if not line or line == HIGHLIGHT or line.endswith(CLOSED) else line + "." for line in lines]
    article: list[str] = []
    highlights: list[str] = []
    side = article
    for line in lines:
        if line.startswith(HIGHLIGHT):
            side = highlights
        elif line:
            side.append(line)
    return Story(" ".join(article), " ".join(highlights), utf8)


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
    """The urls of a list, one a line, blank lines left out; UserError where nothing looks like one."""
    urls = [line.strip() for line in data.decode("utf-8", errors="replace").splitlines() if line.strip()]
    if not urls or not all("://" in url for url in urls):
        raise UserError(f"{name} is no list of urls, one a line: fetch it again")
    return urls
