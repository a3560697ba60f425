"""Models that fairseq published: an archive with model.pt and dict.txt, fetched, checked and unpacked once."""

from __future__ import annotations

import argparse
from pathlib import Path

from rdrop_fairseq import files
from rdrop_fairseq.corpus import archives
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

HOST = "https://dl.fbaipublicfiles.com/fairseq/models"
BARTS = ("bart.base", "bart.large")
NAMES = (*BARTS, "bart.large.cnn", "bart.large.xsum", "roberta.base", "roberta.large")
CONTENT = ("model.pt", "dict.txt")


def fetch(name: str, folder: Path) -> Path:
    """Makes sure that FOLDER/NAME holds model.pt and dict.txt of a published model; returns the path of model.pt.

    The archive is kept in FOLDER/downloads/models, its sha256 in downloads.json there: what comes later has to be the
    same. FOLDER/NAME/manifest.json records address, size and checksums. Resumes; does nothing where all is in place.
    Raises UserError for a name that is not one of NAMES, and where no address gives the archive.
    """
    if name not in NAMES:
        raise UserError(f"there is no published model {name!r} here: choose one of {', '.join(NAMES)}")
    outputs = [folder / name / content for content in CONTENT]
    pipeline = Pipeline(folder / name, name, {})
    archive = pipeline.download([f"{HOST}/{name}.tar.gz"], folder / "downloads" / "models" / f"{name}.tar.gz")

    def unpack(parts: list[Path]) -> dict[str, int]:
        whole = folder / name / "unpacked"
        try:
            archives.unpack(archive, whole, [f"*{content}" for content in CONTENT])
            for content, part in zip(CONTENT, parts):
                next(iter(sorted(whole.rglob(content)))).replace(part)
        finally:
            files.remove(whole)
        with open(parts[1], encoding="utf-8") as entries:
            return {"dictionary_entries": sum(1 for _ in entries)}

    pipeline.step(f"unpack {archive.name}", outputs, unpack, [archive])
    pipeline.finish()
    return outputs[0]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options of a preparation that also fetches the models which its data are for."""
    parser.add_argument("--no-model", action="store_true", help="do not fetch the published models")
    parser.add_argument("--models", type=Path, default=Path("data"), metavar="DIR", help="where they go")


def fetch_wanted(args: argparse.Namespace, names: tuple[str, ...] = BARTS) -> None:
    """Fetches `names` unless --no-model was given."""
    for name in () if args.no_model else names:
        fetch(name, args.models)


def main(argv: list[str], prog: str) -> int | None:
    """`prepare model NAME...`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--models", type=Path, default=Path("data"), metavar="DIR", help="where they go")
    args = parser.parse_args(argv)
    for name in args.names:
        print(fetch(name, args.models))
    return 0
