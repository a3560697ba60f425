"""Positions taken by a bound that the host knows, as on a GPU: here on CPU tensors that count as a device's."""

from __future__ import annotations

import pytest
import torch
from loss_cases import IMPLS, KINDS, OBJECTIVES, PAD, make_case

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import fused, positions
from rdrop_fairseq.loss.fused import LinearLoss
from rdrop_fairseq.loss.rows import RowSweep

COUNTED = 11  # of the 13 targets of a case
# What may be said of them: the truth, a little more, all, more than there are.
BOUNDS = pytest.mark.parametrize("most", [COUNTED, 12, 13, 100])


@pytest.fixture
def device(monkeypatch):
    """From here on reading a tensor's value counts as waiting for a device; chunks of four positions."""
    monkeypatch.setattr(positions, "waits", lambda _: True)
    monkeypatch.setitem(fused.TALLEST_CHUNK, "cpu", 4)


def case_with_nan(weights):
    """Whatever stands in rows that do not count, it must not get anywhere: attention over padding alone gives NaN."""
    case = make_case(weights.views, positions=13, width=6, classes=17)
    dead = case.target.eq(PAD).nonzero().view(-1)
    with torch.no_grad():
        case.features.view(weights.views, 13, -1)[:, dead] = float("nan")
    return case


def run(kind, case, weights, impl, **options):
    """[loss, nll, kl, gradients...]"""
    return case.solve(kind, factor=3.0, weights=weights, label_smoothing=0.1, impl=impl, **options)


@pytest.mark.usefixtures("device")
@KINDS
@IMPLS
@BOUNDS
@pytest.mark.parametrize("weights", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_bound_changes_no_number(kind, impl, most, weights):
    case = case_with_nan(weights)
    expected = run(kind, case, weights, impl)  # without a bound the positions are looked up
    found = run(kind, case, weights, impl, positions=most)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert all(value.isfinite().all() for value in found)


@KINDS
@IMPLS
@pytest.mark.parametrize("where", ["cpu", "device"])
def test_nothing_counts(kind, impl, where, request):
    """0, and a gradient of 0 for everything: a worker without gradients would hang the others."""
    if where == "device":
        request.getfixturevalue("device")
    case = case_with_nan(OBJECTIVES["rdrop"])
    case.target.fill_(PAD)
    assert not any(value.any() for value in run(kind, case, OBJECTIVES["rdrop"], impl, positions=5))


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("operand", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_products(operand):
    """The products of a GPU: dead rows change no rounding but by the common scale of a chunk in fp16."""
    weights = OBJECTIVES["asymmetric"]
    case = case_with_nan(weights).to(torch.float32)
    stacked = case.features.view(weights.views, 13, -1)
    results = []
    for most in (COUNTED, 13):
        found = positions.find_positions(case.target, PAD, most)
        kernel = RowSweep(weights, 0.1, case.weight.size(0))
        loss, *_ = LinearLoss.apply(
            found.rows(stacked), case.weight, case.bias, found.target, kernel, operand, (True, True, True)
        )
        results.append([loss, *torch.autograd.grad(loss, case.leaves())])
    for exact, found in zip(*results):
        assert (found - exact).norm() <= torch.finfo(operand).eps * exact.norm()


@pytest.mark.usefixtures("device")
def test_places_keep_their_order():
    target = torch.tensor([PAD, 5, PAD, 4, 3, PAD])
    found = positions.find_positions(target, PAD, 4)
    assert found.index.tolist() == [1, 3, 4, 0]
    assert found.target.tolist() == [5, 4, 3, positions.DEAD]
    assert positions.find_positions(target, PAD).index.tolist() == [1, 3, 4]


@pytest.mark.usefixtures("device")
@KINDS
@pytest.mark.parametrize(
    ("wrong", "most", "message"),
    [(17, 13, "outside the vocabulary"), (-1, 13, "outside the vocabulary"), (4, 10, "more targets than its ntokens")],
)
def test_the_device_stops_what_the_host_does_not_see(kind, wrong, most, message):
    case = make_case(2, positions=13, width=6, classes=17)
    case.target[0] = wrong
    with pytest.raises(RuntimeError, match=message):
        run(kind, case, OBJECTIVES["rdrop"], "fused", positions=most)


@KINDS
@IMPLS
def test_a_bound_that_is_too_small_on_the_cpu(kind, impl):
    """There it is only checked, so that a batch that miscounts is found before it comes to a GPU."""
    case = make_case(2, positions=13, width=6, classes=17)
    with pytest.raises(UserError, match="this batch has 11 targets, but its ntokens is 10"):
        run(kind, case, OBJECTIVES["rdrop"], impl, positions=10)
