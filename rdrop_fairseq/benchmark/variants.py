"""Training steps of every criterion on sentences and of R-Drop's options, beside plain training and plain R-Drop.

Cutoff, SimCut, more passes, one forward per view, and the encoder shared by all views, on models of several depths.
"""

from __future__ import annotations

import functools
from argparse import Namespace
from collections.abc import Sequence

from rdrop_fairseq.ablation.grid import CRITERIA
from rdrop_fairseq.benchmark import command
from rdrop_fairseq.benchmark.table import Row
from rdrop_fairseq.benchmark.timing import compare
from rdrop_fairseq.benchmark.training_steps import OUR_CRITERION, SIZES, Rig, peak_of_training, systems, transformer

PLAIN, RDROP = "plain", "rdrop"
VARIANTS = {
    **{short: ["--criterion", name] for short, name in CRITERIA.items()},
    "rdrop + token cutoff": [*OUR_CRITERION, "--rdrop-cutoff", "token"],
    "rdrop, 3 passes": [*OUR_CRITERION, "--rdrop-passes", "3"],
    "rdrop, 4 passes": [*OUR_CRITERION, "--rdrop-passes", "4"],
    "rdrop, separate forwards": [*OUR_CRITERION, "--rdrop-forward", "separate"],
    "rdrop, shared encoder": [*OUR_CRITERION, "--rdrop-forward", "shared-encoder"],
}


def measure(depth: str, names: Sequence[str], args: Namespace) -> list[Row]:
    """One row per variant at one depth, ENCODER+DECODER layers."""
    encoder, decoder = map(int, depth.split("+"))
    words = transformer(encoder, decoder, args.width, args.ffn)
    make = functools.partial(Rig, words, args.classes, args.device, args.dtype)
    rig = make()
    chosen = {name: VARIANTS[name] for name in dict.fromkeys((PLAIN, RDROP, *names))}
    works = systems(rig, chosen, rig.batch(args.tokens))
    rows = compare("variant", works, args.rounds, args.clock, {"of plain": PLAIN, "of R-Drop": RDROP})
    for row in rows if args.memory else ():
        row["peak MB"] = peak_of_training(make, VARIANTS[str(row["variant"])], args.tokens, args.device)
    return [{"layers": depth, **row} for row in rows]


def main(argv: list[str], prog: str) -> None:
    """`benchmark variants`."""
    parser = command.make_parser(prog, __doc__, "variants", threads=1, clock="cpu")
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"some of: {'; '.join(VARIANTS)}")
    parser.add_argument("--depths", nargs="+", default=["2+2", "6+6", "12+2"], help="layers of encoder+decoder")
    parser.add_argument("--memory", action="store_true", help="also measure peak memory")
    sizes = {**SIZES, "tokens": (1024, SIZES["tokens"][1])}
    del sizes["layers"]
    command.add_sizes(parser, sizes)
    args = parser.parse_args(argv)
    names = command.choose(parser, args.variants, list(VARIANTS), "variant")
    command.begin(args)
    rows = [row for depth in args.depths for row in measure(depth, names, args)]
    command.report(args, rows, "variants")
