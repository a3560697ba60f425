"""Both directions of a prepared corpus in one data directory, for the first half of Bi-SimCut's training.

    DIR/{train,valid}.{de,en} (BPE) and DIR/bin  ->  DIR/bidirectional/{train,valid}.{src,tgt}, bin/, manifest.json

src holds the text of one language and then of the other, tgt the same in the opposite order; no token marks the
direction (Gao et al. 2022). The dictionary is that of DIR/bin, so that a model trained on both can be fine-tuned there.
"""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdrop_fairseq.corpus import binarize
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.corpus.processes import add_workers
from rdrop_fairseq.errors import UserError

SPLITS = ("train", "valid")
SIDES = ("src", "tgt")
BINARIZED = re.compile(r"train\.([^.-]+)-([^.-]+)\.\1\.idx")


def languages_of(data: Path) -> tuple[str, str]:
    """The language pair of a binarized data directory. Raises UserError if `data` is not one."""
    for path in sorted(data.glob("train.*.idx")):
        found = BINARIZED.fullmatch(path.name)
        if found:
            return found[1], found[2]
    raise UserError(f"{data} is not a binarized data directory: give the folder of a prepared corpus, with bin/ in it")


def prepare(directory: Path, workers: int) -> Path:
    """Makes `directory`/bidirectional from a prepared corpus; returns its data directory.

    Raises UserError where the two languages do not share one dictionary, which one model for both needs.
    """
    languages = languages_of(directory / "bin")
    text = [directory / f"{split}.{language}" for split in SPLITS for language in languages]
    missing = [path.name for path in text if not path.is_file()]
    if missing:
        raise UserError(f"{directory} has bin/ but not the text it was made from ({missing[0]}): prepare it again")
    one, other = (directory / "bin" / f"dict.{language}.txt" for language in languages)
    if not filecmp.cmp(one, other, shallow=False):
        raise UserError(f"{one} and {other.name} differ: binarize with a joined dictionary")
    pipeline = Pipeline(directory / "bidirectional", f"both directions of {directory.name}", {})
    counts = {split: concatenate(pipeline, split, directory, languages) for split in SPLITS}

    def run(parts: list[Path]) -> dict[str, Any]:
        text = pipeline.directory
        return binarize.binarize(text, parts[0], *SIDES, dictionaries=(one, other), workers=workers, splits=SPLITS)

    data = pipeline.directory / "bin"
    inputs = [pipeline.directory / f"{split}.{side}" for split in SPLITS for side in SIDES]
    pipeline.step("binarize", [data], run, [*inputs, one, other])
    pipeline.finish(counts)
    return data


def concatenate(pipeline: Pipeline, split: str, text: Path, languages: tuple[str, str]) -> int:
    """Step: src and tgt of a split; returns the number of pairs. Raises UserError where the sides are not parallel."""
    one, other = (text / f"{split}.{language}" for language in languages)

    def run(parts: list[Path]) -> dict[str, int]:
        for part, order in zip(parts, ((one, other), (other, one))):
            with part.open("wb") as joined:
                for path in order:
                    with path.open("rb") as lines:
                        shutil.copyfileobj(lines, joined)
        counts = [count_lines(path) for path in (one, other)]
        if counts[0] != counts[1]:
            raise UserError(f"{one} has {counts[0]} lines and {other} has {counts[1]}: prepare them again")
        return {"pairs": sum(counts)}

    outputs = [pipeline.directory / f"{split}.{side}" for side in SIDES]
    return pipeline.step(f"both directions of {split}", outputs, run, [one, other])["pairs"]


def count_lines(path: Path) -> int:
    """Number of lines. Raises UserError if the last line has no line break: the next file would be joined to it."""
    count, last = 0, b"\n"
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            count += block.count(b"\n")
            last = block[-1:]
    if last != b"\n":
        raise UserError(f"{path} does not end in a line break: it is cut, prepare it again")
    return count


def main(argv: Sequence[str], prog: str) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="default: IWSLT14 De-En")
    parser.add_argument("--data", type=Path, default=Path("data"), help=argparse.SUPPRESS)  # where data sets are kept
    add_workers(parser)
    args = parser.parse_args(argv)
    print(prepare(args.directory or args.data / "iwslt14.de-en", args.workers))
