"""`score-published BENCHMARK`: a released model on the test set, compared with what was reported for it.

Checks data, generation and scoring without training anything. cnndm: bart.large.cnn summarizes the test set that
`prepare cnndm` made, all of it or the first N articles. wmt14_en_de, wmt14_en_fr: fairseq's Transformers of "Scaling
NMT" translate the binarized newstest2014 that was released with them. Exit status 1 if a number is off.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rdrop_fairseq import files, published
from rdrop_fairseq.corpus import archives, pretrained_models
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.corpus.processes import cores
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.rouge import PUBLISHED
from rdrop_fairseq.scoring import results, rouge, score
from rdrop_fairseq.scoring.text import read_lines
from rdrop_fairseq.summarizing import summarize

HOST = "https://dl.fbaipublicfiles.com/fairseq"
# Half precision, batch sizes and versions of libraries move a score by this much, and more articles do not.
TOLERANCE = {"ROUGE-1/2/L": 0.5, "BLEU": 0.3}
CONVENTIONS = {published.COMPOUND: "compound-split", published.CASED: "tokenized", published.SACREBLEU: "sacrebleu"}
ROUGE_NAMES = ("rouge1", "rouge2", "rougeLsum")
CNNDM_SYSTEM = "BART-large"


@dataclass(frozen=True)
class Translation:
    """A released Transformer: its archives (names under HOST), and under which key its numbers are published."""

    key: str
    benchmark: str
    prepared: str
    target: str

    @property
    def archives(self) -> tuple[str, str]:
        """The model's archive and the test set's."""
        name = self.key.removeprefix("fairseq.")
        return f"models/{name}.joined-dict.transformer.tar.bz2", f"data/{name}.joined-dict.newstest2014.tar.bz2"


TRANSLATIONS = {
    "wmt14_en_de": Translation("fairseq.wmt16.en-de", "wmt14.en-de", "wmt14.en-de", "de"),
    "wmt14_en_fr": Translation("fairseq.wmt14.en-fr", "wmt14.en-fr", "wmt14.en-fr", "fr"),
}


@dataclass(frozen=True)
class Row:
    """One number found beside the published one; `low` and `high` bound what chance allows."""

    name: str
    published: float
    found: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the published number is within the bounds."""
        return self.low <= self.published <= self.high

    def __str__(self) -> str:
        verdict = "ok" if self.holds else "OFF"
        return f"{self.name:32}{self.published:8.2f} published{self.found:8.2f} found  {verdict}"


def summaries(data: Path, models: Path, out: Path, first: int | None, extra: Sequence[str]) -> list[Row]:
    """bart.large.cnn on the first articles of data/text/test, all of them if `first` is None."""
    texts = [data / "text" / f"test.{side}" for side in ("source", "target")]
    lacking = next((path for path in (*texts, data / "bin") if not path.exists()), None)
    if lacking:
        raise UserError(f"{lacking} is missing: prepare the data first with scripts/prepare_cnndm.sh, or give --data")
    checkpoint = pretrained_models.fetch("bart.large.cnn", models)
    cut = [out / path.name for path in texts]
    for path, part in zip(texts, cut):
        with open(path, "rb") as lines, files.atomic(part) as file:
            file.writelines(islice(lines, first))
    hypotheses = out / "test.hyp"
    command = [str(checkpoint), str(data / "bin"), str(cut[0]), "--out", str(hypotheses), "--preset", "cnndm", *extra]
    summarize.main(command, "summarize")
    references = read_lines(cut[1])
    found = rouge.report(read_lines(hypotheses), references, workers=cores())
    print(rouge.render(found))
    return rouge_rows(found["conventions"][PUBLISHED], first is not None)


