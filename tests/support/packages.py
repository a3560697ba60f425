"""Released packages as pip sees them, made on the spot."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from rdrop_fairseq.corpus.pip_packages import Package


def make_wheel(folder: Path, name: str, members: dict[str, str | bytes]) -> Package:
    """A wheel as pip wants it, in `folder`, and its pin."""
    info = f"{name}-1.0.dist-info"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    members = {**members, f"{info}/METADATA": metadata, f"{info}/WHEEL": tag}
    members[f"{info}/RECORD"] = "".join(f"{member},,\n" for member in members)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as bundle:
        for member, content in members.items():
            bundle.writestr(zipfile.ZipInfo(member), content)
    return Package(name, "1.0", hashlib.sha256(path.read_bytes()).hexdigest())
