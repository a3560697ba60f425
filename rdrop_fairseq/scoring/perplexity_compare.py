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

RESAMPLES, SEED = 1000, 12345


def compare(words: Sequence[int], baseline: Sequence[float], system: Sequence[float]) -> dict[str, Any]:
    """Two models on the same blocks of text: `words` in each, and the negative log-likelihood in nats by each model.

    Blocks, not words, are drawn again (with replacement, the same for both), since words of one text are not
    independent. Intervals hold 95 % of the resamples; p is two-sided: how often a difference strays from the mean of
    the resampled ones by at least as much as the one that was found (as in sacreBLEU's paired bootstrap).
    """
    counts = np.asarray(words, dtype=float)
    nll = np.stack([np.asarray(baseline, dtype=float), np.asarray(system, dtype=float)])
    found = np.exp(nll.sum(1) / counts.sum())
    random = np.random.default_rng(SEED)
    drawn = random.integers(len(counts), size=(RESAMPLES, len(counts)))
    scores = np.exp(nll[:, drawn].sum(2) / counts[drawn].sum(1))  # 2 x resamples
    differences = scores[1] - scores[0]
    difference = float(found[1] - found[0])
    stray = np.abs(differences - differences.mean()) >= abs(difference)
    return {
        "baseline": float(found[0]),
        "system": float(found[1]),
        "difference": difference,
        "difference_interval": [float(value) for value in np.quantile(differences, (0.025, 0.975))],
        "p_bootstrap": float((stray.sum() + 1) / (RESAMPLES + 1)) if difference else 1.0,
        "blocks": len(counts),
        "words": int(counts.sum()),
        "resamples": RESAMPLES,
        "seed": SEED,
    }


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
