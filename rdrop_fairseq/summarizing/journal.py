"""What a long generation has done so far, on disk: a killed run goes on, and never with what another run made."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any


class Memory:
    """Texts by number, of a run that leaves no file."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}

    def add(self, texts: dict[int, str]) -> None:
        """Keeps these texts."""
        self.texts.update(texts)


class Journal(Memory):
    """Texts by number in a file of JSON lines, the first of which says which run they belong to.

    A file of another run (other input, other settings) is started anew. A line that a kill cut short is forgotten.
    """

    def __init__(self, path: Path, key: str) -> None:
        super().__init__()
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._read(key)
        self._file = open(path, "ab")  # noqa: SIM115  (closed by __exit__)
        self._file.truncate(whole)
        if not whole:
            self._write({"run": key})

    def add(self, texts: dict[int, str]) -> None:
        """Keeps these texts; they are in the file when this returns."""
        for number, text in texts.items():
            self._write({"n": number, "text": text})
        self._file.flush()
        super().add(texts)

    def remove(self) -> None:
        """The run is over and its result is elsewhere."""
        self._file.close()
        self.path.unlink()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode("utf-8") + b"\n")

    def _read(self, key: str) -> int:
        """Fills `texts`; returns how many bytes of the file are whole lines of this run."""
        if not self.path.exists():
            return 0
        whole = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                entry = json.loads(line) if line.endswith(b"\n") else {}
            except ValueError:
                entry = {}
            if not whole and entry.get("run") != key:
                return 0
            if whole and "n" not in entry:
                break
            if whole:
                self.texts[entry["n"]] = entry["text"]
            whole += len(line)
        return whole
