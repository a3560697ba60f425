"""Is this a binarized data directory for this experiment?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from rdrop_fairseq.errors import UserError


def check_data(data: str, source: Optional[str], target: Optional[str], prepare: Optional[str]) -> None:
    """Raise UserError, naming the script that makes the data, unless dictionaries, train and valid are there.

    `data` may be several directories joined by `:`, as fairseq takes them; the first one holds the dictionaries and
    valid. Without languages fairseq infers them, and only the directory itself is looked for.
    """
    lacking = _lacking(Path(data.split(os.pathsep)[0]), source, target)
    if lacking:
        way_out = f"make it with {prepare}" if prepare else "give a directory made by fairseq-preprocess"
        raise UserError(f"{lacking}: {way_out}, or name another data directory after the config")


def _lacking(directory: Path, source: Optional[str], target: Optional[str]) -> str:
    """What fairseq-train would miss, or could not map into memory as it is empty; nothing if all is there."""
    if not directory.is_dir():
        return f"there is no directory {directory}"
    if source is None or target is None:
        return ""
    names = [f"dict.{language}.txt" for language in (source, target)]
    for split in ("train", "valid"):
        # data binarized for one direction serves the other one too
        pairs = [f"{split}.{source}-{target}", f"{split}.{target}-{source}"]
        there = [pair for pair in pairs if (directory / f"{pair}.{source}.idx").is_file()]
        pair = (there or pairs)[0]
        names += [f"{pair}.{language}.{kind}" for language in (source, target) for kind in ("idx", "bin")]
    for path in (directory / name for name in names):
        if not path.is_file():
            return f"{directory} has no {path.name}"
        if not path.stat().st_size:
            return f"{path} is empty"
    return ""
