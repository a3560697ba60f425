"""ROUGE-1/2/L/Lsum of summaries by each convention in use, with bootstrap intervals.

    rouge-score          the raw text, as Google's rouge-score package tokenizes it (lower case, letters and digits)
    rouge-1.5.5-ptb      the paper's convention, as near as maintained libraries come to it: text tokenized as in the
                         Penn Treebank (scoring/ptb.py), sentences cut at " . ", as files2rouge hands them to the Perl
                         script ROUGE-1.5.5; what that prints as ROUGE-L is computed over sentences, so it is Lsum here
    ...+stem             the same after Porter stemming of words longer than three letters (`-m` of the Perl script)

Each value is the mean over documents of the F1 score; its interval the 2.5th and 97.5th percentile of that mean over
resampled documents (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries").
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
from tqdm import tqdm

from rdrop_fairseq import files
from rdrop_fairseq.corpus import manifest
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import ptb
from rdrop_fairseq.scoring.text import read_lines

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
MEASURES = ("precision", "recall", "f1")
HEADINGS = ("ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum")
# F1 in percent that others report; the paper's ROUGE-L stands under Lsum, which it is.
PUBLISHED = {
    "cnndm": {"BART": (44.16, 21.28, None, 40.90), "BART + R-Drop": (44.51, 21.58, None, 41.24)},
    "xsum": {"BART": (45.14, 22.27, None, 37.25)},
}


class Convention(NamedTuple):
    """`split` gives the sentences of a line, ready for rouge-score's tokenizer; `stem`: Porter's stemmer on or off."""

    name: str
    split: Callable[[str], list[str]]
    stem: bool


class Interval(NamedTuple):
    """A mean in percent and the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


def ptb_sentences(line: str) -> list[str]:
    """A line tokenized as in the Treebank, cut after every period that stands alone."""
    return (" .\n".join(ptb.tokenize(line).split(" . "))).split("\n")


CONVENTIONS = (
    Convention("rouge-score", ptb.sentences, False),
    Convention("rouge-score+stem", ptb.sentences, True),
    Convention("rouge-1.5.5-ptb", ptb_sentences, False),
    Convention("rouge-1.5.5-ptb+stem", ptb_sentences, True),
)


def score_pair(hypothesis: str, reference: str, convention: Convention) -> np.ndarray:
    """Scores of one summary, [4 types, 3 measures] in 0..1; all zero if either text is empty."""
    texts = ("\n".join(convention.split(text)) for text in (reference, hypothesis))
    found = _scorer(convention.stem).score(*texts)
    return np.array([tuple(found[name]) for name in TYPES])


def score_all(
    hypotheses: Sequence[str], references: Sequence[str], convention: Convention, workers: int = 1
) -> np.ndarray:
    """`score_pair` for each pair of lines, [documents, 4, 3]; the same for any number of processes."""
    jobs = list(zip(hypotheses, references, [convention.name] * len(hypotheses)))
    show: dict[str, Any] = {"total": len(jobs), "desc": convention.name, "unit": "summaries", "mininterval": 1.0}
    if workers <= 1:
        return np.array([_job(job) for job in tqdm(jobs, **show)])
    with ProcessPoolExecutor(workers) as pool:
        return np.array(list(tqdm(pool.map(_job, jobs, chunksize=32), **show)))


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


def render(result: dict[str, Any], published: str | None = None) -> str:
    """The report as text: F1 in percent with its interval, one row per convention, published figures below."""
    lines = [f"F1 in %, [95 % interval], {result['documents']:,} summaries"]
    for kind, what in (("empty_summaries", "summaries"), ("empty_references", "references")):
        if result[kind]:
            lines.append(f"note: {result[kind]:,} {what} are empty and score 0")
    lines.append(f"{'':22}" + "".join(f"{heading:>24}" for heading in HEADINGS))
    for name, row in result["conventions"].items():
        found = (Interval(**row[kind]["f1"]) for kind in TYPES)
        lines.append(f"{name:22}" + "".join(f"{f.mean:8.2f} [{f.low:5.2f}, {f.high:6.2f}]" for f in found))
    if published:
        lines.append(f"published elsewhere, not measured here (ROUGE-1.5.5 on PTB-tokenized text, {published}):")
        for name, values in PUBLISHED[published].items():
            cells = (f"{'-':>8}" if value is None else f"{value:8.2f}" for value in values)
            lines.append(f"{name:22}" + "".join(f"{cell:24}" for cell in cells).rstrip())
    return "\n".join(lines)


def _job(job: tuple[str, str, str]) -> np.ndarray:
    hypothesis, reference, name = job
    return score_pair(hypothesis, reference, next(c for c in CONVENTIONS if c.name == name))


@cache
def _scorer(stem: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise UserError('rouge-score is not installed: pip install "rdrop-fairseq[summarization]"') from error
    return RougeScorer(list(TYPES), use_stemmer=stem)


def main(argv: list[str], prog: str) -> int | None:
    """`rouge --hyp H --ref R`."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hyp", type=Path, required=True, help="summaries, one a line")
    parser.add_argument("--ref", type=Path, required=True, help="references, one a line")
    parser.add_argument("--published", choices=sorted(PUBLISHED), help="print published figures below")
    parser.add_argument("--json", type=Path, help="where the numbers go (default: HYP.rouge.json)")
    parser.add_argument("--samples", type=int, default=1000, metavar="N", help="bootstrap samples")
    parser.add_argument("--seed", type=int, default=12345, help="of the bootstrap")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    args = parser.parse_args(argv)
    if args.samples < 1 or args.workers < 1:
        raise UserError("--samples and --workers must be at least 1")
    result = report(read_lines(args.hyp), read_lines(args.ref), args.samples, args.seed, args.workers)
    print(render(result, args.published))
    target = args.json or args.hyp.with_name(args.hyp.name + ".rouge.json")
    with files.atomic(target, "w") as file:
        published = {args.published: PUBLISHED[args.published]} if args.published else {}
        json.dump({"hyp": str(args.hyp), "ref": str(args.ref), **result, "published": published}, file, indent=2)
        file.write("\n")
    return 0
