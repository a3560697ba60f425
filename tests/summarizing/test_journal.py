"""The journal of a generation: what was added is there again, unless it is another run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdrop_fairseq.summarizing.journal import Journal

TEXTS = {3: "three\u2028é", 1: ""}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new folder" / "out.partial"
    with Journal(path, "a") as journal:
        assert journal.texts == {}
        journal.add(TEXTS)
    return path


def test_same_run_goes_on(path: Path) -> None:
    with Journal(path, "a") as journal:
        assert journal.texts == TEXTS
        journal.add({2: "two"})
    with Journal(path, "a") as journal:
        assert journal.texts == {**TEXTS, 2: "two"}
        journal.remove()
    assert not path.exists()


def test_another_run_starts_anew(path: Path) -> None:
    with Journal(path, "b") as journal:
        assert journal.texts == {}
    with Journal(path, "a") as journal:
        assert journal.texts == {}


def test_killed_at_any_byte(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        lines = whole[:size].count(b"\n")
        with Journal(path, "a") as journal:
            assert journal.texts == dict(list(TEXTS.items())[: max(0, lines - 1)])
            journal.add({9: "after"})
        with Journal(path, "a") as journal:
            assert journal.texts[9] == "after"
            assert len(journal.texts) == max(0, lines - 1) + 1
