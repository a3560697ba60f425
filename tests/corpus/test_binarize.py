from __future__ import annotations

import shutil
import sys
from collections import Counter

import pytest
from fairseq.binarizer import BinarizeSummary
from warm_python import REAL

from rdrop_fairseq import files
from rdrop_fairseq.corpus import binarize
from rdrop_fairseq.errors import UserError

pytestmark = pytest.mark.usefixtures("warm")

COUNTS = {"sentences": 2, "tokens": 6, "unknown_percent": 0.0}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my, text")  # a comma and a space: fairseq-preprocess would cut at the comma
    for split in ("train", "valid", "test"):
        (folder / f"{split}.de").write_text("ein Hund\nein Haus\n")
        (folder / f"{split}.en").write_text("a dog\na house\n")
    return folder


@pytest.fixture(scope="module")
def joined(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "bin"
    assert binarize.binarize(text, folder, "de", "en", workers=1)["train.de"] == COUNTS
    return folder


def test_one_dictionary_for_both_sides(joined):
    entries = (joined / "dict.de.txt").read_text()
    assert entries.split("\n")[:2] == ["a 2", "ein 2"]  # most frequent first, then by the alphabet
    assert (joined / "dict.en.txt").read_text() == entries
    pieces = [f"{split}.de-en.{x}" for split in ("train", "valid", "test") for x in ("de", "en")]
    kinds = [f"{piece}.{kind}" for piece in pieces for kind in ("bin", "idx")]
    assert sorted(path.name for path in joined.iterdir()) == sorted(["dict.de.txt", "dict.en.txt", *kinds])
    assert [path.name for path in joined.parent.iterdir()] == ["bin"]


def test_counts_with_a_tiny_share_of_unknown_words_are_read(text, tmp_path, monkeypatch):
    """As fairseq prints 50 words in 136 million, for example."""
    summary = BinarizeSummary(4_500_000, Counter({"rare": 50}), 136_000_000)
    said = f"INFO | [de] train.de: {summary} (by <unk>)"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nwhile [ "$1" != --destdir ]; do shift; done\nmkdir -p "$2"\necho "{said}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(binarize.sys, "executable", str(python))
    counts = binarize.binarize(text, tmp_path / "bin", "de", "en")
    assert counts == {"train.de": {"sentences": 4_500_000, "tokens": 136_000_000, "unknown_percent": 3.68e-05}}


def test_given_dictionaries_and_more_workers(text, joined, tmp_path):
    given = (joined / "dict.de.txt", joined / "dict.en.txt")
    binarize.binarize(text, tmp_path / "bin", "de", "en", dictionaries=given, workers=2)
    for path in joined.iterdir():
        assert (tmp_path / "bin" / path.name).read_bytes() == path.read_bytes()


def test_a_failure_is_one_sentence_and_leaves_the_old_data(text, tmp_path):
    shutil.copytree(text, tmp_path / "text")
    (tmp_path / "text/valid.en").unlink()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/old").touch()
    with pytest.raises(UserError, match=r"fairseq-preprocess failed on .*text \(.*valid\.en"):
        binarize.binarize(tmp_path / "text", tmp_path / "bin", "de", "en")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "text"]
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["old"]


def test_a_killed_worker_ends_it_in_one_sentence(text, tmp_path, monkeypatch):
    """fairseq's pool would wait for ever; here the alarm then ends it, with another message."""
    killed = "import os, signal\nsignal.alarm(60)\n"
    killed += "os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    (tmp_path / "sitecustomize.py").write_text(killed)  # Python runs it in every process that it starts
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{files.PACKAGE.parent}")
    monkeypatch.setattr(binarize.sys, "executable", REAL)  # a warm one has started before
    with pytest.raises(UserError, match=r"failed on .*: a worker process was killed, .*: use fewer --workers$"):
        binarize.binarize(text, tmp_path / "bin", "de", "en", workers=2)
    assert [path.name for path in tmp_path.iterdir() if "bin" in path.name] == []


def test_a_killed_process_ends_in_one_sentence(text, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho INFO: binarizing\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(binarize.sys, "executable", str(python))
    with pytest.raises(UserError, match=r"was killed by signal 9 on .*, perhaps for memory: use fewer --workers$"):
        binarize.binarize(text, tmp_path / "bin", "de", "en")


def test_an_empty_set_is_named_before_fairseq_fails_on_it(text, tmp_path):
    shutil.copytree(text, tmp_path / "text")
    (tmp_path / "text/valid.en").write_text("")
    with pytest.raises(UserError, match=r"valid\.en has no line, and fairseq cannot use an empty set"):
        binarize.binarize(tmp_path / "text", tmp_path / "bin", "de", "en")
    with pytest.raises(UserError, match=r"valid\.en has no line"):
        binarize.binarize_column({"valid": tmp_path / "text/valid.en"}, tmp_path / "bin", None)


def test_a_missing_fairseq_is_said(text, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # -S: no site-packages
    python.chmod(0o755)
    monkeypatch.setattr(binarize.sys, "executable", str(python))
    with pytest.raises(UserError, match=r'not installed: pip install -c constraints\.txt -e "\.\[fairseq\]"'):
        binarize.binarize(text, tmp_path / "bin", "de", "en")
