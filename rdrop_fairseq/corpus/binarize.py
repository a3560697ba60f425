"""Text to a binarized fairseq data directory, by fairseq-preprocess in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rdrop_fairseq import files
from rdrop_fairseq.errors import WORKER_KILLED, UserError, install

SPLITS = ("train", "valid", "test")
COUNTED = re.compile(r"\[(\S+)\] (\S+): (\d+) sents, (\d+) tokens, (\S+)% replaced")  # 3.68e-05% is a share, too


def binarize(
    text: Path,
    destination: Path,
    source: str,
    target: str,
    joined: bool = True,
    dictionaries: tuple[Path, Path] | None = None,
    workers: int = 1,
    splits: Sequence[str] = SPLITS,
    words: int | None = None,
) -> dict[str, Any]:
    """Binarizes `text`/{train,valid,test}.{source,target} into `destination`, which appears whole or not at all.

    joined: one dictionary for both sides. dictionaries: given ones (of source and target; the same file for both where
    joined) instead of new ones from train. words: at most so many entries in a new dictionary, the most frequent ones.
    Returns {"train.de": {"sentences", "tokens", "unknown_percent"}, ...} with tokens including the end of sentence, as
    fairseq counts. Raises UserError for an empty file, and if fairseq is missing or fails.
    """
    # Prefixes relative to the text: fairseq-preprocess takes a comma in a prefix for a list of prefixes.
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--source-lang", source, "--target-lang", target]
    for split in splits:
        command += [f"--{split}pref", split]
    if joined:
        command.append("--joined-dictionary")
    if words is not None:
        command += ["--nwordssrc", str(words), "--nwordstgt", str(words)]
    if dictionaries is not None:
        command += ["--srcdict", str(dictionaries[0].resolve())]
        command += [] if joined else ["--tgtdict", str(dictionaries[1].resolve())]
    names = [f"{split}.{side}" for split in splits for side in (source, target)]
    return _preprocess(command, text, names, destination, workers)


def binarize_column(
    texts: Mapping[str, Path], destination: Path, dictionary: Path | None, workers: int = 1
) -> dict[str, Any]:
    """Binarizes one column of text (fairseq-preprocess --only-source) into `destination`, which appears whole.

    texts: files of one folder by the names of their splits; valid1 and test1 are further valid and test sets.
    dictionary: a given one, or None for a new one from train. Returns counts as `binarize` does.
    """
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--only-source"]
    for split in SPLITS:
        names = [path.name for name, path in texts.items() if name.rstrip("0123456789") == split]
        command += [f"--{split}pref", ",".join(names)] if names else []
    if dictionary is not None:
        command += ["--srcdict", str(dictionary.resolve())]
    folder = next(iter(texts.values())).parent
    return _preprocess(command, folder, [path.name for path in texts.values()], destination, workers)


def _preprocess(
    command: list[str], text: Path, names: Sequence[str], destination: Path, workers: int
) -> dict[str, Any]:
    # fairseq binarizes an empty file without a word, and fails hours later where the set is opened ("cannot mmap").
    empty = next((text / name for name in names if (text / name).is_file() and not (text / name).stat().st_size), None)
    if empty:
        raise UserError(f"{empty} has no line, and fairseq cannot use an empty set: prepare the data from more text")
    part = files.temporary(destination)
    files.remove(part)
    part.parent.mkdir(parents=True, exist_ok=True)
    # the plugin, for compat's processes in place of fairseq's pool, which waits for ever for a worker that was killed
    command = [*command, "--user-dir", str(files.PACKAGE)]
    try:
        said = _run([*command, "--destdir", str(part.resolve()), "--workers", str(workers)], text)
        (part / "preprocess.log").unlink(missing_ok=True)  # its times and paths are in the manifest, or of no use
        files.move_into_place(part, destination)
    finally:
        files.remove(part)
    return {
        name: {"sentences": int(sentences), "tokens": int(tokens), "unknown_percent": float(unknown)}
        for _, name, sentences, tokens, unknown in COUNTED.findall(said)
    }


def _run(command: Sequence[str], directory: Path) -> str:
    """All that the command prints, shown as it comes; raises UserError with the last line if it fails."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=directory, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if counted := COUNTED.search(line):
                print(f"      {counted[0]} by <unk>", file=sys.stderr)
    if process.returncode:
        if any("No module named" in line and "fairseq_cli" in line for line in said):
            raise UserError(f"fairseq is not installed: {install('fairseq')}")
        if process.returncode < 0:
            signal = f"killed by signal {-process.returncode}"
            raise UserError(f"fairseq-preprocess was {signal} on {directory}, perhaps for memory: use fewer --workers")
        if any(WORKER_KILLED in line for line in said):
            raise UserError(f"fairseq-preprocess failed on {directory}: {WORKER_KILLED}")
        last = next((line.strip() for line in reversed(said) if line.strip()), "no message")
        raise UserError(f"fairseq-preprocess failed on {directory} ({last}): mend that and run the same command again")
    return "".join(said)
