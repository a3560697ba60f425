"""Text pairs to a binarized data directory for BART: clean, GPT-2 BPE, binarize; any pairs, and XSum.

    DIR/{train,val,test}.{source,target}  ->  OUT/text  ->  OUT/bpe  ->  OUT/bin   and OUT/manifest.json

Every preparation for BART ends with `Preparation.encode`; what differs is where the text comes from.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from rdrop_fairseq.corpus import article_pairs, binarize, pretrained_models, xsum
from rdrop_fairseq.corpus.article_pairs import SIDES, SPLITS, PairWriter
from rdrop_fairseq.corpus.gpt2_vocabulary import Vocabulary
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.corpus.processes import add_workers
from rdrop_fairseq.errors import UserError

# Passes pairs to the writer and returns the names of those that could not be found.
Reader = Callable[[PairWriter], list[str]]
FAIRSEQ_NAMES = {"train": "train", "val": "valid", "test": "test"}


class Preparation:
    """The folders of one preparation and the steps that all of them share."""

    def __init__(self, out: Path, name: str, splits: list[str], options: Mapping[str, Any], workers: int) -> None:
        self.out, self.splits, self.workers = out, splits, workers
        self.pipeline = Pipeline(out, name, options)
        self.counts: dict[str, int] = {}

    def read(
        self, split: str, reader: Reader, inputs: list[Path], options: Mapping[str, Any] | None = None
    ) -> None:
        """The step that writes text/SPLIT.{source,target} and text/SPLIT.missing (one name a line)."""
        outputs = [*self.paths("text", split), self.out / "text" / f"{split}.missing"]

        def run(parts: list[Path]) -> dict[str, int]:
            with open(parts[0], "wb") as source, open(parts[1], "wb") as target:
                writer = PairWriter(source, target, keep_all=split == "test")
                missing = reader(writer)
            if not writer.counts["pairs"]:
                raise UserError(f"no pair with an article and a summary was found for {split}: is it the right input?")
            parts[2].write_text("".join(f"{name}\n" for name in missing), encoding="utf-8")
            return {**writer.counts, "missing": len(missing)}

        self.counts[split] = self.pipeline.step(f"text of {split}", outputs, run, inputs, options)["pairs"]

    def encode(self) -> Path:
        """Fetches BART's vocabulary, applies the BPE, binarizes; returns the data directory."""
        vocabulary = Vocabulary.fetch(self.pipeline, self.out / "gpt2_bpe")
        for split in self.splits:
            texts = dict(zip(SIDES, self.paths("text", split)))
            outputs = self.paths("bpe", FAIRSEQ_NAMES[split])
            vocabulary.encode(self.pipeline, split, texts, outputs, self.workers)
        data = self.out / "bin"
        splits = [FAIRSEQ_NAMES[split] for split in self.splits]

        def run(parts: list[Path]) -> dict[str, Any]:
            both = (vocabulary.dictionary, vocabulary.dictionary)
            counts = binarize.binarize(
                self.out / "bpe", parts[0], *SIDES, dictionaries=both, workers=self.workers, splits=splits
            )
            vocabulary.copy_to(parts[0])
            return counts

        inputs = [path for split in self.splits for path in self.paths("bpe", FAIRSEQ_NAMES[split])]
        self.pipeline.step("binarize", [data], run, [*inputs, *vocabulary.files])
        return data

    def paths(self, stage: str, split: str) -> list[Path]:
        """Source and target of a split in one of the folders text and bpe."""
        return [self.out / stage / f"{split}.{side}" for side in SIDES]


def prepare(directory: Path, out: Path, workers: int) -> Path:
    """Runs all steps from the pairs in `directory`; returns the data directory."""
    if xsum.is_layout(directory):
        return _prepare_xsum(directory, out, workers)
    found = {split: files for split in SPLITS if (files := article_pairs.find(directory, split)) is not None}
    lacking = [f"{split}.source and {split}.target" for split in ("train", "val") if split not in found]
    if lacking:
        raise UserError(f"{directory} has no {', no '.join(lacking)}: put them there, line n of both one pair")
    preparation = Preparation(out, directory.resolve().name, list(found), {"directory": str(directory)}, workers)
    for split, (source, target) in found.items():

        def reader(writer: PairWriter, source: Path = source, target: Path = target, split: str = split) -> list[str]:
            article_pairs.copy(source, target, writer, split)
            return []

        preparation.read(split, reader, [source, target])
    data = preparation.encode()
    preparation.pipeline.finish(preparation.counts)
    return data


def _prepare_xsum(given: Path | None, out: Path, workers: int) -> Path:
    preparation = Preparation(out, "XSum", list(SPLITS), {"directory": str(given) if given else None}, workers)
    directory = given or xsum.fetch(preparation.pipeline)
    ids = xsum.read_split(directory)
    for split in SPLITS:

        def reader(writer: PairWriter, split: str = split) -> list[str]:
            return xsum.copy(directory, ids[split], writer, split)

        preparation.read(split, reader, [directory / xsum.FOLDER, directory / xsum.SPLIT_FILE])
    data = preparation.encode()
    preparation.pipeline.finish(preparation.counts, xsum.KNOWN)
    return data


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options that every preparation for BART has."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="where everything is written")
    add_workers(parser)


def main(argv: list[str], prog: str) -> int | None:
    """`prepare summarization DIR`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "directory", nargs="?", type=Path, help="holds {train,val,test}.{source,target}, or XSum's own files"
    )
    parser.add_argument("--xsum", action="store_true", help="fetch XSum's own files from its authors instead")
    parser.add_argument("--data", type=Path, default=Path("data"), help=argparse.SUPPRESS)  # where data sets are kept
    add_common(parser)
    pretrained_models.add_model_options(parser)
    args = parser.parse_args(argv)
    if args.xsum == (args.directory is not None):
        parser.error("give either the directory or --xsum")
    if args.xsum:
        data = _prepare_xsum(None, args.out or args.data / "xsum", args.workers)
    elif args.directory.is_dir():
        data = prepare(args.directory, args.out or args.data / args.directory.resolve().name, args.workers)
    else:
        raise UserError(f"{args.directory} is not a directory: give the one with train.source, train.target, ...")
    pretrained_models.fetch_wanted(args)
    print(data)
    return 0
