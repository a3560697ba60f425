"""`benchmark lm`: the loss and output layer of a language model with WikiText-103's vocabulary, forward and backward.

Full softmax and adaptive softmax (20,000 / 60,000, the shape of transformer_lm_wiki103), each for plain training (one
view), R-Drop as public code writes it (log_softmax and kl_div of whole logits), and R-Drop here. The model below the
output layer is left out: it costs all alike, but for the second view.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import torch
from fairseq.modules import AdaptiveSoftmax
from torch import Tensor

from rdrop_fairseq.benchmark import peak
from rdrop_fairseq.benchmark.naive import naive_loss
from rdrop_fairseq.benchmark.timing import Cell, table, write_csv
from rdrop_fairseq.criterions.adaptive_loss_rdrop import clusters
from rdrop_fairseq.loss import linear_rdrop_loss, plain_weights, rdrop_weights
from rdrop_fairseq.loss.adaptive import adaptive_rdrop_loss

CUTOFFS = [20_000, 60_000]
SOFTMAXES = ("full", "adaptive")
SYSTEMS = ("plain", "naive R-Drop", "R-Drop here")
PADDING = 1


def work(softmax: str, system: str, classes: int, width: int, tokens: int, device: str) -> Callable[[], None]:
    """One forward and backward of a loss on random features, whose words are as frequent as in Zipf's law."""
    torch.manual_seed(1)
    weights = plain_weights() if system == "plain" else rdrop_weights(1.0)
    features = torch.randn(weights.views, tokens, width, device=device).requires_grad_()
    target = (torch.rand(1, tokens, device=device).mul(torch.tensor(float(classes - 4)).log()).exp() + 3).long()
    if softmax == "adaptive":
        layer = AdaptiveSoftmax(classes, width, [*CUTOFFS], 0.0).to(device)
        parameters = list(layer.parameters())

        def loss() -> Tensor:
            parts = clusters(layer, features, target, weights.views)
            if system == "R-Drop here":
                return adaptive_rdrop_loss(parts, weights, PADDING)[0]
            logits = [(rows if matrix is None else rows @ matrix.t(), words) for rows, matrix, words in parts]
            return torch.stack([naive_loss(z, words, weights, 0.0, PADDING) for z, words in logits]).sum()

    else:
        matrix = (torch.randn(classes, width, device=device) * width**-0.5).requires_grad_()
        parameters = [matrix]

        def loss() -> Tensor:
            rows = features.flatten(0, 1)
            if system == "R-Drop here":
                return linear_rdrop_loss(rows, matrix, target.view(-1), weights=weights, ignore_index=PADDING)[0]
            return naive_loss(rows @ matrix.t(), target.view(-1), weights, 0.0, PADDING)

    def run() -> None:
        for tensor in (features, *parameters):
            tensor.grad = None
        loss().backward()
        if device != "cpu":
            torch.cuda.synchronize()

    return run


def measure(args: argparse.Namespace) -> Iterator[dict[str, Cell]]:
    """A row for each softmax and system, each in a process of its own."""
    for softmax in SOFTMAXES:
        for system in SYSTEMS:
            options = ["--one", softmax, system, "--classes", str(args.classes), "--width", str(args.width)]
            options += ["--tokens", str(args.tokens), "--rounds", str(args.rounds), "--threads", str(args.threads)]
            found = peak.in_own_process(__name__, [*options, "--device", args.device])
            yield {"softmax": softmax, "loss": system, **found}


def one(args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a round (wall time) and the peak of memory above what the layer and its features take."""
    torch.set_num_threads(args.threads)
    softmax, system = args.one
    run = work(softmax, system, args.classes, args.width, args.tokens, args.device)
    top, before = peak.peak_above(run, args.device)
    seconds = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "MB above the weights": top - before}


def main(argv: list[str], prog: str = "benchmark lm") -> int:
    """The command line of `benchmark lm`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--classes", type=int, default=267_744, help="vocabulary (default: 267744)")
    parser.add_argument("--width", type=int, default=1024, help="features (default: 1024)")
    parser.add_argument("--tokens", type=int, default=128, help="of one view (default: 128)")
    parser.add_argument("--rounds", type=int, default=5, help="timed ones (default: 5)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default: 2)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark"), help="folder of lm.csv")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(one(args)))
        return 0
    if args.classes <= CUTOFFS[-1]:
        parser.error(f"--classes must be more than {CUTOFFS[-1]}, the last cutoff of the adaptive softmax")
    rows = list(measure(args))
    print(f"torch {torch.__version__}, {args.device}, {args.threads} threads; {vars(args)['tokens']} tokens of a view")
    print(table(rows))
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / "lm.csv", rows)
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