def rouge_rows(found: Mapping[str, Any], partial: bool) -> list[Row]:
    """ROUGE-1, 2 and Lsum (the paper's L) beside the published ones. partial: chance also chose the articles."""
    [row] = [row for row in published.TABLE["cnndm"] if row.system == CNNDM_SYSTEM]
    tolerance = TOLERANCE[row.convention.metric]
    rows = []
    for name, value in zip(ROUGE_NAMES, row.values):
        f1 = found[name]["f1"]
        low, high = (f1["low"], f1["high"]) if partial else (f1["mean"], f1["mean"])
        rows.append(Row(name, value, f1["mean"], low - tolerance, high + tolerance))
    return rows


def translations(released: Translation, data: Path, out: Path, extra: Sequence[str]) -> list[Row]:
    """fairseq's model on fairseq's newstest2014."""
    model, test = fetch(released, data / "published")
    decoding = published.decoding(released.key)
    command = [str(test), str(model), "--output", str(out), "--benchmark", released.benchmark]
    command += ["--beam", str(decoding.beam), "--lenpen", f"{decoding.lenpen:g}"]
    plain = sorted((data / released.prepared).glob(f"orig/**/*-ref.{released.target}.sgm"))
    command += ["--plain-ref", str(plain[0])] if plain else []
    score.main([*command, "--", *extra], "score")
    scores = json.loads((out / results.SCORES).read_text(encoding="utf-8"))["scores"]
    return bleu_rows(released, {each["convention"]: each["score"] for each in scores})


def bleu_rows(released: Translation, found: Mapping[str, float]) -> list[Row]:
    """Each published number of the model beside ours in the same convention."""
    rows = []
    for row in published.TABLE[released.key]:
        name, tolerance = CONVENTIONS[row.convention], TOLERANCE[row.convention.metric]
        rows.append(Row(name, row.values[0], found[name], found[name] - tolerance, found[name] + tolerance))
    return rows


def fetch(released: Translation, folder: Path) -> tuple[Path, Path]:
    """The unpacked model.pt and binarized test set of a released Transformer; fetches what is not there."""
    pipeline = Pipeline(folder / released.key, released.key, {})
    unpacked = []
    for path in released.archives:
        name = path.rsplit("/", 1)[-1]
        archive = pipeline.download([f"{HOST}/{path}"], folder / "downloads" / name)
        target = pipeline.directory / path.split("/", 1)[0]

        def unpack(parts: list[Path], archive: Path = archive) -> None:
            archives.unpack(archive, parts[0])

        pipeline.step(f"unpack {name}", [target], unpack, [archive])
        unpacked.append(target)
    pipeline.finish()
    return one(unpacked[0], "model.pt"), one(unpacked[1], "test.*-*.*.idx").parent


def one(folder: Path, pattern: str) -> Path:
    """The first file below `folder` with such a name; UserError if there is none."""
    found = sorted(folder.rglob(pattern))
    if not found:
        raise UserError(f"{folder} has no {pattern}: the archive is not the one that fairseq released; fetch it again")
    return found[0]


def main(argv: list[str], prog: str) -> int:
    """The command line; what follows `--` goes to `summarize` (cnndm) or fairseq-generate."""
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=["cnndm", *TRANSLATIONS])
    parser.add_argument("--data", type=Path, default=Path("data"), help="where data sets are (default: data)")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N articles (cnndm)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: DATA/published/BENCHMARK")
    args = parser.parse_args(argv[:cut])
    extra = argv[cut + 1 :]
    if args.first is not None and (args.benchmark != "cnndm" or args.first < 1):
        raise UserError("--first takes a number of articles of cnndm, 1 or more")
    out = args.out or args.data / "published" / args.benchmark
    if args.benchmark == "cnndm":
        rows = summaries(args.data / "cnndm", args.data, out, args.first, extra)
    else:
        rows = translations(TRANSLATIONS[args.benchmark], args.data, out, extra)
    print("\n".join(map(str, rows)))
    off = [row.name for row in rows if not row.holds]
    print(f"the numbers do not hold: {', '.join(off)}" if off else "data, generation and scoring are as published")
    return 1 if off else 0
