"""Unpacks .tgz, .tar.bz2, .tar, .gz and .zip as streams; no path inside an archive is trusted."""

from __future__ import annotations

import bz2
import contextlib
import fnmatch
import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm import tqdm

from rdrop_fairseq import files
from rdrop_fairseq.errors import UserError

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


@dataclass(frozen=True)
class Entry:
    """One member: its name, its bytes (None for a directory or a link), and the target of a link."""

    name: str
    content: IO[bytes] | None
    link: str | None = None


def unpack(archive: Path, directory: Path, members: Sequence[str] | None = None) -> None:
    """Unpacks `archive` so that `directory` appears whole or not at all.

    members: names or shell patterns (`*.de-en.*`) to take, all if None. A directory that is already there gets the
    files added, each moved in when whole. Bytes are streamed: memory does not depend on the size of the archive.
    Raises UserError for a damaged archive, for a member that would be written elsewhere or is not a plain file, for a
    link that leads out, and for a name in `members` that the archive does not have.
    """
    part = files.temporary(directory)
    files.remove(part)
    part.mkdir(parents=True)
    try:
        with files.explain_disk_full(directory), explain_damage(archive):
            _extract(archive, part, members)
        if directory.exists():
            for file in sorted(p for p in part.rglob("*") if p.is_file()):
                target = directory / file.relative_to(part)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
        else:
            os.replace(part, directory)
    finally:
        files.remove(part)


def check(archive: Path, name: str | None = None) -> None:
    """Reads the whole archive; raises UserError if it is cut short, damaged, or of another format than its name says.

    name: the archive's name, whose suffix tells the format, if the file is still called something else.
    """
    with explain_damage(archive):
        for entry in entries(archive, name or archive.name):
            while entry.content is not None and entry.content.read(files.BLOCK):
                pass


@contextlib.contextmanager
def explain_damage(archive: Path) -> Iterator[None]:
    """Turns errors of damaged archives into a UserError; put it around the whole loop that reads the entries."""
    try:
        yield
    except DAMAGE as error:
        raise UserError(
            f"{archive} is cut short or damaged ({error}): delete it and run the same command again"
        ) from error


def _extract(archive: Path, part: Path, members: Sequence[str] | None) -> None:
    links: list[tuple[PurePosixPath, PurePosixPath]] = []
    seen: list[str] = []
    for entry in entries(archive, archive.name):
        name = _inside(archive, entry.name)
        seen.append(str(name))
        if members is not None and not any(fnmatch.fnmatchcase(str(name), pattern) for pattern in members):
            continue
        if entry.link is not None:
            links.append((name, _inside(archive, entry.link)))
        elif entry.content is not None:
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as file:
                shutil.copyfileobj(entry.content, file, files.BLOCK)
    _follow(archive, part, links)
    _require(archive, members, seen)


def _follow(archive: Path, part: Path, links: Sequence[tuple[PurePosixPath, PurePosixPath]]) -> None:
    # Links become copies: no later write can go through one, and the result is the same data.
    for name, target in links:
        if not (part / target).is_file():
            raise UserError(f"{archive}: {name} is a link to {target}, which is not a file taken from this archive")
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(part / target, part / name)


def _require(archive: Path, members: Sequence[str] | None, seen: Sequence[str]) -> None:
    for pattern in members or ():
        if not fnmatch.filter(seen, pattern):
            some = ", ".join(seen[:5]) + (", ..." if len(seen) > 5 else "")
            raise UserError(f"{archive} has no {pattern} inside (it has {some or 'nothing'}): is it another release?")


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The member's path; raises UserError unless it stays below the directory that the archive is unpacked into."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")) or "\0" in name:
        raise UserError(f"{archive} would write outside its directory ({name!r}): refused, get it from another source")
    return path


def entries(archive: Path, name: str) -> Iterator[Entry]:
    """The members in order; read the content of each before asking for the next. See explain_damage."""
    with open(archive, "rb") as raw, _watched(raw, archive.stat().st_size, name) as file:
        if name.endswith((".zip", ".whl")):
            yield from _zip_entries(archive, file)
        elif name.endswith((".tgz", ".tar.gz", ".tar.bz2", ".tar")):
            yield from _tar_entries(archive, file, name)
        elif name.endswith(".gz"):
            with gzip.open(file) as content:
                yield Entry(name[: -len(".gz")], content)  # type: ignore[arg-type]
        else:
            raise UserError(f"{archive}: not a .tgz, .tar.gz, .tar.bz2, .tar, .gz, .zip or .whl")


def _tar_entries(archive: Path, file: IO[bytes], name: str) -> Iterator[Entry]:
    # GzipFile, not tarfile's own "r|gz": only the former notices a stream that ends early or has the wrong CRC.
    plain = name.endswith(".tar")
    stream: Any = file if plain else gzip.GzipFile(fileobj=file)
    if name.endswith(".bz2"):
        stream = _Bzip2(file)
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.isdir():
                yield Entry(member.name, None)
            elif member.isfile():
                yield Entry(member.name, tar.extractfile(member))
            elif member.issym():  # relative to its own folder; a hard link names a member
                yield Entry(member.name, None, _joined(member.name, member.linkname))
            elif member.islnk():
                yield Entry(member.name, None, member.linkname)
            else:
                raise UserError(f"{archive}: {member.name} is a device or a pipe: refused, get it from another source")
    while stream.read(files.BLOCK):  # to the end, where the CRC is
        pass
    if plain and not _ends_with_zeros(archive):
        raise EOFError("no end-of-archive mark")


class _Bzip2(bz2.BZ2File):
    """bz2's reader with EOFError for damaged data, where bz2 raises a bare OSError as a failing disk does."""

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(-1 if size is None else size)
        except OSError as error:
            if error.errno is not None:
                raise
            raise EOFError(str(error)) from error


def _ends_with_zeros(archive: Path) -> bool:
    """A whole tar ends with at least 1,024 zero bytes; tarfile does not notice one that was cut between two members."""
    with open(archive, "rb") as file:
        file.seek(-min(1024, archive.stat().st_size), os.SEEK_END)
        return not file.read().strip(b"\0")


def _joined(name: str, link: str) -> str:
    """The target of a symbolic link, with every `..` resolved that stays inside."""
    if link.startswith("/"):
        return link
    return os.path.normpath(os.path.join(os.path.dirname(name), link))


def _zip_entries(archive: Path, file: IO[bytes]) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as bundle:
        for info in bundle.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                yield Entry(info.filename, None)
            elif kind in (0, stat.S_IFREG):
                with bundle.open(info) as content:
                    yield Entry(info.filename, content)
            else:
                raise UserError(f"{archive}: {info.filename} is not a plain file: refused, get it from another source")


@contextlib.contextmanager
def _watched(raw: IO[bytes], total: int, name: str) -> Iterator[IO[bytes]]:
    """The file with a progress bar over its bytes."""
    with tqdm.wrapattr(
        raw, "read", total=total, desc=f"reading {name}", unit="B", unit_scale=True, leave=False, delay=2
    ) as file:
        yield file  # type: ignore[misc]  # (the wrapper passes on everything else)
