"""Text out of the mark-up of IWSLT talks and of IWSLT/WMT test sets, by the line rules of the published recipes.

The recipes are grep and sed over lines, not parsers, and the known sentence counts come from that: a line with a tag
that no rule names is text, entities stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Strings that drop a line of train.tags.* wherever they stand in it, from fairseq's IWSLT14 and IWSLT17 recipes. The
# files of 2017 name translators and reviewers too, on both sides; a tag without attribute may be empty.
IWSLT14_DROPPED = ("<url>", "<talkid>", "<keywords>")
IWSLT17_DROPPED = (*IWSLT14_DROPPED, "<speaker>", "<reviewer", "<translator", "<doc", "</doc>")
STRIPPED = ("<title>", "</title>", "<description>", "</description>")

# What \s is to GNU sed in a UTF-8 locale: no-break spaces (U+00A0, U+2007, U+202F) and U+0085 are not blanks there.
SED_BLANKS = "[\t\v\f\r \u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000]*"
SEGMENT_START = re.compile('<seg id="[0-9]*">' + SED_BLANKS)
SEGMENT_END = re.compile(SED_BLANKS + "</seg>" + SED_BLANKS)


def talk_text(line: str, dropped: Sequence[str] = IWSLT14_DROPPED) -> str | None:
    """The text of one line of train.tags.*; None for a line about the talk (`dropped`)."""
    if any(tag in line for tag in dropped):
        return None
    for tag in STRIPPED:
        line = line.replace(tag, "")
    return line


def segment(line: str) -> str | None:
    """The text of one line of an .xml or .sgm test set; None for a line without a segment."""
    if "<seg id" not in line:
        return None
    return SEGMENT_END.sub("", SEGMENT_START.sub("", line))


def segment_text(line: str) -> str | None:
    """The same with ' for ’."""
    text = segment(line)
    return None if text is None else text.replace("’", "'")
