"""Files that appear only when they are whole; size and sha256 of files and folders."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from rdrop_fairseq.errors import UserError

PACKAGE = Path(__file__).resolve().parent  # what --user-dir names
BLOCK = 1 << 20


def temporary(path: Path) -> Path:
    """Where `path` is written before it is moved into place: same folder, so that the move is a rename.

    The name is fixed, so the next run overwrites what a killed one left behind.
    """
    return path.with_name(path.name + ".tmp")


@contextlib.contextmanager
def explain_disk_full(path: Path) -> Iterator[None]:
    """Turns "no space left" while writing `path` into a UserError that names the way out."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save hides the first one behind a RuntimeError of its zip writer ("unexpected pos")
        first = error if isinstance(error, OSError) else error.__context__
        if not isinstance(first, OSError) or first.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk is full, no room for {path}: free some space and run the same command again, which resumes there"
        ) from error


@contextlib.contextmanager
def atomic(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file to write (`wb`, or `w`: UTF-8 with plain newlines) that becomes `path` only if the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with explain_disk_full(path):
            with open(part, mode, **text) as file:  # type: ignore[call-overload]
                yield file
            os.replace(part, path)
    except BaseException:
        remove(part)
        raise


def remove(path: Path) -> None:
    """Removes a file or a whole directory, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move_into_place(part: Path, path: Path) -> None:
    """Renames the finished `part` (file or directory) to `path`, replacing what is there."""
    if path.is_dir() and not path.is_symlink():
        remove(path)
    os.replace(part, path)


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file; of a directory, that of its sorted list of (name, sha256)."""
    digest = hashlib.sha256()
    if path.is_dir():
        for name in _names(path):
            digest.update(f"{sha256(path / name)}  {name}\n".encode())
        return digest.hexdigest()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a directory together."""
    if path.is_dir():
        return sum((path / name).stat().st_size for name in _names(path))
    return path.stat().st_size


def modified(path: Path) -> int:
    """Time of the last change in ns; of a directory, of the file in it that changed last."""
    if path.is_dir():
        return max(((path / name).stat().st_mtime_ns for name in _names(path)), default=0)
    return path.stat().st_mtime_ns


def _names(directory: Path) -> list[str]:
    return sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
