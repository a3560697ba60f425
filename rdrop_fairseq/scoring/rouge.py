"""ROUGE-1/2/L/Lsum of summaries by each convention in use (rdrop_fairseq.rouge says which), with bootstrap intervals.

Each value is the mean over documents of the F1 score; its interval the 2.5th and 97.5th percentile of that mean over
resampled documents (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries").
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from rdrop_fairseq import files, published
from rdrop_fairseq.corpus import manifest, stories
from rdrop_fairseq.corpus.processes import add_workers
from rdrop_fairseq.errors import UserError, positive
from rdrop_fairseq.rouge import CONVENTIONS, PUBLISHED, TYPES, Convention, score_pair
from rdrop_fairseq.scoring.text import read_lines

MEASURES = ("precision", "recall", "f1")
HEADINGS = ("ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum")
SUMMARIZATION = sorted(published.benchmarks(published.ROUGE.metric))


class Interval(NamedTuple):
    """A mean in percent and the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


def score_all(
    hypotheses: Sequence[str], references: Sequence[str], convention: Convention, workers: int = 1
) -> np.ndarray:
    """`score_pair` for each pair of lines, [documents, 4, 3]; the same for any number of processes."""
    columns = hypotheses, references, [convention] * len(hypotheses)
    show: dict[str, Any] = {
        "total": len(hypotheses), "desc": convention.name, "unit": "summaries", "mininterval": 1.0
    }  # fmt: skip
    if workers <= 1:
        return np.array(list(tqdm(map(score_pair, *columns), **show)))
    with ProcessPoolExecutor(workers) as pool:
        return np.array(list(tqdm(pool.map(score_pair, *columns, chunksize=32), **show)))


def intervals(scores: np.ndarray, samples: int = 1000, seed: int = 12345) -> np.ndarray:
    """Mean, low and high over documents in percent: [documents, ...] -> [3, ...], of `samples` bootstrap samples."""
    generator = np.random.default_rng(seed)
    count = len(scores)
    means = np.stack([scores[generator.integers(0, count, count)].mean(axis=0) for _ in range(samples)])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return 100 * np.stack([scores.mean(axis=0), low, high])


def report(
    hypotheses: Sequence[str], references: Sequence[str], samples: int = 1000, seed: int = 12345, workers: int = 1
) -> dict[str, Any]:
    """All conventions: {"conventions": {name: {"rouge1": {"f1": {"mean", "low", "high"}, ...}}}, signature, counts}.

    Raises UserError if the two differ in their number of lines.
    """
    if len(hypotheses) != len(references):
        raise UserError(
            f"{len(hypotheses)} summaries for {len(references)} references: line n of both has to be about one article"
        )
    table = {}
    for convention in CONVENTIONS:
        bounds = intervals(score_all(hypotheses, references, convention, workers), samples, seed)
        table[convention.name] = {
            name: {measure: Interval(*bounds[:, i, j].tolist())._asdict() for j, measure in enumerate(MEASURES)}
            for i, name in enumerate(TYPES)
        }
    return {
        "documents": len(references),
        "empty_summaries": sum(not text.strip() for text in hypotheses),
        "empty_references": sum(not text.strip() for text in references),
        "bootstrap": {"samples": samples, "seed": seed, "interval": 0.95},
        "versions": manifest.versions("rdrop-fairseq", "rouge-score", "nltk", "sacremoses"),
        "conventions": table,
    }


def without_sentence_ends(references: Sequence[str]) -> str | None:
    """A warning if most references lack a sentence end, as CNN/DailyMail's raw highlights do; else None."""
    written = [line.rstrip() for line in references if line.strip()]
    closed = sum(line.endswith(stories.CLOSED) for line in written)
    if 2 * closed >= len(written):
        return None
    return (
        f"{len(written) - closed:,} of {len(written):,} references have no sentence end: ROUGE-Lsum and rouge-1.5.5 "
        "count each as one sentence and come out far too low; prepare the data again (periods are added by default)"
    )


def render(result: dict[str, Any], benchmark: str | None = None) -> str:
    """The report as text: F1 in percent with its interval, one row per convention, published figures below."""
    lines = [f"F1 in %, [95 % interval], {result['documents']:,} summaries"]
    for kind, what in (("empty_summaries", "summaries"), ("empty_references", "references")):
        if result[kind]:
            lines.append(f"note: {result[kind]:,} {what} are empty and score 0")
    lines.append(f"{'':22}" + "".join(f"{heading:>24}" for heading in HEADINGS))
    for name, row in result["conventions"].items():
        found = (Interval(**row[kind]["f1"]) for kind in TYPES)
        lines.append(f"{name:22}" + "".join(f"{f.mean:8.2f} [{f.low:5.2f}, {f.high:6.2f}]" for f in found))
    if benchmark:
        lines.append(f"published elsewhere, not measured here ({published.ROUGE.how}, {benchmark}); as {PUBLISHED}:")
        for row in published.TABLE[benchmark]:
            rouge1, rouge2, rouge_l = row.score.split("/")
            cells = (f"{cell:>8}" for cell in (rouge1, rouge2, "-", rouge_l))  # ROUGE-1.5.5's ROUGE-L is Lsum
            lines.append(f"{row.system:22}" + "".join(f"{cell:24}" for cell in cells).rstrip())
    return "\n".join(lines)


def main(argv: list[str], prog: str) -> int | None:
    """`rouge --hyp H --ref R`."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hyp", type=Path, required=True, help="summaries, one a line")
    parser.add_argument("--ref", type=Path, required=True, help="references, one a line")
    parser.add_argument("--published", choices=SUMMARIZATION, help="print published figures below")
    parser.add_argument("--json", type=Path, help="where the numbers go (default: HYP.rouge.json)")
    parser.add_argument("--samples", type=positive, default=1000, metavar="N", help="bootstrap samples")
    parser.add_argument("--seed", type=int, default=12345, help="of the bootstrap")
    add_workers(parser)
    args = parser.parse_args(argv)
    references = read_lines(args.ref)
    result = report(read_lines(args.hyp), references, args.samples, args.seed, args.workers)
    print(render(result, args.published))
    warning = without_sentence_ends(references)
    if warning:
        print(f"WARNING: {args.ref}: {warning}", file=sys.stderr)
    target = args.json or args.hyp.with_name(args.hyp.name + ".rouge.json")
    with files.atomic(target, "w") as file:
        others = [row.as_json() for row in published.TABLE.get(args.published or "", [])]
        json.dump({"hyp": str(args.hyp), "ref": str(args.ref), **result, "published": others}, file, indent=2)
        file.write("\n")
    return 0
