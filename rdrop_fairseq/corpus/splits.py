"""Cutting a corpus into train and valid by line number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

BATCH = 10_000  # lines held at a time


def every_nth(inputs: Sequence[Path], nth: int, train: Path, valid: Path) -> dict[str, Any]:
    """Writes each `nth` line of `inputs`, taken as one text, to `valid` and all others to `train`.

    Returns {"train": {"sentences", "tokens"}, "valid": ...}; tokens are what blanks separate.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, "wb")) for path in (train, valid)]
        counts = [[0, 0], [0, 0]]
        number = 0
        for batch in _batches(inputs):
            for line in batch:
                number += 1
                split = number % nth == 0
                files[split].write(line)
                counts[split][0] += 1
                counts[split][1] += len(line.split())
    return {split: {"sentences": n, "tokens": tokens} for split, (n, tokens) in zip(("train", "valid"), counts)}


def concatenate(inputs: Sequence[Path], output: Path) -> dict[str, Any]:
    """Writes all lines of `inputs` to `output`; returns {"sentences", "tokens"}."""
    sentences = tokens = 0
    with open(output, "wb") as file:
        for batch in _batches(inputs):
            file.writelines(batch)
            sentences += len(batch)
            tokens += sum(len(line.split()) for line in batch)
    return {"sentences": sentences, "tokens": tokens}


def _batches(inputs: Sequence[Path]) -> Iterator[list[bytes]]:
    """The lines of all files in order, each ending in a newline, a batch at a time."""
    total = sum(path.stat().st_size for path in inputs)
    with tqdm(total=total, desc="splitting", unit="B", unit_scale=True, leave=False, delay=1) as bar:
        for path in inputs:
            with open(path, "rb") as file:
                while batch := list(islice(file, BATCH)):
                    if not batch[-1].endswith(b"\n"):
                        batch[-1] += b"\n"
                    yield batch
                    bar.update(sum(map(len, batch)))
