from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import ssl
from pathlib import Path
from unittest.mock import Mock

import pytest
from flaky_server import Site, serving

from rdrop_fairseq.corpus import download, transfer
from rdrop_fairseq.errors import UserError

# Random, so that a part glued to the wrong rest cannot go unnoticed.
TEXT = os.urandom(300_000)
GZ = gzip.compress(TEXT)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download, "BACKOFF", (0.0, 0.0))
    monkeypatch.delenv("DATA_MIRROR", raising=False)


@pytest.fixture
def site():
    with serving(Site(files={"a/b/text.gz": GZ})) as site:
        yield site


def fetch(site, folder, name="text.gz", **options):
    return download.fetch([f"{site.url}/a/b/text.gz"], folder / name, **options)


def left_overs(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in ("text.gz", "downloads.json"))


def test_a_file_comes_whole_and_is_recorded(site, tmp_path):
    path = fetch(site, tmp_path)
    assert path.read_bytes() == GZ
    entry = json.loads((tmp_path / "downloads.json").read_text())["text.gz"]
    assert entry == {"url": f"{site.url}/a/b/text.gz", "size": len(GZ), "sha256": hashlib.sha256(GZ).hexdigest()}
    assert left_overs(tmp_path) == []


def test_a_second_fetch_asks_nobody(site, tmp_path):
    fetch(site, tmp_path)
    fetch(site, tmp_path)
    assert len(site.requests) == 1


def test_a_broken_connection_goes_on_where_it_broke(site, tmp_path):
    site.plan, site.cut_after = ["cut", "cut"], 100_000
    assert fetch(site, tmp_path).read_bytes() == GZ
    assert [wanted for _, wanted in site.requests] == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed or bad record mac"),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)),
    ],
)
def test_a_connection_that_breaks_in_tls_or_below_goes_on_where_it_broke(site, tmp_path, monkeypatch, error):
    copy = transfer._copy

    def breaking(stream, part, bar):
        monkeypatch.setattr(transfer, "_copy", copy)
        part.write(stream.read(100_000))
        monkeypatch.setattr(stream, "read", Mock(side_effect=error))
        copy(stream, part, bar)

    monkeypatch.setattr(transfer, "_copy", breaking)
    assert fetch(site, tmp_path).read_bytes() == GZ
    assert [wanted for _, wanted in site.requests] == [None, "bytes=100000-"]


def test_an_answer_that_breaks_in_tls_is_asked_for_again(site, tmp_path, monkeypatch):
    usual, answers = transfer.opener, [ssl.SSLEOFError(8, "EOF occurred in violation of protocol")]
    failing = Mock(open=Mock(side_effect=answers))
    openers = iter([failing])
    monkeypatch.setattr(transfer, "opener", lambda url: next(openers, usual(url)))
    assert fetch(site, tmp_path).read_bytes() == GZ
    failing.open.assert_called_once()


def test_the_next_run_goes_on_where_the_last_one_gave_up(site, tmp_path):
    site.plan, site.cut_after = ["cut", "503", "503"], 100_000
    with pytest.raises(UserError, match=r"HTTP 503.*then run this again"):
        fetch(site, tmp_path)
    assert (tmp_path / "text.gz.part").stat().st_size == 100_000
    assert fetch(site, tmp_path).read_bytes() == GZ
    assert site.requests[-1] == ("/a/b/text.gz", "bytes=100000-")


def test_a_changed_file_is_never_glued_to_the_part_of_the_old_one(site, tmp_path):
    (tmp_path / "text.gz.part").write_bytes(b"x" * 1000)
    source = transfer.Source(f"{site.url}/a/b/text.gz", '"older"', len(GZ))
    (tmp_path / "text.gz.part.json").write_text(json.dumps(vars(source)))
    assert fetch(site, tmp_path).read_bytes() == GZ


def test_a_server_without_validators_starts_over(site, tmp_path):
    site.etag = None
    site.plan, site.cut_after = ["cut"], 100_000
    assert fetch(site, tmp_path).read_bytes() == GZ
    assert [wanted for _, wanted in site.requests] == [None, None]


@pytest.mark.parametrize(("ranges", "plan"), [(False, ["cut"]), (True, ["503", "503"])])
def test_a_server_that_ignores_ranges_starts_over_and_passing_errors_are_waited_out(site, tmp_path, ranges, plan):
    site.ranges, site.plan, site.cut_after = ranges, plan, 100_000
    assert fetch(site, tmp_path).read_bytes() == GZ


def test_a_cut_without_a_length_is_noticed_by_the_archive(site, tmp_path):
    site.length = False
    site.plan, site.cut_after = ["cut"], 100_000
    with pytest.raises(UserError, match="cut short or damaged"):
        fetch(site, tmp_path)
    assert fetch(site, tmp_path).read_bytes() == GZ


def test_not_found_is_said_once_and_not_retried(site, tmp_path):
    with pytest.raises(UserError, match=r"^b\.gz could not be fetched .*HTTP 404.*DATA_MIRROR") as caught:
        download.fetch([f"{site.url}/b.gz"], tmp_path / "b.gz")
    assert len(site.requests) == 1
    assert "\n" not in str(caught.value)
    assert left_overs(tmp_path) == []


def test_a_missing_host_or_a_refused_connection_is_one_sentence(tmp_path):
    with serving(Site()) as gone:
        address = gone.url
    for host, message in (
        ("http://no-such-host.invalid", r"the host no-such-host\.invalid is not found"),
        (address, r"no connection to 127\.0\.0\.1"),
    ):
        with pytest.raises(UserError, match=message):
            download.fetch([f"{host}/a.gz"], tmp_path / "a.gz")


