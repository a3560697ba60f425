"""Projection and loss of every objective, fused beside naive: time of forward and backward, features to gradients.

Naive is what public code does with logits (benchmark/naive.py), an ordinary linear layer before it. The features of the
views are random and near each other, as dropout makes them; there is no model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Callable

import torch

from rdrop_fairseq.benchmark.naive import naive_loss
from rdrop_fairseq.benchmark.timing import CLOCKS, Cell, ratio, rounds, table, write_csv
from rdrop_fairseq.loss import ViewWeights, cutoff_weights, linear_rdrop_loss, rdrop_weights, simcut_weights

OBJECTIVES = {
    "R-Drop, 2 views": rdrop_weights(5.0),
    "R-Drop, 3 views": rdrop_weights(5.0, views=3),
    "R-Drop, 4 views": rdrop_weights(5.0, views=4),
    "SimCut": simcut_weights(3.0),
    "Cutoff, 1 cut view": cutoff_weights((1.0,), 5.0),
    "Cutoff, 2 cut views": cutoff_weights((1.0, 1.0), 5.0),
}
SMOOTHING, PADDING = 0.1, 1
NAIVE, FUSED, LIMIT = "naive", "fused", "three matrix products"


def contestants(weights: ViewWeights, tokens: int, width: int, classes: int) -> dict[str, Callable[[], object]]:
    """Forward and backward of one objective on the same inputs, and the bare products that both must do."""
    draw = torch.Generator().manual_seed(1)
    base = torch.randn(tokens, width, generator=draw)
    noise = torch.randn(weights.views, tokens, width, generator=draw)
    features = (base + 0.3 * noise).flatten(0, 1).requires_grad_()
    weight = torch.randn(classes, width, generator=draw).mul_(width**-0.5).requires_grad_()
    target = torch.randint(4, classes, (tokens,), generator=draw)

    def naive() -> None:
        features.grad = weight.grad = None
        logits = torch.nn.functional.linear(features, weight)
        naive_loss(logits, target, weights, SMOOTHING, PADDING).backward()

    def fused() -> None:
        features.grad = weight.grad = None
        loss, _, _ = linear_rdrop_loss(
            features, weight, target, weights=weights, label_smoothing=SMOOTHING, ignore_index=PADDING
        )
        loss.backward()

    @torch.no_grad()
    def products() -> None:
        logits = features @ weight.t()
        _ = logits @ weight, logits.t() @ features

    return {NAIVE: naive, FUSED: fused, LIMIT: products}


def measure(
    names: Sequence[str], tokens: int, width: int, classes: int, turns: int, clock: Callable[[], float]
) -> list[dict[str, Cell]]:
    """One row per objective: median seconds, and medians of the ratios taken round by round."""
    rows: list[dict[str, Cell]] = []
    for name in names:
        seconds = rounds(contestants(OBJECTIVES[name], tokens, width, classes), turns, name, clock)
        rows.append(
            {
                "objective": name,
                "naive, s": median(seconds[NAIVE]),
                "fused, s": median(seconds[FUSED]),
                "fused of naive": ratio(seconds[FUSED], seconds[NAIVE]),
                "fused of the matrix products": ratio(seconds[FUSED], seconds[LIMIT]),
            }
        )
    return rows


def main(argv: list[str], prog: str) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("objectives", nargs="*", metavar="OBJECTIVE", help=f"some of: {'; '.join(OBJECTIVES)}")
    parser.add_argument("--tokens", type=int, default=512, help="target tokens of one view")
    parser.add_argument("--width", type=int, default=512, help="features")
    parser.add_argument("--vocab", type=int, default=32768, help="vocabulary")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--clock", choices=list(CLOCKS), default="cpu", help="CPU time of all threads, or wall time")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark"), help="folder of the CSV file")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.objectives) - set(OBJECTIVES))
    if unknown:
        parser.error(f"no objective {unknown[0]!r}: choose from {'; '.join(OBJECTIVES)}")
    torch.set_num_threads(args.threads)
    names = args.objectives or list(OBJECTIVES)
    rows = measure(names, args.tokens, args.width, args.vocab, args.rounds, CLOCKS[args.clock])
    print(f"{args.tokens} tokens, d {args.width}, V {args.vocab}, {args.threads} threads; {args.clock} time")
    print(table(rows))
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / "objectives.csv", rows)
