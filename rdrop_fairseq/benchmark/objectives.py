"""Projection and loss of every objective, fused beside naive: time of forward and backward, features to gradients.

Naive is what public code does with logits (benchmark/naive.py), an ordinary linear layer before it. The features of the
views are random and near each other, as dropout makes them; there is no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from rdrop_fairseq.ablation.grid import CRITERIA
from rdrop_fairseq.benchmark import bare_loss, command
from rdrop_fairseq.benchmark.bare_loss import NAIVE, OURS, PRODUCTS
from rdrop_fairseq.benchmark.table import Row
from rdrop_fairseq.benchmark.timing import Work, compare
from rdrop_fairseq.loss import ViewWeights

# Beside every criterion on sentences as it is by default: these of their options.
FURTHER: tuple[tuple[str, Mapping[str, int]], ...] = (
    ("rdrop", {"rdrop_passes": 3}),
    ("rdrop", {"rdrop_passes": 4}),
    ("cutoff", {"rdrop_cutoff_number": 2}),
)


def objectives() -> dict[str, ViewWeights]:
    """Name and weights of each objective, taken from the criterions themselves."""
    found = {}
    for short, options in (*((short, {}) for short in CRITERIA if short != "plain"), *FURTHER):
        weights = weights_of(CRITERIA[short], options)
        found[f"{short}, {weights.views} views"] = weights
    return found


def weights_of(criterion: str, options: Mapping[str, Any]) -> ViewWeights:
    """The weights of a registered criterion with these options."""
    from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
    from fairseq.data import Dictionary

    from rdrop_fairseq import register

    register()
    words = Dictionary()
    task = SimpleNamespace(source_dictionary=words, target_dictionary=words)
    built: Any = CRITERION_REGISTRY[criterion](task, CRITERION_DATACLASS_REGISTRY[criterion](**options))
    weights: ViewWeights = built.view_weights()
    return weights


def contestants(problem: bare_loss.Problem) -> dict[str, Work]:
    """Forward and backward of one objective, naive and fused, and the bare products that both contain."""
    fused = problem.gradients(lambda: problem.ours("fused"))
    return {NAIVE: problem.gradients(problem.naive), OURS: fused, PRODUCTS: bare_loss.bare(problem)[PRODUCTS]}


def main(argv: list[str], prog: str) -> None:
    """`benchmark objectives`."""
    parser = command.make_parser(prog, __doc__, "objectives", rounds=5, threads=1, clock="cpu")
    parser.add_argument("objectives", nargs="*", metavar="OBJECTIVE", help="a name or its beginning: rdrop, simcut")
    command.add_sizes(parser, {**bare_loss.SIZES, "tokens": (512, "target tokens of one view")})
    args = parser.parse_args(argv)
    known = objectives()
    chosen = command.choose(parser, args.objectives, list(known), "objective")
    command.begin(args)
    rows: list[Row] = []
    for name in chosen:
        problem = bare_loss.make_problem(
            known[name], args.tokens, args.width, args.vocab, args.device, command.torch_dtype(args.dtype)
        )
        beside = {"of naive": NAIVE, "of the products": PRODUCTS}
        found = compare(name, contestants(problem), args.rounds, args.clock, beside)
        rows += [{"objective": name, "loss and projection": row.pop(name), **row} for row in found]
    command.report(args, rows, "objectives")
