"""Pairs of text files: found by their names, cleaned, counted."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from rdrop_fairseq.corpus import article_pairs, xsum
from rdrop_fairseq.corpus.stories import Story
from rdrop_fairseq.errors import UserError


def written(keep_all: bool, source: bytes, target: bytes, folder: Path) -> tuple[bytes, bytes, dict[str, int]]:
    (folder / "s").write_bytes(source)
    (folder / "t").write_bytes(target)
    out = io.BytesIO(), io.BytesIO()
    writer = article_pairs.PairWriter(*out, keep_all=keep_all)
    article_pairs.copy(folder / "s", folder / "t", writer, "test")
    return out[0].getvalue(), out[1].getvalue(), dict(writer.counts)


SOURCE = b" An article\rwith a return \n\nOne\ncaf\xe9 here\nno summary\xe2\x80\xa8below\n"
TARGET = b"its summary\nempty article\none word\nlatin one\n  \n"


def test_each_special_pair_is_handled_and_counted(tmp_path: Path) -> None:
    source, target, counts = written(False, SOURCE, TARGET, tmp_path)
    assert source.decode() == "An article with a return\n\nOne\ncaf\ufffd here\n"
    assert target == b"its summary\nempty article\none word\nlatin one\n"
    assert counts == {
        "pairs": 4,
        "dropped_without_summary": 1,
        "empty_summary": 0,
        "empty_article": 1,
        "one_word_article": 1,
        "not_utf8": 1,
        "source_words": 5 + 0 + 1 + 2,
        "target_words": 2 + 2 + 2 + 2,
    }


def test_a_test_set_keeps_its_lines(tmp_path: Path) -> None:
    source, target, counts = written(True, SOURCE, TARGET, tmp_path)
    assert source.decode().split("\n")[4] == "no summary below"
    assert target.split(b"\n")[4:] == [b"", b""]
    assert (counts["pairs"], counts["empty_summary"], counts["dropped_without_summary"]) == (5, 1, 0)


def test_last_line_without_newline(tmp_path: Path) -> None:
    assert written(False, b"a\nb", b"c\nd", tmp_path)[:2] == (b"a\nb\n", b"c\nd\n")


@pytest.mark.parametrize(("source", "target", "lines"), [(b"a\nb\nc\n", b"x\n", (3, 1)), (b"a\n", b"x\ny\nz", (1, 3))])
def test_files_that_do_not_match(tmp_path: Path, source: bytes, target: bytes, lines: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=f"s has {lines[0]} lines and .*t has {lines[1]}: "):
        written(False, source, target, tmp_path)


@pytest.mark.parametrize(
    ("split", "source", "target"),
    [
        ("train", "train.source", "train.target"),
        ("val", "val.source", "val.target"),
        ("val", "validation.document", "validation.summary"),
        ("test", "test.article", "test.highlights"),
    ],
)
def test_usual_names_are_found(tmp_path: Path, split: str, source: str, target: str) -> None:
    assert article_pairs.find(tmp_path, split) is None
    (tmp_path / source).touch()
    with pytest.raises(UserError, match=f"{source} is alone"):
        article_pairs.find(tmp_path, split)
    (tmp_path / target).touch()
    assert article_pairs.find(tmp_path, split) == (tmp_path / source, tmp_path / target)


XSUM = """[SN]URL[SN]
http://example.org/1

[SN]TITLE[SN]
Ann wins

[SN]FIRST-SENTENCE[SN]
Ann has won
the race.

[SN]RESTBODY[SN]
Share this with
Email
It was hot.

"I am glad," she said.
"""


def test_xsum_sections() -> None:
    assert xsum.parse(XSUM.encode()) == Story('It was hot. "I am glad," she said.', "Ann has won the race.")
    assert xsum.parse(b"no marks") == Story("", "")
    assert not xsum.parse(XSUM.encode() + b"\xff").utf8


def test_xsum_split_file(tmp_path: Path) -> None:
    path = tmp_path / xsum.SPLIT_FILE
    path.write_text('{"train": ["3", "1"], "validation": ["2"], "test": []}')
    assert xsum.read_split(tmp_path) == {"train": ["3", "1"], "val": ["2"], "test": []}
    path.write_text('{"train": []}')
    with pytest.raises(UserError, match="is not XSum's list of ids"):
        xsum.read_split(tmp_path)
