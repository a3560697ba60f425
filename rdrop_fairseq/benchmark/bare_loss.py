"""Loss and projection alone, forward and backward: ours beside fairseq's, and beside the bare matrix products.

The limit is what no exact method can leave out: logits = X W^T, dX = G W, dW = G^T X.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Callable

import torch
from torch import Tensor

from rdrop_fairseq.benchmark.peak import in_own_process, peak_above
from rdrop_fairseq.benchmark.timing import Cell, ratio, rounds, spread
from rdrop_fairseq.loss import linear_rdrop_loss

PAD = 1
ALPHA, SMOOTHING = 5.0, 0.1
OURS, EAGER, PEER, LIMIT = "ours (fused)", "ours (eager)", "fairseq's R-Drop", "three matrix products"


@dataclass
class Shape:
    """One size of the problem: target tokens, width, vocabulary."""

    tokens: int
    width: int
    classes: int


def contestants(shape: Shape, device: str) -> dict[str, Callable[[], object]]:
    """Each does one forward and backward on the same inputs, with fresh gradients."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2 * shape.tokens, shape.width, generator=generator).to(device).requires_grad_()
    weight = torch.randn(shape.classes, shape.width, generator=generator).mul_(shape.width**-0.5).to(device)
    weight.requires_grad_()
    target = torch.randint(4, shape.classes, (shape.tokens,), generator=generator).to(device)

    def step(loss: Callable[[], Tensor]) -> Callable[[], object]:
        def run() -> None:
            features.grad = weight.grad = None
            loss().backward()
            _finish(device)

        return run

    def ours(impl: str) -> Tensor:
        return linear_rdrop_loss(
            features, weight, target, alpha=ALPHA, label_smoothing=SMOOTHING, ignore_index=PAD, impl=impl
        )[0]

    def products() -> None:
        with torch.no_grad():
            logits = features @ weight.t()
            _ = logits @ weight, logits.t() @ features
        _finish(device)

    return {
        OURS: step(lambda: ours("fused")),
        EAGER: step(lambda: ours("eager")),
        PEER: step(lambda: _fairseq_loss(features, weight, target)),
        LIMIT: products,
    }


def _fairseq_loss(features: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """What fairseq's own criterion computes from features on, by its own functions."""
    from fairseq.criterions.label_smoothed_cross_entropy_with_rdrop import RdropLabelSmoothedCrossEntropyCriterion

    logits = torch.nn.functional.linear(features, weight).unsqueeze(0)
    softmax = {True: torch.log_softmax, False: torch.softmax}
    model: Any = SimpleNamespace(
        get_normalized_probs=lambda output, log_probs: softmax[log_probs](output[0], -1),
        get_targets=lambda sample, output: sample["target"],
    )
    # Its methods want a criterion; building one takes a task. They read these four attributes only.
    criterion: Any = SimpleNamespace(eps=SMOOTHING, padding_idx=PAD, rdrop_alpha=ALPHA, ignore_prefix_size=0)
    methods = RdropLabelSmoothedCrossEntropyCriterion
    criterion.get_lprobs_and_target = lambda *args: methods.get_lprobs_and_target(criterion, *args)
    loss: Tensor = methods.compute_loss(criterion, model, (logits,), {"target": target})[0]
    return loss


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def measure(shape: Shape, threads: int, turns: int, device: str) -> list[dict[str, Cell]]:
    """One row per contestant: median seconds, its ratio to fairseq's and to the limit, peak memory above the inputs."""
    torch.set_num_threads(threads)
    seconds = rounds(contestants(shape, device), turns, "loss and projection")
    size = [str(shape.tokens), str(shape.width), str(shape.classes), str(threads), device]
    memory = {
        name: in_own_process("rdrop_fairseq.benchmark.bare_loss", [name, *size])["above_mb"]
        for name in seconds
        if name != LIMIT
    }
    return [
        {
            "loss and projection": name,
            "seconds": sorted(times)[len(times) // 2],
            "of fairseq's": ratio(times, seconds[PEER]),
            "of the limit": ratio(times, seconds[LIMIT]),
            "MB above inputs": memory.get(name),
            "memory of fairseq's": memory[name] / memory[PEER] if name in memory else None,
            "noise": spread(times),
        }
        for name, times in seconds.items()
    ]


def main() -> None:
    """`python -m rdrop_fairseq.benchmark.bare_loss NAME TOKENS WIDTH VOCABULARY THREADS DEVICE`: its peak memory."""
    name, tokens, width, classes, threads, device = sys.argv[1:]
    torch.set_num_threads(int(threads))
    contestants(Shape(64, 64, 64), device)[name]()  # libraries set up their own memory at the first call
    run = contestants(Shape(int(tokens), int(width), int(classes)), device)[name]
    peak, before = peak_above(run, device)
    print(json.dumps({"above_mb": peak - before}))


if __name__ == "__main__":
    main()
