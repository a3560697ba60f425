"""Fetches large files from hosts that fail: resumed, retried, checked; a file appears only when it is whole.

A file is written to NAME.part (NAME.part.json names its source) and renamed when it is whole. Its checksum is recorded
in a ledger (downloads.json in the same folder); later downloads of the same name must match it.

`DATA_MIRROR` (file:///folder, http://host:port/folder, or a plain folder) replaces every host: for
http://host/a/b.tgz the mirror is asked for a/b.tgz and then for b.tgz, and nothing else is tried.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tqdm import tqdm

from rdrop_fairseq import files
from rdrop_fairseq.corpus import archives, transfer
from rdrop_fairseq.corpus.processes import Lock
from rdrop_fairseq.errors import UserError

BACKOFF = (1.0, 3.0, 9.0)  # seconds before the 2nd, 3rd and 4th try of one address; progress starts the count again
ARCHIVES = (".tgz", ".tar.gz", ".tar.bz2", ".tar", ".gz", ".zip")


def fetch(urls: Sequence[str], destination: Path, sha256: str | None = None, ledger: Path | None = None) -> Path:
    """Makes sure that `destination` holds the file that `urls` (mirrors, in order) serve; returns `destination`.

    sha256: the checksum, if known; otherwise that of the first download (from `ledger`) is required.
    Raises UserError when no address gives the file; the bytes received so far are kept and resumed next time.
    """
    destination = Path(destination)
    ledger = ledger or destination.parent / "downloads.json"
    destination.parent.mkdir(parents=True, exist_ok=True)
    if not destination.exists():
        # Preparations share folders of downloads: the second one waits, and finds what the first one fetched.
        with contextlib.closing(Lock(destination.parent / ".downloads.lock")):
            if not destination.exists():
                return _fetch(urls, destination, sha256 or _recorded(ledger, destination), ledger)
    _verify(destination, sha256 or _recorded(ledger, destination), ledger, urls[0])
    return destination


def _recorded(ledger: Path, destination: Path) -> str | None:
    return _read(ledger).get(destination.name, {}).get("sha256")


def _fetch(urls: Sequence[str], destination: Path, known: str | None, ledger: Path) -> Path:
    tried = []
    for url in sorted(candidates(urls), key=lambda url: url != transfer.begun_at(destination)):
        try:
            _download(url, destination)
            part = transfer.part_of(destination)
            _inspect(part, destination.name)
            if known is not None and files.sha256(part) != known:
                raise transfer.UnusableError(f"its sha256 is not {known}")
        except transfer.UnusableError as error:
            transfer.discard(destination)
            tried.append(f"{url}: {error}")
            continue
        except transfer.UnreachableError as error:
            tried.append(f"{url}: {error}")
            continue
        record(ledger, destination.name, url, part)
        os.replace(part, destination)
        transfer.discard(destination)
        return destination
    raise UserError(f"{destination.name} could not be fetched ({'; '.join(tried)}): {_way_out(destination)}")


def candidates(urls: Sequence[str]) -> list[str]:
    """The addresses to try, in order: the given ones, or those of DATA_MIRROR in their place."""
    mirror = os.environ.get("DATA_MIRROR", "").rstrip("/")
    if not mirror:
        return list(urls)
    if "://" not in mirror:
        mirror = "file://" + quote(str(Path(mirror).resolve()))
    paths = [urlsplit(url).path.lstrip("/") for url in urls]
    places = paths + [path.rsplit("/", 1)[-1] for path in paths]
    return list(dict.fromkeys(f"{mirror}/{place}" for place in places))


def record(ledger: Path, name: str, url: str, path: Path) -> None:
    """Records in the ledger where `name` came from, its size in bytes and its sha256."""
    entries = _read(ledger)
    entries[name] = {"url": url, "size": path.stat().st_size, "sha256": files.sha256(path)}
    with files.atomic(ledger, "w") as file:
        file.write(json.dumps(entries, indent=2, sort_keys=True) + "\n")


def entry(destination: Path, ledger: Path | None = None) -> dict[str, Any]:
    """The ledger's entry of a fetched file: {"url", "size", "sha256"}."""
    return _read(ledger or destination.parent / "downloads.json")[destination.name]


def _verify(path: Path, known: str | None, ledger: Path, url: str) -> None:
    """Checks an existing file against the ledger; one that was put there by hand is inspected and recorded."""
    if known is None:
        try:
            _inspect(path, path.name)
        except transfer.UnusableError as error:
            raise UserError(f"{path}: {error}; delete it and run the same command again") from error
        record(ledger, path.name, url, path)
    elif files.sha256(path) != known:
        raise UserError(
            f"{path} does not have the sha256 {known} that {ledger.name} or the recipe has for it: delete it to fetch "
            f"it again, or delete its entry in {ledger} if you mean to use another release"
        )
    elif path.name not in _read(ledger):
        record(ledger, path.name, url, path)


def _inspect(path: Path, name: str) -> None:
    """Raises UnusableError for a web page (no file here is one), and for an archive that is cut short or damaged."""
    with open(path, "rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise transfer.UnusableError("what came is a web page (an error page, most likely), not the file")
    if not head:
        raise transfer.UnusableError("the file is empty")
    if name.endswith(ARCHIVES):
        try:
            archives.check(path, name)
        except UserError as error:
            raise transfer.UnusableError(f"what came is cut short or damaged ({error.__cause__ or error})") from error


def _download(url: str, destination: Path) -> None:
    """Fills NAME.part with what `url` serves; resumes, and retries as long as BACKOFF allows."""
    failures = 0
    while True:
        before = transfer.have(destination)
        try:
            with tqdm(desc=destination.name, unit="B", unit_scale=True, leave=False, delay=1) as bar:
                return transfer.receive(url, destination, bar)
        except transfer.BrokenError as error:
            failures = 0 if transfer.have(destination) > before else failures
            if failures == len(BACKOFF):
                raise transfer.UnreachableError(str(error)) from error
            pause = BACKOFF[failures]
            failures += 1
            print(f"{destination.name}: {error}; trying again in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)
        except OSError:
            with files.explain_disk_full(destination):
                raise


def _way_out(destination: Path) -> str:
    if os.environ.get("DATA_MIRROR"):
        return f"put it there or at {destination}, or unset DATA_MIRROR to ask the original hosts; then run this again"
    return f"try later, put a copy at {destination}, or set DATA_MIRROR to a place that has it; then run this again"


def _read(ledger: Path) -> dict[str, Any]:
    try:
        return json.loads(ledger.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{ledger} is not readable as JSON ({error}): delete it, it is written again") from error
