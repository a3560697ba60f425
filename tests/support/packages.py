"""Released packages as pip sees them, made on the spot."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from rdrop_fairseq.corpus.pip_packages import Package


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip can see."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return folder


def make_wheel(
    folder: Path, name: str, members: dict[str, str | bytes], version: str = "1.0", requires: tuple[str, ...] = ()
) -> Package:
    """A wheel as pip wants it, in `folder`, and its pin."""
    info = f"{name}-{version}.dist-info"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {other}\n" for other in requires)
    members = {**members, f"{info}/METADATA": metadata, f"{info}/WHEEL": tag}
    members[f"{info}/RECORD"] = "".join(f"{member},,\n" for member in members)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as bundle:
        for member, content in members.items():
            bundle.writestr(zipfile.ZipInfo(member), content)
    return Package(name, version, hashlib.sha256(path.read_bytes()).hexdigest())
