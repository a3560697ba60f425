"""Translates a test set with fairseq-generate, in a process of its own, and reads its output."""

from __future__ import annotations

import importlib.util
import os
import re
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rdrop_fairseq import published
from rdrop_fairseq.checkpoint import load, option
from rdrop_fairseq.corpus import manifest
from rdrop_fairseq.errors import UserError, install
from rdrop_fairseq.files import PACKAGE
from rdrop_fairseq.scoring.generation import Generation, read_generation

_MMAP_MAGIC = b"MMIDIDX\x00\x00"
_TAIL = 4096


@dataclass(frozen=True)
class Subset:
    """A subset of a binarized data directory, in one direction. sentences: None if the format does not record it."""

    data: Path
    subset: str
    source: str
    target: str
    sentences: int | None

    def benchmark(self) -> str | None:
        """The key of published.TABLE, found by the name in the manifest.json in or above the data directory."""
        for directory in self._prepared():
            name = re.sub(r"[^a-z0-9]", "", manifest.load(directory / "manifest.json").get("name", "").lower())
            for key in published.benchmarks("BLEU"):
                data_set, _, pair = key.partition(".")
                if data_set in name and pair == f"{self.source}-{self.target}":
                    return key
        return None

    def plain_reference(self) -> Path | None:
        """The published references of a WMT or IWSLT test set, if the preparation kept them."""
        if self.subset != "test":
            return None
        kept = [folder / f"test.plain.{self.target}" for folder in self._prepared()]
        if there := [path for path in kept if path.is_file()]:
            return there[0]
        found = [path for folder in self._prepared() for path in folder.glob(f"orig/**/*-ref.{self.target}.sgm")]
        return found[0] if len(found) == 1 else None

    def _prepared(self) -> list[Path]:
        directories = (self.data, self.data.resolve().parent)
        return [directory for directory in directories if (directory / "manifest.json").is_file()]


def find_test_set(data: Path, subset: str, checkpoint: Path) -> Subset:
    """The subset in the direction that the checkpoint was trained for; raises UserError if the data has no such
    subset."""
    if not data.is_dir():
        raise UserError(f"{data} is not a directory: give the binarized data directory first, then the checkpoints")
    found = {tuple(path.name.split(".")[1].split("-")): path for path in sorted(data.glob(f"{subset}.*-*.*.idx"))}
    pairs = [pair for pair in found if len(pair) == 2]
    if not pairs:
        raise UserError(f"{data} has no binarized {subset} set ({subset}.*-*.*.idx): choose one with --subset")
    state = load(checkpoint)
    trained = tuple(option(state, "task", f"{side}_lang") for side in ("source", "target"))
    # Data binarized for one direction serves the other one too.
    if None in trained:
        source, target = pairs[0]
    elif trained in pairs or trained[::-1] in pairs:
        source, target = trained
    else:
        raise UserError(f"{checkpoint} translates {'-'.join(trained)}, but {data} has no such {subset} set")
    index = found.get((source, target)) or found[(target, source)]
    return Subset(data, subset, source, target, _sentences(index))


def _sentences(index: Path) -> int | None:
    with index.open("rb") as file:
        header = file.read(len(_MMAP_MAGIC) + struct.calcsize("<QBQ"))
    if not header.startswith(_MMAP_MAGIC):
        return None
    return struct.unpack("<QBQ", header[len(_MMAP_MAGIC) :])[2]


def generate_command(
    test_set: Subset, checkpoints: Sequence[Path], decoding: published.Decoding, extra: Sequence[str]
) -> list[str]:
    """The fairseq-generate command, on the GPU in half precision if there is one, else on the CPU; several checkpoints
    are an ensemble."""
    import torch

    device = "--fp16" if torch.cuda.is_available() else "--cpu"
    # fairseq of 2025 drops the last batch if its size is not a multiple of this (8 by default): seven or more sentences
    # would have no translation.
    whole = ("--required-batch-size-multiple", "1")
    return [
        *(sys.executable, "-m", "fairseq_cli.generate", str(test_set.data), "--user-dir", str(PACKAGE)),
        *("--path", ":".join(map(str, checkpoints)), "--gen-subset", test_set.subset, device),
        *("--source-lang", test_set.source, "--target-lang", test_set.target),
        *("--beam", str(decoding.beam), "--lenpen", f"{decoding.lenpen:g}", "--remove-bpe", *whole, *extra),
    ]


def translate(command: Sequence[str], output: Path, sentences: int | None) -> Generation:
    """Runs the command into `output` (replaced, never appended to) and reads it; raises UserError if it fails."""
    if importlib.util.find_spec("fairseq_cli") is None:
        raise UserError(f"fairseq is not installed: {install('fairseq')}")
    # The closing line is logged at level INFO, and text must not depend on the locale.
    environment = {**os.environ, "LOGLEVEL": "INFO", "PYTHONIOENCODING": "utf-8"}
    show = sys.stderr.isatty()
    tail = b""
    with output.open("wb") as file, subprocess.Popen(
        command, stdout=file, stderr=subprocess.PIPE, env=environment, bufsize=0
    ) as process:
        assert process.stderr is not None
        while chunk := process.stderr.read(_TAIL):
            tail = (tail + chunk)[-_TAIL:]
            if show:
                sys.stderr.buffer.write(chunk)
                sys.stderr.buffer.flush()
    if process.returncode:
        lines = [line.strip() for line in re.split(r"[\r\n]+", tail.decode(errors="replace")) if line.strip()]
        if lines and "UserError: " in lines[-1]:
            raise UserError(lines[-1].partition("UserError: ")[2])
        raise UserError(
            f"fairseq-generate stopped with status {process.returncode} ({lines[-1] if lines else 'no message'}); "
            "options for it go after --, for example -- --max-tokens 4000 if memory ran out"
        )
    return read_generation(output, sentences)