def test_the_next_mirror_is_asked(site, tmp_path):
    urls = [f"{site.url}/gone.gz", "http://no-such-host.invalid/text.gz", f"{site.url}/a/b/text.gz"]
    assert download.fetch(urls, tmp_path / "text.gz").read_bytes() == GZ


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>Not found</html>", b"\n <HTML><body>Sorry</body></HTML>"])
@pytest.mark.parametrize("name", ["text.gz", "encoder.json"])
def test_a_web_page_is_not_the_file(site, tmp_path, page, name):
    """Nor is its checksum recorded, which would keep the right file out later."""
    site.files["a/b/text.gz"] = page
    with pytest.raises(UserError, match="what came is a web page"):
        fetch(site, tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_known_checksum_is_verified(site, tmp_path):
    with pytest.raises(UserError, match="its sha256 is not 0000"):
        fetch(site, tmp_path, sha256="0000")
    good = hashlib.sha256(GZ).hexdigest()
    assert fetch(site, tmp_path, sha256=good).read_bytes() == GZ


def test_the_first_download_is_what_counts_from_then_on(site, tmp_path):
    fetch(site, tmp_path)
    (tmp_path / "text.gz").unlink()
    site.files["a/b/text.gz"] = gzip.compress(TEXT + b"!")
    with pytest.raises(UserError, match="its sha256 is not"):
        fetch(site, tmp_path)
    assert not (tmp_path / "text.gz").exists()


def test_a_file_that_changed_on_disk_is_refused(site, tmp_path):
    path = fetch(site, tmp_path)
    path.write_bytes(GZ[:-1])
    with pytest.raises(UserError, match=r"does not have the sha256 .*delete it to fetch"):
        fetch(site, tmp_path)


def test_a_file_put_there_by_hand_is_taken_and_recorded(tmp_path):
    (tmp_path / "text.gz").write_bytes(GZ)
    download.fetch(["http://no-such-host.invalid/text.gz"], tmp_path / "text.gz")
    assert download.entry(tmp_path / "text.gz")["sha256"] == hashlib.sha256(GZ).hexdigest()


def test_a_cut_file_put_there_by_hand_is_refused(tmp_path):
    (tmp_path / "text.gz").write_bytes(GZ[:-9])
    with pytest.raises(UserError, match="cut short or damaged"):
        download.fetch(["http://no-such-host.invalid/text.gz"], tmp_path / "text.gz")


def test_a_full_disk_keeps_what_came(site, tmp_path, monkeypatch):
    copy = transfer._copy

    def full(stream, part, bar):
        part.write(stream.read(50_000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(transfer, "_copy", full)
    with pytest.raises(UserError, match=r"^the disk is full"):
        fetch(site, tmp_path)
    monkeypatch.setattr(transfer, "_copy", copy)
    assert fetch(site, tmp_path).read_bytes() == GZ
    assert site.requests[-1] == ("/a/b/text.gz", "bytes=50000-")


def test_too_small_a_disk_is_told_before_the_transfer(site, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"^the disk is full"):
        fetch(site, tmp_path)


class TestMirror:
    URLS = ("http://no-such-host.invalid/x/y/text.gz", "http://other.invalid/z/text.gz")

    def place(self, folder: Path, name: str) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(GZ)

    @pytest.mark.parametrize("name", ["text.gz", "x/y/text.gz", "z/text.gz"])
    @pytest.mark.parametrize("prefix", ["file://", ""])
    def test_replaces_the_hosts(self, tmp_path, monkeypatch, name, prefix):
        mirror = tmp_path / "mir"
        self.place(mirror, name)
        monkeypatch.setenv("DATA_MIRROR", f"{prefix}{mirror}/")
        assert download.fetch(self.URLS, tmp_path / "text.gz").read_bytes() == GZ

    def test_a_folder_with_a_space(self, tmp_path, monkeypatch):
        self.place(tmp_path / "my mirror", "text.gz")
        for mirror in (f"file://{tmp_path}/my%20mirror", str(tmp_path / "my mirror")):
            monkeypatch.setenv("DATA_MIRROR", mirror)
            (tmp_path / "text.gz").unlink(missing_ok=True)
            assert download.fetch(self.URLS, tmp_path / "text.gz").read_bytes() == GZ

    def test_over_http(self, site, tmp_path, monkeypatch):
        monkeypatch.setenv("DATA_MIRROR", f"{site.url}/a/b")
        assert download.fetch(self.URLS, tmp_path / "text.gz").read_bytes() == GZ
        assert [path for path, _ in site.requests] == ["/a/b/x/y/text.gz", "/a/b/z/text.gz", "/a/b/text.gz"]

    def test_never_asks_the_hosts(self, site, tmp_path, monkeypatch):
        monkeypatch.setenv("DATA_MIRROR", f"file://{tmp_path}/nothing")
        with pytest.raises(UserError, match=r"no such file .*unset DATA_MIRROR"):
            fetch(site, tmp_path)
        assert site.requests == []

    def test_a_local_copy_is_resumed_only_if_the_same(self, tmp_path, monkeypatch):
        self.place(tmp_path / "mir", "text.gz")
        url = f"file://{tmp_path}/mir/text.gz"
        mtime = str((tmp_path / "mir/text.gz").stat().st_mtime_ns)
        for validator, start in ((mtime, GZ[:1000]), ("1", b"x" * 1000)):
            (tmp_path / "text.gz").unlink(missing_ok=True)
            (tmp_path / "text.gz.part").write_bytes(start)
            source = transfer.Source(url, validator, len(GZ))
            (tmp_path / "text.gz.part.json").write_text(json.dumps(vars(source)))
            assert download.fetch([url], tmp_path / "text.gz").read_bytes() == GZ
