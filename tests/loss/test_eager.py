"""The definition, by values worked out by hand and by torch's and fairseq's own functions."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import IMPLS, PAD, make_case

from rdrop_fairseq.loss import cutoff_weights, plain_weights, rdrop_loss, simcut_weights

# One position, two classes, reference 0:  p = (3/4, 1/4) in view 1,  q = (1/2, 1/2) in view 2.
#   CE = -ln 3/4 - ln 1/2,  KL(p||q) = 3/4 ln 3/2 + 1/4 ln 1/2,  KL(q||p) = 1/2 ln 2/3 + 1/2 ln 2
LOGITS = [[math.log(3.0), 0.0], [0.0, 0.0]]
CE_P, CE_Q = math.log(4 / 3), math.log(2)
KL_PQ = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
KL_QP = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)


# M = (5/8, 3/8), the mean of p and q
JS = 0.5 * (0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3)) + 0.5 * (0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3))
P, Q = LOGITS
BY_HAND = {  # views, objective, (loss, nll as the mean over views, kl)
    "rdrop": ([P, Q], {"alpha": 4.0}, (CE_P + CE_Q + 2 * (KL_PQ + KL_QP), (CE_P + CE_Q) / 2, (KL_PQ + KL_QP) / 2)),
    "simcut": ([P, Q], {"weights": simcut_weights(3.0)}, (CE_P + 3 * KL_PQ, CE_P, KL_PQ)),
    "js": (
        [P, Q], {"weights": cutoff_weights((0.5,), 2.0)}, (CE_P + 0.5 * CE_Q + 2 * JS, (CE_P + 0.5 * CE_Q) / 1.5, JS)
    ),
    # w_ij = alpha / 6, and of the six ordered pairs two are (p, q) and two (q, p)
    "three views": (
        [P, Q, Q], {"alpha": 4.0, "views": 3},
        (CE_P + 2 * CE_Q + 4 / 3 * (KL_PQ + KL_QP), (CE_P + 2 * CE_Q) / 3, (KL_PQ + KL_QP) / 3),
    ),
}  # fmt: skip


def solve(name, impl):
    views, objective, expected = BY_HAND[name]
    logits = torch.tensor(views, dtype=torch.float64, requires_grad=True)
    return rdrop_loss(logits, torch.tensor([0]), **objective, impl=impl), logits, expected


@IMPLS
@pytest.mark.parametrize("name", BY_HAND)
def test_values_by_hand(name, impl):
    found, _, expected = solve(name, impl)
    assert [value.item() for value in found] == pytest.approx(expected, abs=1e-12)


@IMPLS
def test_gradients_by_hand(impl):
    # d/dz_0 of two classes: c (p - 1) + w [ p (1-p) ln(p q' / p' q) + (p - q) ], p' = 1 - p, and the same with p, q
    # exchanged; ln(p q' / p' q) = ln 3. d/dz_1 is its negative.
    (loss, *_), logits, _ = solve("rdrop", impl)
    loss.backward()
    first = (0.75 - 1) + 2 * (0.75 * 0.25 * math.log(3) + 0.25)
    second = (0.5 - 1) + 2 * (0.5 * 0.5 * -math.log(3) - 0.25)
    expected = torch.tensor([[first, -first], [second, -second]], dtype=torch.float64)
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-12)
    # SimCut, through both sides: view 2 gets 3 (q - p)
    (loss, *_), logits, _ = solve("simcut", impl)
    loss.backward()
    torch.testing.assert_close(logits.grad[1], torch.tensor([-0.75, 0.75], dtype=torch.float64), rtol=0, atol=1e-12)


@IMPLS
def test_label_smoothing_is_fairseqs_and_not_torchs(impl):
    """fairseq spreads eps over the other V - 1 classes; torch over all V, so that eps_torch = eps V / (V - 1)."""
    logits = make_case(1, positions=4, classes=7, padding=False).logits
    target = torch.tensor([2, 3, 6, 2])
    kwargs = {"label_smoothing": 0.1, "impl": impl, "weights": plain_weights()}
    loss, nll, _ = rdrop_loss(logits, target, **kwargs)
    by_torch = torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.1 * 7 / 6, reduction="sum")
    assert loss.item() == pytest.approx(by_torch.item(), abs=1e-10)
    assert nll.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, target, reduction="sum").item(), abs=1e-10
    )


@IMPLS
def test_equals_the_formula_of_the_docstring(impl):
    case = make_case(2, positions=8)
    lp = torch.log_softmax(case.logits, -1)
    p, q = lp.chunk(2)
    kept = case.target.ne(PAD)
    divergence = sum(
        torch.nn.functional.kl_div(a[kept], b[kept], reduction="sum", log_target=True) for a, b in ((p, q), (q, p))
    )
    ce = torch.nn.functional.nll_loss(lp, torch.cat([case.target] * 2), reduction="sum", ignore_index=PAD)
    (loss, *_), _ = case.call("linear", alpha=5.0, impl=impl)
    assert loss.item() == pytest.approx((ce + 2.5 * divergence).item(), abs=1e-10)


@IMPLS
@pytest.mark.parametrize("padding", ["in between", "none"])
def test_sums_over_positions_that_count(impl, padding):
    """A position whose target is padding adds nothing to any sum and gets no gradient."""
    case = make_case(2, positions=6, padding=False)
    if padding == "in between":
        case.target[2] = PAD
    kept = case.target.ne(PAD).nonzero().view(-1)
    logits = case.logits
    results = rdrop_loss(logits, case.target, alpha=5.0, ignore_index=PAD, impl=impl)
    alone = torch.cat([logits[kept], logits[kept + 6]])
    torch.testing.assert_close(
        results, rdrop_loss(alone, case.target[kept], alpha=5.0, impl=impl), rtol=1e-10, atol=1e-10
    )
    results[0].backward()
    for row in range(12):
        assert bool(logits.grad[row].any()) == (row % 6 in kept)
