"""The objective under an adaptive softmax: gradcheck, and the two things that are known of its sums."""

from __future__ import annotations

import torch

from rdrop_fairseq.loss import adaptive_exact, rdrop_weights
from rdrop_fairseq.loss.adaptive import adaptive_rdrop_loss
from rdrop_fairseq.loss.adaptive_exact import exact_adaptive_loss

M, N, D = 2, 6, 5
TARGETS = [torch.tensor([3, 7, 1, 7, 8, 0]), torch.tensor([2, 0]), torch.tensor([4])]
SIZES = [9, 5, 6]  # the head: seven words and two tails


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(1)
    made = []
    for target, size in zip(TARGETS, SIZES):
        made += [torch.randn(M * len(target), D), torch.randn(size, D)]
    return [tensor.double().requires_grad_() for tensor in made]


def loss(*tensors: torch.Tensor, impl: str = "fused", weight: bool = True) -> tuple[torch.Tensor, ...]:
    pairs = list(zip(tensors[::2], tensors[1::2], TARGETS))
    parts = [(x, w, y) if weight else (x @ w.t(), None, y) for x, w, y in pairs]
    return adaptive_rdrop_loss(parts, rdrop_weights(1.5), ignore_index=1, impl=impl)


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(lambda *tensors: loss(*tensors)[0], inputs())


def test_gradcheck_of_the_exact_divergence(monkeypatch) -> None:
    """Three views, chunks of four positions."""
    monkeypatch.setattr(adaptive_exact, "CHUNK_BYTES", 4 * 4 * 3 * 12)
    torch.manual_seed(1)
    shapes = (3 * N, D), (6, D), (5, D), (3, D)  # head: four words and two tails
    made = [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]
    target = torch.tensor([3, 11, 1, 7, 8, 0])

    def of(x: torch.Tensor, head: torch.Tensor, *tails: torch.Tensor) -> torch.Tensor:
        layers = [lambda rows, matrix=matrix: rows @ matrix.t() for matrix in (head, *tails)]
        return exact_adaptive_loss(x, target, layers[0], layers[1:], [4, 9, 12], rdrop_weights(1.5, 3), 1)[0]

    assert torch.autograd.gradcheck(of, made)


def test_fused_eager_and_logits_agree() -> None:
    found = [loss(*inputs(), **how) for how in ({}, {"impl": "eager"}, {"weight": False})]
    for other in found[1:]:
        for mine, theirs in zip(found[0], other):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_equals_the_sum_over_clusters_in_plain_torch() -> None:
    tensors = inputs()
    expected = nlls = kls = 0.0
    for x, w, y in zip(tensors[::2], tensors[1::2], TARGETS):
        counted = y.ne(1) if len(y) == N else torch.ones_like(y, dtype=torch.bool)
        lp, lq = (part[counted] for part in (x @ w.t()).log_softmax(-1).chunk(2))
        nll = -(lp + lq).gather(1, y[counted].view(-1, 1)).sum()
        kl = (lp.exp() * (lp - lq)).sum() + (lq.exp() * (lq - lp)).sum()
        expected, nlls, kls = expected + nll + 0.75 * kl, nlls + nll / 2, kls + kl / 2
    for mine, plain in zip(loss(*tensors), (expected, nlls, kls)):
        torch.testing.assert_close(mine, plain)
