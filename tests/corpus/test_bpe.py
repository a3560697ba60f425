from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from rdrop_fairseq.corpus import bpe
from rdrop_fairseq.errors import UserError

SPACED = ["  two   spaces  inside ", " ", "", "tab\tstays", "no\u00a0break", "thin\u2009space", "x", "ein\u200bzwei"]


def text(seed: int, count: int = 400) -> str:
    """Lines of made-up words, some seen often, some once; nasty white space; the last line without a newline."""
    choose = random.Random(seed)
    syllables = ["ba", "der", "ing", "ö", "ß", "狗", "un", "s", "th", "e", "&amp;", "@-@", "😀", "</w>", "@@"]
    words = ["".join(choose.choices(syllables, k=choose.randint(1, 5))) for _ in range(200)]
    lines = [" ".join(choose.choices(words, k=choose.randint(1, 20))) for _ in range(count)]
    return "\n".join([*lines, *SPACED, "last line"])


def subword_nmt(module: str, *options: str, given: bytes) -> bytes:
    """The original tool, as the published scripts run it."""
    command = [sys.executable, "-m", f"subword_nmt.{module}", *options]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True, env=environment).stdout


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    for seed, name in enumerate(("de", "en")):
        (folder / name).write_text(text(seed), encoding="utf-8", newline="\n")
    return folder / "de", folder / "en"


@pytest.fixture(scope="module")
def original(sides):
    # a newline between the two, as in any text that was made line by line
    joined = b"".join(side.read_bytes() + b"\n" for side in sides)
    return subword_nmt("learn_bpe", "-s", "150", given=joined)


@pytest.fixture
def small_tasks(monkeypatch):
    """So small that the text is cut into dozens of tasks, and within lines of more than one byte per character."""
    monkeypatch.setattr(bpe, "TASK_BYTES", 1000)
    monkeypatch.setattr(bpe, "BLOCK_BYTES", 70)
    monkeypatch.setattr("rdrop_fairseq.corpus.lines.CHUNK_BYTES", 500)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_codes_are_those_of_the_original_tool(sides, original, tmp_path, small_tasks, workers):
    counts = bpe.learn(sides, tmp_path / "code", 150, workers)
    assert (tmp_path / "code").read_bytes() == original
    assert counts["operations"] == 150
    words = [word for side in sides for word in side.read_text(encoding="utf-8").replace("\n", " ").split(" ") if word]
    assert (counts["words"], counts["types"]) == (len(words), len(set(words)))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_segments_are_those_of_the_original_tool(sides, original, tmp_path, small_tasks, workers):
    (tmp_path / "code").write_bytes(original)
    for side in sides:
        bpe.apply(tmp_path / "code", side, tmp_path / "out", workers)
        expected = subword_nmt("apply_bpe", "-c", str(tmp_path / "code"), given=side.read_bytes())
        assert (tmp_path / "out").read_bytes() == expected + b"\n"


@pytest.mark.parametrize("size", range(1, 14))
def test_each_line_is_counted_once_wherever_the_tasks_begin(tmp_path, monkeypatch, size):
    """At 3, 6, ... a task ends with a newline, and the next one begins with a line."""
    monkeypatch.setattr(bpe, "TASK_BYTES", size)
    (tmp_path / "text").write_text("aa\nbb\ncc\ndd\n")
    assert bpe.count_words([tmp_path / "text"]) == {"aa": 1, "bb": 1, "cc": 1, "dd": 1}


def test_a_full_memory_changes_nothing(sides, original, tmp_path, monkeypatch):
    (tmp_path / "code").write_bytes(original)
    bpe.apply(tmp_path / "code", sides[0], tmp_path / "out")
    monkeypatch.setattr(bpe, "CACHE_WORDS", 3)
    bpe.apply(tmp_path / "code", sides[0], tmp_path / "small")
    assert (tmp_path / "small").read_bytes() == (tmp_path / "out").read_bytes()


def test_by_hand(tmp_path):
    """low x5, lower x2, newest x6, widest x3: s-t and e-st are seen 9 times (as e-s, but s > e), then l-o 7 times."""
    words = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    (tmp_path / "text").write_text(" ".join(words) + "\n")
    bpe.learn([tmp_path / "text"], tmp_path / "code", 3)
    assert (tmp_path / "code").read_text() == "#version: 0.2\ns t</w>\ne st</w>\nl o\n"
    assert bpe.Segmenter(tmp_path / "code")(" lowest  x ") == " lo@@ w@@ est x "


def test_too_few_pairs_are_said_in_the_counts(tmp_path):
    (tmp_path / "text").write_text("ab ab ab c\n")
    assert bpe.learn([tmp_path / "text"], tmp_path / "code", 50) == {"words": 4, "types": 2, "operations": 1}


@pytest.mark.parametrize("content", ["", "\n\n", "a b c\n"])
def test_nothing_to_learn_from_is_an_error(tmp_path, content):
    (tmp_path / "text").write_text(content)
    with pytest.raises(UserError, match="no word of two characters"):
        bpe.learn([tmp_path / "text"], tmp_path / "code", 5)


def test_text_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "text").write_bytes(b"gut\nschlecht \xff\n")
    with pytest.raises(UserError, match=r"text is not UTF-8"):
        bpe.learn([tmp_path / "text"], tmp_path / "code", 5)
    assert not (tmp_path / "code").exists()


def test_missing_codes_are_named(tmp_path):
    with pytest.raises(UserError, match=r"code: no such BPE codes"):
        bpe.Segmenter(tmp_path / "code")
