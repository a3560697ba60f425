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
    assert stories.parse(USUAL) == Story(article, "First point Second point!")


def test_periods_are_added_on_request_only() -> None:
    article = '(CNN) -- It began here. A caption without an end. It ended "there"'
    assert stories.parse(USUAL, add_periods=True) == Story(article, "First point. Second point!")


def test_without_highlight_the_summary_is_empty() -> None:
    assert stories.parse(b"Only text\n") == Story("Only text", "")


def test_without_article() -> None:
    assert stories.parse(b"\n@highlight\n\nPoint\n") == Story("", "Point")
    assert stories.parse(b"") == Story("", "")


def test_bytes_that_are_not_utf8_are_replaced_and_told() -> None:
    assert stories.parse(b"caf\xe9 open\n@highlight\nx\n") == Story("caf\ufffd open", "x", utf8=False)


def test_byte_order_mark_is_no_text() -> None:
    assert stories.parse(b"\xef\xbb\xbf@highlight\nx\n") == Story("", "x")


@pytest.mark.parametrize("end", ["\r\n", "\r", "\x85", "\u2028", "\x0c"])
def test_no_line_end_survives(end: str) -> None:
    text = f"one{end}two{end}@highlight{end}three{end}four"
    assert stories.parse(text.encode("utf-8")) == Story("one two", "three four")


def test_blanks_inside_a_line_stay() -> None:
    assert stories.parse("a  b\u00a0c\t\n".encode()) == Story("a  b\u00a0c", "")


def test_name_is_the_sha1_of_the_url() -> None:
    # printf http://example.org/a | sha1sum
    assert stories.file_name("http://example.org/a\n") == "a08896bcf126c65e967fd209b47862d681912d66.story"


def test_lists_of_urls() -> None:
    assert stories.read_urls(b"http://a/b\r\n\nhttps://c/d\n", "list") == ["http://a/b", "https://c/d"]
    for wrong in (b"", b"<html>\n404\n</html>\n"):
        with pytest.raises(UserError, match=r"all_test\.txt is no list of urls"):
            stories.read_urls(wrong, "all_test.txt")
