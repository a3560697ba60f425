"""Loss and projection alone, from features to gradients: our implementations, others, and the limit of them all.

The limit is the projection's three matrix products, logits = X W^T, dX = G W, dW = G^T X, and one reading and writing
of the logits in between, which turns them into G.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Callable

import torch
from torch import Tensor

from rdrop_fairseq.benchmark import command
from rdrop_fairseq.benchmark.naive import naive_loss
from rdrop_fairseq.benchmark.peak import peak_bytes
from rdrop_fairseq.benchmark.table import Row
from rdrop_fairseq.benchmark.timing import UnavailableError, Work, compare, ran_out_of_memory
from rdrop_fairseq.loss import ViewWeights, linear_rdrop_loss, plain_weights, rdrop_weights
from rdrop_fairseq.loss.eager import eager_loss

PAD = 1
ALPHA, SMOOTHING = 5.0, 0.1
OURS, EAGER, PEER, NAIVE = "ours (fused)", "ours (eager)", "fairseq's R-Drop", "naive"
SWEEP, COMPILED = "ours (torch sweep)", "ours (eager, torch.compile)"
OURS_PLAIN, LIGER, TORCH = "ours, alpha 0", "Liger, alpha 0", "torch, alpha 0, no smoothing"
PRODUCTS, LIMIT = "three matrix products", "limit (logits read and written once, too)"
BARE = (PRODUCTS, LIMIT)
SIZES = {
    "tokens": (2048, "target tokens of one view"),
    "width": (512, "features"),
    "vocab": (32768, "vocabulary"),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Inputs of one loss: features [m*N, d] and weight [V, d] (leaves), targets [N], of an objective of m views."""

    weights: ViewWeights
    features: Tensor
    weight: Tensor
    target: Tensor

    def gradients(self, loss: Callable[[], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        """A contestant: one forward and backward."""
        return lambda: torch.autograd.grad(loss(), (self.features, self.weight))

    def ours(self, impl: str) -> Tensor:
        """Our loss by this implementation."""
        return linear_rdrop_loss(
            self.features, self.weight, self.target, weights=self.weights, label_smoothing=SMOOTHING,
            ignore_index=PAD, positions=self.target.numel(), impl=impl,
        )[0]  # fmt: skip

    def naive(self) -> Tensor:
        """The objective as public code writes it."""
        return naive_loss(self.logits(), self.target, self.weights, SMOOTHING, PAD)

    def logits(self) -> Tensor:
        """[m*N, V] by an ordinary linear layer."""
        return torch.nn.functional.linear(self.features, self.weight)

    def targets(self) -> Tensor:
        """Those of all views: [m*N]."""
        return self.target.repeat(self.weights.views)


def make_problem(
    weights: ViewWeights, tokens: int, width: int, classes: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Problem:
    """Random inputs; the views are near each other, as dropout makes them."""
    draw = torch.Generator().manual_seed(1)
    base = torch.randn(tokens, width, generator=draw)
    noise = torch.randn(weights.views, tokens, width, generator=draw)
    weight = torch.randn(classes, width, generator=draw).mul_(width**-0.5)
    return Problem(
        weights,
        (base + 0.3 * noise).flatten(0, 1).to(device, dtype).requires_grad_(),
        weight.to(device, dtype).requires_grad_(),
        torch.randint(4, classes, (tokens,), generator=draw).to(device),
    )


def bare(problem: Problem) -> dict[str, Work]:
    """The products, alone and with the logits read and written once."""

    @torch.no_grad()
    def products(sweep: bool) -> tuple[Tensor, Tensor]:
        logits = problem.logits()
        if sweep:
            logits.neg_()
        return logits @ problem.weight, logits.t() @ problem.features

    return {PRODUCTS: lambda: products(False), LIMIT: lambda: products(True)}


def contestants(problem: Problem) -> dict[str, Work]:
    """R-Drop by ours, fairseq's, and the limit."""
    return {
        OURS: problem.gradients(lambda: problem.ours("fused")),
        EAGER: problem.gradients(lambda: problem.ours("eager")),
        PEER: problem.gradients(lambda: fairseq_loss(problem)),
        **bare(problem),
    }


def further(problem: Problem) -> dict[str, Work]:
    """Further contestants on a GPU: our torch sweep, a compiled loss, and cross entropy alone."""
    others = {COMPILED: _compiled(problem), LIGER: _liger, TORCH: _torch}
    plain = dataclasses.replace(problem, weights=plain_weights(), target=problem.targets())
    return {
        SWEEP: problem.gradients(lambda: problem.ours("fused-torch")),
        OURS_PLAIN: problem.gradients(lambda: plain.ours("auto")),
        **{name: _foreign(problem.gradients(functools.partial(loss, problem))) for name, loss in others.items()},
    }


def _foreign(run: Work) -> Work:
    """Turns any exception of foreign code into that contestant's result."""

    def guarded() -> object:
        try:
            return run()
        except UnavailableError:
            raise
        except Exception as error:
            if ran_out_of_memory(error):
                raise
            raise UnavailableError(f"fails: {type(error).__name__}") from error

    return guarded


def fairseq_loss(problem: Problem) -> Tensor:
    """fairseq's R-Drop loss of features, computed by fairseq's functions."""
    try:
        from fairseq import utils
        from fairseq.criterions.label_smoothed_cross_entropy_with_rdrop import RdropLabelSmoothedCrossEntropyCriterion
    except ImportError:
        raise UnavailableError("fairseq is not installed") from None
    softmax = {True: utils.log_softmax, False: utils.softmax}  # in fp32
    model: Any = SimpleNamespace(
        get_normalized_probs=lambda output, log_probs: softmax[log_probs](output[0], dim=-1),
        get_targets=lambda sample, output: sample["target"],
    )
    # Its methods need a criterion, and building one needs a task. They read these four attributes only.
    criterion: Any = SimpleNamespace(eps=SMOOTHING, padding_idx=PAD, rdrop_alpha=ALPHA, ignore_prefix_size=0)
    methods = RdropLabelSmoothedCrossEntropyCriterion
    criterion.get_lprobs_and_target = lambda *args: methods.get_lprobs_and_target(criterion, *args)
    output = (problem.logits().unsqueeze(0),)
    loss: Tensor = methods.compute_loss(criterion, model, output, {"target": problem.target})[0]
    return loss


def _compiled(problem: Problem) -> Callable[[Problem], Tensor]:
    weights, target = problem.weights, problem.target

    @torch.compile(dynamic=False)
    def loss(features: Tensor, weight: Tensor) -> Tensor:
        logits = torch.nn.functional.linear(features, weight).view(weights.views, -1, weight.size(0))
        return eager_loss(logits, target, weights, SMOOTHING)[0]

    return lambda problem: loss(problem.features, problem.weight)


def _liger(problem: Problem) -> Tensor:
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss
    except ImportError:
        raise UnavailableError("not installed") from None
    layer = LigerFusedLinearCrossEntropyLoss(ignore_index=PAD, label_smoothing=SMOOTHING, reduction="sum")
    loss: Tensor = layer(problem.weight, problem.features, problem.targets())
    return loss


def _torch(problem: Problem) -> Tensor:
    """Chunked since torch 2.13, and then without smoothing."""
    function = getattr(torch.nn.functional, "linear_cross_entropy", None)
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if function is None or options is None:
        raise UnavailableError(f"not in torch {torch.__version__}")
    loss: Tensor = function(
        problem.features, problem.weight, problem.targets(), reduction="sum", ignore_index=PAD, options=options()
    )
    return loss


def measure(problem: Problem, turns: int, clock: str) -> list[Row]:
    """One row per contestant: time, its ratio to fairseq's and to the limit, peak memory above the inputs."""
    works = contestants(problem)
    if clock == "cuda":
        works |= further(problem)
    beside = {"of fairseq's": PEER, "of the products": PRODUCTS, "of the limit": LIMIT}
    rows = compare("loss and projection", works, turns, clock, beside)
    add_peaks(rows, "loss and projection", works, problem.features.device.type)
    return rows


def add_peaks(rows: list[Row], head: str, works: Mapping[str, Work], device: str) -> None:
    """Peak memory above the inputs of every contestant that ran, beside the bare products' none."""
    for row in rows:
        name = str(row[head])
        if "noise" in row and name not in BARE:
            row["MB above inputs"] = peak_bytes(works[name], device) / 1e6


def run(args: argparse.Namespace) -> None:
    """Measures and reports."""
    command.begin(args)
    problem = make_problem(
        rdrop_weights(ALPHA), args.loss_tokens, args.loss_width, args.loss_vocab, args.device,
        command.torch_dtype(args.dtype),
    )  # fmt: skip
    command.report(args, measure(problem, args.rounds, args.clock), "loss")
