"""Story files: what is article, what is summary, and what becomes of what is not as it should be."""

from __future__ import annotations

import pytest

from rdrop_fairseq.corpus import stories
from rdrop_fairseq.corpus.stories import Story
from rdrop_fairseq.errors import UserError

USUAL = b"""(CNN) -- It began here.

A caption without an end

It ended "there"

@highlight

First point

@highlight

Second point!
"""


def test_article_and_highlights_each_on_one_line() -> None:
    article = '(CNN) -- It began here. A caption without an end It ended "there"'
    plain = stories.parse(USUAL, add_periods=False, cut_dateline=False)
    assert plain == Story(article, "First point Second point!")


def test_sentence_ends_and_no_dateline_by_default() -> None:
    article = '-- It began here. A caption without an end. It ended "there"'
    assert stories.parse(USUAL) == Story(article, "First point. Second point!")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("A caption", "A caption."),
        ("So what...", "So what..."),
        ("It ended:", "It ended:."),  # no colon, no bracket but ) and no ellipsis in one character is in the list
        ("and so on…", "and so on…."),
        ("[sic]", "[sic]."),
        *((f"end{mark}", f"end{mark}") for mark in ".!?'`\"\u2019\u201d)"),
        ("a line with @highlight in it", "a line with @highlight in it"),
        ("", ""),
    ],
)
def test_periods_are_those_of_fix_missing_period(line: str, expected: str) -> None:
    assert stories.with_period(line) == expected


@pytest.mark.parametrize(
    ("article", "expected"),
    [
        ("(CNN)The end.", "The end."),
        ("LONDON, England (CNN) -- It began.", "-- It began."),
        ("(CNN) He said (CNN) twice.", "He said (CNN) twice."),
        ("x" * 45 + "(CNN) y", "y"),  # the five characters are within the first 50
        ("x" * 46 + "(CNN) y", "x" * 46 + "(CNN) y"),
        ("Daily Mail has none.", "Daily Mail has none."),
        ("", ""),
    ],
)
def test_dateline(article: str, expected: str) -> None:
    assert stories.without_dateline(article) == expected


def test_without_highlight_the_summary_is_empty() -> None:
    assert stories.parse(b"Only text\n") == Story("Only text.", "")


def test_without_article() -> None:
    assert stories.parse(b"\n@highlight\n\nPoint\n") == Story("", "Point.")
    assert stories.parse(b"") == Story("", "")


def test_bytes_that_are_not_utf8_are_replaced_and_told() -> None:
    assert stories.parse(b"caf\xe9 open\n@highlight\nx\n") == Story("caf\ufffd open.", "x.", utf8=False)


def test_byte_order_mark_is_no_text() -> None:
    assert stories.parse(b"\xef\xbb\xbf@highlight\nx\n") == Story("", "x.")


@pytest.mark.parametrize("end", ["\r\n", "\r", "\x85", "\u2028", "\x0c"])
def test_no_line_end_survives(end: str) -> None:
    text = f"one{end}two{end}@highlight{end}three{end}four"
    assert stories.parse(text.encode("utf-8")) == Story("one. two.", "three. four.")


def test_blanks_inside_a_line_stay() -> None:
    assert stories.parse("a  b\u00a0c\t\n".encode()) == Story("a  b\u00a0c.", "")


def test_name_is_the_sha1_of_the_url() -> None:
    # printf http://example.org/a | sha1sum
    assert stories.file_name("http://example.org/a\n") == "a08896bcf126c65e967fd209b47862d681912d66.story"


def test_lists_of_urls() -> None:
    assert stories.read_urls(b"http://a/b\r\n\nhttps://c/d\n", "list") == ["http://a/b", "https://c/d"]
    for wrong in (b"", b"<html>\n404\n</html>\n"):
        with pytest.raises(UserError, match=r"all_test\.txt is not a list of urls"):
            stories.read_urls(wrong, "all_test.txt")
