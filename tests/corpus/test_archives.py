from __future__ import annotations

import errno
import gzip
import io
import tarfile
import zipfile

import pytest

from rdrop_fairseq.corpus import archives
from rdrop_fairseq.errors import UserError

FILES = {"x/a.txt": b"alpha\n", "x/y/b.txt": b"beta\r\n" * 1000, "c.txt": b""}


def tar_of(path, members, mode="w:gz"):
    """members: (name, bytes) or a TarInfo."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("name", "mode"), [("a.tgz", "w:gz"), ("a.tar.gz", "w:gz"), ("a.tar", "w")])
def test_tar(tmp_path, name, mode):
    archives.unpack(tar_of(tmp_path / name, FILES.items(), mode), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_names_that_begin_with_a_dot_and_folders(tmp_path):
    members = [special("./", tarfile.DIRTYPE), special("./x", tarfile.DIRTYPE), ("./x/a.txt", b"alpha\n")]
    archives.unpack(tar_of(tmp_path / "a.tgz", members), tmp_path / "out", ["x/a.txt"])
    assert contents(tmp_path / "out") == {"x/a.txt": b"alpha\n"}


def test_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        for name, data in FILES.items():
            bundle.writestr(name, data)
    archives.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_gz(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"alpha\n"))
    archives.unpack(tmp_path / "a.txt.gz", tmp_path / "out")
    assert contents(tmp_path / "out") == {"a.txt": b"alpha\n"}


def test_only_the_members_asked_for(tmp_path):
    archive = tar_of(tmp_path / "a.tgz", FILES.items())
    archives.unpack(archive, tmp_path / "out", ["c.txt", "x/*.txt"])
    assert contents(tmp_path / "out") == FILES
    archives.unpack(archive, tmp_path / "one", ["x/a.txt"])
    assert contents(tmp_path / "one") == {"x/a.txt": b"alpha\n"}
    with pytest.raises(UserError, match=r"a\.tgz has no x/d\.txt inside \(it has x/a\.txt, x/y/b\.txt, c\.txt\)"):
        archives.unpack(archive, tmp_path / "two", ["x/d.txt"])
    assert not (tmp_path / "two").exists()


def test_a_folder_that_is_there_keeps_its_files(tmp_path):
    (tmp_path / "out/x").mkdir(parents=True)
    (tmp_path / "out/x/old.txt").write_bytes(b"old\n")
    archives.unpack(tar_of(tmp_path / "a.tgz", FILES.items()), tmp_path / "out")
    assert contents(tmp_path / "out") == {**FILES, "x/old.txt": b"old\n"}


@pytest.mark.parametrize("name", ["../evil.txt", "x/../../evil.txt", "/evil.txt", "x\\..\\..\\evil.txt", "C:/evil.txt"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    archive = tar_of(tmp_path / "a.tgz", [("good.txt", b"good"), (name, b"evil")])
    with pytest.raises(UserError, match="would write outside its directory"):
        archives.unpack(archive, tmp_path / "in/out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tgz", "in"]


def test_a_zip_with_a_name_that_leads_out_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("../evil.txt", b"evil")
    with pytest.raises(UserError, match="would write outside its directory"):
        archives.unpack(tmp_path / "a.zip", tmp_path / "in/out")
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("link", ["/etc/passwd", "../../outside", "../.."])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_that_leads_out_is_refused(tmp_path, kind, link):
    archive = tar_of(tmp_path / "a.tgz", [special("x/link", kind, link), ("x/link/evil.txt", b"evil")])
    with pytest.raises(UserError, match="would write outside its directory"):
        archives.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_inside_become_copies(tmp_path):
    links = [special("x/soft", tarfile.SYMTYPE, "../c.txt"), special("x/hard", tarfile.LNKTYPE, "x/a.txt")]
    archives.unpack(tar_of(tmp_path / "a.tgz", [*FILES.items(), *links]), tmp_path / "out")
    assert contents(tmp_path / "out") == {**FILES, "x/soft": b"", "x/hard": b"alpha\n"}
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_a_link_to_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"x/soft is a link to x/nothing, which"):
        archives.unpack(tar_of(tmp_path / "a.tgz", [special("x/soft", tarfile.SYMTYPE, "nothing")]), tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_refused(tmp_path, kind):
    with pytest.raises(UserError, match="x/device is a device or a pipe"):
        archives.unpack(tar_of(tmp_path / "a.tgz", [special("x/device", kind)]), tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tgz", "a.tar"])
def test_every_cut_is_noticed(tmp_path, name):
    """Whatever length a transfer stopped at, also between two members of a .tar."""
    whole = tar_of(tmp_path / name, FILES.items(), "w" if name == "a.tar" else "w:gz").read_bytes()
    # A tar is padded with zeros to 10,240 bytes: without some of the padding it is still whole.
    end = len(whole.rstrip(b"\0")) if name == "a.tar" else len(whole)
    for length in range(0, end, 64 if name == "a.tar" else 1):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut short or damaged"):
            archives.unpack(tmp_path / name, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_flipped_bit_is_noticed(tmp_path):
    whole = bytearray(tar_of(tmp_path / "a.tgz", [("r.bin", bytes(range(256)) * 50)]).read_bytes())
    whole[-6] ^= 1  # in the CRC
    (tmp_path / "a.tgz").write_bytes(whole)
    with pytest.raises(UserError, match="damaged"):
        archives.check(tmp_path / "a.tgz")


def test_an_unknown_format_is_refused(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(UserError, match=r"a\.rar: not a \.tgz"):
        archives.unpack(tmp_path / "a.rar", tmp_path / "out")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    archive = tar_of(tmp_path / "a.tgz", FILES.items())
    with pytest.raises(UserError, match=r"^the disk is full"):
        archives.unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]
