"""One transfer from one address into NAME.part; resumes an earlier partial transfer of the same file."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import re
import shutil
import socket
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from rdrop_fairseq import files

TIMEOUT = 60  # seconds without a byte
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Every OSError of a connection: TLS that breaks and a network that is down are neither ConnectionError nor URLError.
NETWORK = (OSError, http.client.HTTPException)


class UnusableError(Exception):
    """The address answered, with something other than the file: it is thrown away."""


class BrokenError(Exception):
    """The connection failed or ended early: the bytes received so far are kept, so that another try can resume."""


class UnreachableError(Exception):
    """Trying this address again now is useless; the bytes received so far are kept."""


@dataclass(frozen=True)
class Source:
    """The file that a partial download belongs to: two answers with equal validators are the same bytes."""

    url: str
    validator: str | None
    total: int | None


def part_of(destination: Path) -> Path:
    """Where the bytes are collected."""
    return destination.with_name(destination.name + ".part")


def have(destination: Path) -> int:
    """How many bytes have been collected."""
    part = part_of(destination)
    return part.stat().st_size if part.exists() else 0


def discard(destination: Path) -> None:
    """Throws the part and its note away."""
    files.remove(part_of(destination))
    files.remove(_note(destination))


def receive(url: str, destination: Path, bar: tqdm[Any]) -> None:
    """Appends to the part until it is whole; raises BrokenError or UnreachableError, or OSError from the disk."""
    earlier = _earlier(url, destination)
    start = have(destination) if earlier is not None else 0
    if earlier is not None and earlier.total is not None and start == earlier.total:
        return
    stream, source, start = _open(url, earlier, start)
    with contextlib.closing(stream):
        if start == 0:
            with files.atomic(_note(destination), "w") as note:
                note.write(json.dumps(asdict(source)))
        if source.total is not None:
            _need_room(destination, source.total - start)
        bar.total, bar.initial, bar.n = source.total, start, start
        with open(part_of(destination), "ab" if start else "wb") as part:
            _copy(stream, part, bar)
    if source.total is not None and have(destination) != source.total:
        raise BrokenError(f"it ended after {have(destination):,} of {source.total:,} bytes")


def _copy(stream: IO[bytes], part: IO[bytes], bar: tqdm[Any]) -> None:
    while True:
        try:
            block = stream.read(files.BLOCK // 4)
        except http.client.IncompleteRead as error:
            part.write(error.partial)
            raise BrokenError("the connection ended early") from error
        except NETWORK as error:
            raise BrokenError(f"the connection broke ({error})") from error
        if not block:
            return
        part.write(block)
        bar.update(len(block))


def _open(url: str, earlier: Source | None, start: int) -> tuple[IO[bytes], Source, int]:
    """The bytes from `start` on, or from 0 if the file is not the one that the part began with."""
    if urlsplit(url).scheme == "file":
        return _open_local(url, earlier, start)
    headers = {"User-Agent": "rdrop_fairseq", "Accept-Encoding": "identity"}
    if start and earlier is not None and earlier.validator:
        headers.update({"Range": f"bytes={start}-", "If-Range": earlier.validator})
    try:
        answer = opener(url).open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the file is shorter than the part: another file
            return _open(url, None, 0)
        if error.code in (408, 429) or error.code >= 500:
            raise BrokenError(f"HTTP {error.code} {error.reason}") from error
        raise UnreachableError(f"HTTP {error.code} {error.reason}") from error
    except NETWORK as error:
        reason = getattr(error, "reason", error)
        where = urlsplit(url).hostname
        if isinstance(reason, socket.gaierror):
            raise BrokenError(f"the host {where} is not found") from error
        raise BrokenError(f"no connection to {where} ({reason})") from error
    except ValueError as error:
        raise UnreachableError(f"not an address ({error})") from error
    total = _length(answer.headers.get("Content-Length"))
    source = Source(url, _validator(answer.headers), total)
    if answer.status != 206:
        return answer, source, 0
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if span is None or earlier is None or int(span[1]) != start or int(span[2]) != earlier.total:
        answer.close()
        return _open(url, None, 0)
    return answer, earlier, start


def _open_local(url: str, earlier: Source | None, start: int) -> tuple[IO[bytes], Source, int]:
    path = Path(unquote(urlsplit(url).path))
    try:
        status = path.stat()
        stream = open(path, "rb")  # noqa: SIM115 (closed by the caller)
    except OSError as error:
        raise UnreachableError(f"no such file ({error.strerror})") from error
    source = Source(url, str(status.st_mtime_ns), status.st_size)
    if earlier != source:
        start = 0
    stream.seek(start)
    return stream, source, start


def opener(url: str) -> urllib.request.OpenerDirector:
    """Opener for `url`; a server on this machine is reached without the proxy that is set for the outside."""
    if urlsplit(url).hostname in LOOPBACK:
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def _validator(headers: http.client.HTTPMessage) -> str | None:
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):  # a weak tag does not promise equal bytes
        return tag
    return headers.get("Last-Modified")


def _length(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _need_room(destination: Path, needed: int) -> None:
    free = shutil.disk_usage(destination.parent).free
    if free < needed:
        # The error that the disk would give later, raised before the hours of transfer.
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed and {free:,} are free")


def begun_at(destination: Path) -> str | None:
    """The address that the part came from, to be tried first; None without a part."""
    source = _noted(destination)
    return source.url if source is not None else None


def _earlier(url: str, destination: Path) -> Source | None:
    """Source of the partial file, if this URL can resume it."""
    source = _noted(destination)
    return source if source is not None and source.url == url and source.validator else None


def _noted(destination: Path) -> Source | None:
    if not part_of(destination).exists():
        return None
    try:
        return Source(**json.loads(_note(destination).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _note(destination: Path) -> Path:
    return destination.with_name(destination.name + ".part.json")
