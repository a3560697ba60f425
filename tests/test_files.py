from __future__ import annotations

import errno
import hashlib
import io

import pytest
import torch

from rdrop_fairseq import files
from rdrop_fairseq.errors import UserError


def test_an_atomic_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.atomic(path, "w") as file:
        file.write("é\r\n")
        assert not path.exists()
    assert path.read_bytes() == "é\r\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def interrupted():
        with files.atomic(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(tmp_path, number):
    with pytest.raises(UserError, match=r"^the disk is full, no room for .*a\.txt"), files.atomic(tmp_path / "a.txt"):
        raise OSError(number, "no space")


class SmallDisk(io.FileIO):
    """A file on a disk with room for 1 MB."""

    def write(self, data):
        if self.tell() + len(data) > 1_000_000:
            raise OSError(errno.ENOSPC, "no space")
        return super().write(data)


def test_a_disk_that_fills_while_a_checkpoint_is_saved(tmp_path, monkeypatch):
    """torch.save then raises a RuntimeError of its own, "unexpected pos", from the OSError."""
    (tmp_path / "a.pt").write_bytes(b"old")
    monkeypatch.setattr(files, "open", lambda path, _: io.BufferedWriter(SmallDisk(path, "wb")), raising=False)
    full = pytest.raises(UserError, match=r"^the disk is full, no room for .*a\.pt")
    with full, files.atomic(tmp_path / "a.pt") as file:
        torch.save([torch.zeros(100_000) for _ in range(5)], file)
    assert (tmp_path / "a.pt").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), files.atomic(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "denied")
    with pytest.raises(RuntimeError, match="a bug"), files.atomic(tmp_path / "a.txt"):
        raise RuntimeError("a bug")


def test_sha256_of_a_file_and_of_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    one = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert files.sha256(tmp_path / "a") == one
    assert files.sha256(tmp_path) == hashlib.sha256(f"{one}  a\n".encode()).hexdigest()
    assert files.size(tmp_path) == 3_000_000


def test_a_folder_replaces_a_folder(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a").touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old/b").touch()
    files.move_into_place(tmp_path / "new", tmp_path / "old")
    assert [p.name for p in (tmp_path / "old").iterdir()] == ["a"]
