"""WikiText-103 for language modelling: its archive of word-level text to a binarized data directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rdrop_fairseq.corpus import archives, binarize, manifest
from rdrop_fairseq.corpus.manifest import Known
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.corpus.processes import add_workers

NAME = "wikitext-103-v1.zip"
# The second was the original address, which no longer answers everybody.
ADDRESSES = [f"https://wikitext.smerity.com/{NAME}", f"https://s3.amazonaws.com/research.metamind.io/wikitext/{NAME}"]
SPLITS = ("train", "valid", "test")
# As fairseq-preprocess counts: the end of each line is a token.
KNOWN = {"train": Known(103_227_021), "valid": Known(217_646), "test": Known(245_569)}


def prepare(out: Path, workers: int) -> Path:
    """From the archive to OUT/bin (train, valid, test and dict.txt), which it returns; tokens against the known ones.

    Raises UserError for an archive that cannot be fetched, is damaged, or lacks one of wiki.{train,valid,test}.tokens.
    """
    pipeline = Pipeline(out, "WikiText-103", {})
    archive = pipeline.download(ADDRESSES, out / "download" / NAME)
    texts = {split: out / "text" / f"wiki.{split}.tokens" for split in SPLITS}

    def unpack(parts: list[Path]) -> None:
        members = [f"*/{path.name}" for path in texts.values()]
        archives.unpack(archive, parts[0], members)
        for path in [file for file in parts[0].rglob("*") if file.is_file()]:
            path.rename(parts[0] / path.name)

    pipeline.step("unpack", [out / "text"], unpack, [archive])

    def run(parts: list[Path]) -> dict[str, Any]:
        counts = binarize.binarize_column(texts, parts[0], None, workers)
        with open(parts[0] / "dict.txt", encoding="utf-8") as entries:
            return {**counts, "types": sum(1 for _ in entries)}

    counts = pipeline.step("binarize", [out / "bin"], run, [out / "text"])
    tokens = {name.split(".")[1]: found["tokens"] for name, found in counts.items() if isinstance(found, dict)}
    manifest.warn("WikiText-103", manifest.compare(tokens, KNOWN), "tokens")
    pipeline.finish()
    return out / "bin"


def main(argv: list[str], prog: str) -> int | None:
    """`prepare wikitext103`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="where all data goes (default: data)")
    add_workers(parser)
    args = parser.parse_args(argv)
    print(prepare(args.data / "wikitext103", args.workers))
    return 0
