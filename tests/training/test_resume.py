"""Half-written checkpoints are told from whole ones."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from rdrop_fairseq.training import resume


def save_model(path: Path, seconds: int) -> Path:
    """A checkpoint that was last changed at `seconds`."""
    torch.save({"model": {"weight": torch.arange(5000.0)}}, path)
    os.utime(path, (seconds, seconds))
    return path


def test_a_cut_or_changed_checkpoint_is_not_whole(tmp_path: Path) -> None:
    path = save_model(tmp_path / "checkpoint_last.pt", 1)
    assert resume.is_whole(path)
    content = path.read_bytes()
    for cut in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        assert not resume.is_whole(path), cut
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert not resume.is_whole(path)
    assert not resume.is_whole(tmp_path / "none.pt")


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    assert resume.newest_whole(tmp_path) is None
    older, newer = (save_model(tmp_path / f"checkpoint_1_{n}.pt", n) for n in (100, 200))
    last = save_model(tmp_path / "checkpoint_last.pt", 201)
    assert resume.newest_whole(tmp_path) == last
    last.write_bytes(last.read_bytes()[:-100])  # as after a kill during fairseq's copy
    assert resume.newest_whole(tmp_path) == newer
    newer.unlink()
    assert resume.newest_whole(tmp_path) == older
    (tmp_path / "checkpoint_1_300.pt.tmp").write_bytes(b"half")
    older.unlink()
    assert resume.newest_whole(tmp_path) is None
