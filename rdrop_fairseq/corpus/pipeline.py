"""Steps that turn files into files, each done once: a killed run resumes, a changed option redoes what depends on it.

A step is identified by its title, its options and the sha256 of its inputs. It is skipped if manifest.json records it
and its outputs are unchanged. Outputs are written under temporary names and moved in place when the step is done;
only then is the step recorded, so a recorded step is whole, whenever a run is killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from rdrop_fairseq import files
from rdrop_fairseq.corpus import download, manifest
from rdrop_fairseq.corpus.processes import Lock
from rdrop_fairseq.errors import UserError

Run = Callable[[list[Path]], Optional[Mapping[str, Any]]]


class Pipeline:
    """The steps of one preparation in `directory`, recorded in its manifest.json; one process at a time has them.

    name: the corpus, for the manifest. options: those of the whole preparation, for the record only; `step` is given
    what a step depends on.
    """

    def __init__(self, directory: Path, name: str, options: Mapping[str, Any]) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(self.directory / ".lock")
        self.number = 0
        self.started = time.monotonic()
        self.path = self.directory / "manifest.json"
        before = manifest.load(self.path)
        self._earlier: dict[str, Any] = {step["title"]: step for step in before.get("steps", [])}
        # Steps of the last run stay listed until this run reaches them: they may still be valid.
        self._steps: dict[str, Any] = {}
        self._inputs: dict[str, Any] = {}
        self._head = {"name": name, "complete": False, "options": dict(options), "versions": manifest.versions()}

    def download(self, urls: Sequence[str], destination: Path, sha256: str | None = None) -> Path:
        """Fetches one input (see download.fetch) as a step of its own and records its URL, size and sha256."""
        self._say(destination.name)
        download.fetch(urls, destination, sha256)
        self._inputs[destination.name] = {**download.entry(destination), "published_at": list(urls)}
        self._save()
        return destination

    def step(
        self,
        title: str,
        outputs: Sequence[Path],
        run: Run,
        inputs: Sequence[Path] = (),
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Does the step unless it is done already; returns its counts.

        run: makes the outputs (files or directories) at the temporary paths it is given, in order, and returns counts
        or None. options: everything but the inputs that the outputs depend on; not the number of workers.
        """
        self._say(title)
        # As JSON returns it, so that it compares equal to the recorded one: a tuple becomes a list, for example.
        key = json.loads(json.dumps({"options": options or {}, "inputs": [self._identity(path) for path in inputs]}))
        record = self._earlier.get(title)
        if record is not None and self._holds(record, key, outputs):
            print("      done before", file=sys.stderr)
        else:
            self._earlier.pop(title, None)
            self._save()
            record = self._do(title, key, outputs, run)
        self._steps[title] = record
        self._save()
        return record["counts"]

    def finish(
        self, counts: Mapping[str, int] | None = None, known_counts: Mapping[str, manifest.Known] | None = None
    ) -> dict[str, Any]:
        """Compares `counts` with the published ones (a warning outside 1 %), completes and returns the manifest."""
        self._earlier = {}
        self._head["complete"] = True
        if counts is not None:
            self._head["sentence_pairs"] = dict(counts)
        if counts is not None and known_counts is not None:
            self._head["known_counts"] = manifest.compare(counts, known_counts)
            manifest.warn(self._head["name"], self._head["known_counts"])  # type: ignore[arg-type]
        whole = self._save()
        self._lock.close()
        return whole

    def _do(self, title: str, key: dict[str, Any], outputs: Sequence[Path], run: Run) -> dict[str, Any]:
        start = time.monotonic()
        parts = [files.temporary(path) for path in outputs]
        for path, part in zip(outputs, parts):
            files.remove(part)
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with files.explain_disk_full(outputs[0]):
                counts = run(parts)
            for path, part in zip(outputs, parts):
                files.move_into_place(part, path)
        except BaseException:
            for part in parts:
                files.remove(part)
            raise
        made = [{"path": self._relative(path), **_look(path), "sha256": files.sha256(path)} for path in outputs]
        seconds = round(time.monotonic() - start, 1)
        return {"title": title, **key, "outputs": made, "counts": dict(counts or {}), "seconds": seconds}

    def _holds(self, record: Mapping[str, Any], key: Mapping[str, Any], outputs: Sequence[Path]) -> bool:
        """Whether the record describes this step and its outputs are untouched."""
        if any(record[part] != key[part] for part in key):
            return False
        if [made["path"] for made in record["outputs"]] != [self._relative(path) for path in outputs]:
            return False
        for made, path in zip(record["outputs"], outputs):
            if not path.exists():
                return False
            look = _look(path)
            if look["size"] != made["size"]:
                return False
            if look["modified_ns"] != made["modified_ns"]:  # copied or touched: only the content counts
                if files.sha256(path) != made["sha256"]:
                    return False
                made.update(look)
        return True

    def _identity(self, path: Path) -> dict[str, str]:
        """An input's name and sha256, which is known without reading if an earlier step or a download made it."""
        if not path.exists():
            raise UserError(f"{path} is missing: it was there when this preparation began; run the same command again")
        name = self._relative(path)
        for record in self._steps.values():
            for made in record["outputs"]:
                if made["path"] == name:
                    return {"path": name, "sha256": made["sha256"]}
        if path.name in self._inputs and path.parent != self.directory:
            return {"path": name, "sha256": self._inputs[path.name]["sha256"]}
        return {"path": name, "sha256": files.sha256(path)}

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.directory)).as_posix()

    def _say(self, title: str) -> None:
        self.number += 1
        elapsed = time.monotonic() - self.started
        before = f", {_clock(elapsed)} so far" if elapsed >= 1 else ""
        print(f"[{self.number}] {title}{before}", file=sys.stderr)

    def _save(self) -> dict[str, Any]:
        waiting = {title: step for title, step in self._earlier.items() if title not in self._steps}
        steps = [*self._steps.values(), *waiting.values()]
        whole = {**self._head, "inputs": self._inputs, "steps": steps}
        manifest.save(self.path, whole)
        return whole


def _look(path: Path) -> dict[str, int]:
    return {"size": files.size(path), "modified_ns": files.modified(path)}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
