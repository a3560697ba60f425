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
    directory = Path(data.split(os.pathsep)[0])
    missing = missing_file(directory, source, target)
    if missing is None:
        return
    way_out = f"make it with {prepare}" if prepare else "give a directory made by fairseq-preprocess"
    lacks = f"{directory} has no {missing}" if directory.is_dir() else f"there is no directory {directory}"
    raise UserError(f"{lacks}: {way_out}, or name another data directory after the config")


def missing_file(directory: Path, source: Optional[str], target: Optional[str]) -> Optional[str]:
    """The first file that fairseq-train would miss, or None."""
    if not directory.is_dir():
        return "."
    if source is None or target is None:
        return None
    for language in (source, target):
        if not (directory / f"dict.{language}.txt").is_file():
            return f"dict.{language}.txt"
    for split in ("train", "valid"):
        # data binarized for one direction serves the other one too
        pairs = [f"{split}.{source}-{target}", f"{split}.{target}-{source}"]
        there = [pair for pair in pairs if (directory / f"{pair}.{source}.idx").is_file()]
        pair = (there or pairs)[0]
        for name in (f"{pair}.{language}.{kind}" for language in (source, target) for kind in ("idx", "bin")):
            if not (directory / name).is_file():
                return name
    return None
