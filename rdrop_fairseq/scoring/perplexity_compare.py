"""`perplexity compare`: is the difference of two language models more than chance? A paired bootstrap over blocks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rdrop_fairseq import files
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import perplexity
from rdrop_fairseq.scoring.bootstrap import RESAMPLES, SEED, bootstrap


def compare(words: Sequence[int], baseline: Sequence[float], system: Sequence[float]) -> dict[str, Any]:
    """Two models on the same blocks of text: `words` in each, and the negative log-likelihood in nats by each model.

    Blocks, not words, are drawn again, since words of one text are not independent.
    """
    statistics = [np.stack([nll, words], axis=1).astype(float) for nll in (baseline, system)]
    found = [_perplexity(each.sum(0)) for each in statistics]
    drawn = bootstrap(_perplexity, statistics[:1], statistics[1:])
    return {
        "baseline": found[0],
        "system": found[1],
        "difference": drawn.difference,
        "difference_interval": list(drawn.interval),
        "p_bootstrap": drawn.p_sentences,
        "blocks": len(words),
        "words": sum(words),
        "resamples": RESAMPLES,
        "seed": SEED,
    }


def _perplexity(sums: np.ndarray) -> float:
    return float(np.exp(sums[0] / sums[1]))


def main(argv: list[str], prog: str) -> int | None:
    """The command line of `perplexity compare`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("baseline", type=Path, help="test.perplexity.json of the baseline")
    parser.add_argument("system", type=Path, help="the same of R-Drop")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the comparison as JSON")
    args = parser.parse_args(argv)
    first, second = perplexity.read(args.baseline), perplexity.read(args.system)
    if first["block_words"] != second["block_words"] or first["convention"] != second["convention"]:
        raise UserError(
            f"{args.baseline} ({first['words']:,} words, {first['convention']}) and {args.system} ({second['words']:,} "
            f"words, {second['convention']}) are not of the same blocks: score both in the same way"
        )
    result = compare(first["block_words"], first["block_nll"], second["block_nll"])
    if args.out:
        with files.atomic(args.out, "w") as file:
            file.write(json.dumps(result, indent=1) + "\n")
    low, high = result["difference_interval"]
    print(
        f"perplexity: baseline {result['baseline']:.2f}, R-Drop {result['system']:.2f}, difference "
        f"{result['difference']:+.2f} [{low:+.2f}, {high:+.2f}], p {result['p_bootstrap']:.4f} "
        f"({result['blocks']:,} blocks, {RESAMPLES} paired bootstrap resamples)"
    )
    return 0
