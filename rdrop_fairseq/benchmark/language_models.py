"""The loss and output layer of a language model with WikiText-103's vocabulary, forward and backward.

Full softmax and adaptive softmax (20,000 / 60,000, the shape of transformer_lm_wiki103), each for plain training (one
view), R-Drop as public code writes it (log_softmax and kl_div of whole logits), and R-Drop here, under the adaptive
softmax also with --rdrop-exact-divergence. The model below the output layer is left out: it costs all alike, but for
the second view.
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from rdrop_fairseq.benchmark import command
from rdrop_fairseq.benchmark.bare_loss import add_peaks
from rdrop_fairseq.benchmark.naive import naive_loss
from rdrop_fairseq.benchmark.table import Row
from rdrop_fairseq.benchmark.timing import compare
from rdrop_fairseq.loss import ViewWeights, linear_rdrop_loss, plain_weights, rdrop_weights
from rdrop_fairseq.loss.adaptive import adaptive_rdrop_loss
from rdrop_fairseq.loss.adaptive_exact import exact_adaptive_loss

CUTOFFS = [20_000, 60_000]
SOFTMAXES = ("full", "adaptive")
PLAIN, NAIVE, OURS, EXACT = "plain", "naive R-Drop", "R-Drop here", "R-Drop here, exact divergence"
PADDING = 1
Loss = Callable[[Tensor, ViewWeights], Tensor]  # of features [m, N, d]


def contestants(
    softmax: str, classes: int, width: int, tokens: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """Forward and backward of each loss on random features, whose words are as frequent as in Zipf's law."""
    torch.manual_seed(1)
    target = (torch.rand(1, tokens).mul(torch.tensor(float(classes - 4)).log()).exp() + 3).long().to(device)
    stacked = torch.randn(2, tokens, width).to(device, dtype)
    make = _full if softmax == "full" else _adaptive
    parameters, losses = make(classes, width, target, device, dtype)

    def run(name: str) -> Callable[[], tuple[Tensor, ...]]:
        weights = plain_weights() if name == PLAIN else rdrop_weights(1.0)
        features = stacked[: weights.views].detach().requires_grad_()
        return lambda: torch.autograd.grad(losses[name](features, weights), [features, *parameters], allow_unused=True)

    return {name: run(name) for name in losses}


def _full(
    classes: int, width: int, target: Tensor, device: str, dtype: torch.dtype
) -> tuple[list[Tensor], dict[str, Loss]]:
    matrix = (torch.randn(classes, width) * width**-0.5).to(device, dtype).requires_grad_()
    words = target.view(-1)

    def naive(features: Tensor, weights: ViewWeights) -> Tensor:
        return naive_loss(features.flatten(0, 1) @ matrix.t(), words, weights, 0.0, PADDING)

    def ours(features: Tensor, weights: ViewWeights) -> Tensor:
        return linear_rdrop_loss(features.flatten(0, 1), matrix, words, weights=weights, ignore_index=PADDING)[0]

    return [matrix], {PLAIN: naive, NAIVE: naive, OURS: ours}


def _adaptive(
    classes: int, width: int, target: Tensor, device: str, dtype: torch.dtype
) -> tuple[list[Tensor], dict[str, Loss]]:
    from fairseq.modules import AdaptiveSoftmax

    from rdrop_fairseq.criterions.adaptive_loss_rdrop import clusters

    layer = AdaptiveSoftmax(classes, width, [*CUTOFFS], 0.0).to(device, dtype)

    def naive(features: Tensor, weights: ViewWeights) -> Tensor:
        parts = clusters(layer, features, target, weights.views)
        logits = [(rows if matrix is None else rows @ matrix.t(), words) for rows, matrix, words in parts]
        return torch.stack([naive_loss(z, words, weights, 0.0, PADDING) for z, words in logits]).sum()

    def ours(features: Tensor, weights: ViewWeights) -> Tensor:
        return adaptive_rdrop_loss(clusters(layer, features, target, weights.views), weights, PADDING)[0]

    def exact(features: Tensor, weights: ViewWeights) -> Tensor:
        further = layer.head, layer.tail, layer.cutoff, weights, PADDING
        return exact_adaptive_loss(features.flatten(0, 1), target.view(-1), *further)[0]

    return list(layer.parameters()), {PLAIN: naive, NAIVE: naive, OURS: ours, EXACT: exact}


def main(argv: list[str], prog: str) -> None:
    """`benchmark lm`."""
    parser = command.make_parser(prog, __doc__, "lm", rounds=5)
    sizes = {"classes": (267_744, "vocabulary"), "width": (1024, "features"), "tokens": (128, "of one view")}
    command.add_sizes(parser, sizes)
    args = parser.parse_args(argv)
    if args.classes <= CUTOFFS[-1]:
        parser.error(f"--classes must be more than {CUTOFFS[-1]}, the last cutoff of the adaptive softmax")
    command.begin(args)
    rows: list[Row] = []
    for softmax in SOFTMAXES:
        works = contestants(
            softmax, args.classes, args.width, args.tokens, args.device, command.torch_dtype(args.dtype)
        )
        found = compare("loss", works, args.rounds, args.clock, {"of plain": PLAIN, "of naive": NAIVE})
        add_peaks(found, "loss", works, args.device)
        rows += [{"softmax": softmax, **row} for row in found]
    command.report(args, rows, "lm")
