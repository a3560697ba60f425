"""The journal of a generation: what was added is there again, unless it is another run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.summarizing.journal import Journal

TEXTS = {3: "three\u2028é", 1: ""}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new folder" / "out.partial"
    journal = Journal(path, "a")
    assert journal.texts == {}
    journal.add(TEXTS)
    return path


def test_another_run_starts_anew(path: Path) -> None:
    assert Journal(path, "b").texts == {}
    assert Journal(path, "a").texts == {}


def test_killed_at_any_byte(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        lines = whole[:size].count(b"\n")
        journal = Journal(path, "a")
        assert journal.texts == dict(list(TEXTS.items())[: max(0, lines - 1)])
        journal.add({9: "after"})
        texts = Journal(path, "a").texts
        assert texts[9] == "after"
        assert len(texts) == max(0, lines - 1) + 1


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "a")
    journal._file = open("/dev/full", "ab")  # noqa: SIM115 (closed with the journal)
    with pytest.raises(UserError, match="the disk is full"):
        journal.add(TEXTS)
