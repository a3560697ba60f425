"""Finished summaries of a long generation, on disk, so that a killed run resumes, but never from another run's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from rdrop_fairseq import files


class Journal:
    """Texts by number in a file of JSON lines, the first of which names the run; without a path, in memory alone.

    A file of another run (other input or settings) is overwritten. A line that was cut short by a kill is dropped.
    """

    def __init__(self, path: Optional[Path] = None, run: str = "") -> None:
        self.texts: dict[int, str] = {}
        self._file = None
        if path is not None:
            head = json.dumps({"run": run}).encode() + b"\n"
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = [line for line in path.read_bytes().splitlines(True) if line[-1:] == b"\n"] if path.exists() else []
            whole = whole if whole[:1] == [head] else [head]
            self.texts.update(json.loads(line) for line in whole[1:])
            self._file = path.open("ab")
            self._file.truncate(0 if len(whole) == 1 else sum(map(len, whole)))
            self._file.write(head if len(whole) == 1 else b"")

    def add(self, texts: Mapping[int, str]) -> None:
        """Keep these texts; they are in the file when this returns. Raises UserError if the disk is full."""
        self.texts.update(texts)
        if self._file is not None:
            with files.explain_disk_full(Path(self._file.name)):
                self._file.write(b"".join(json.dumps(each).encode() + b"\n" for each in texts.items()))
                self._file.flush()
