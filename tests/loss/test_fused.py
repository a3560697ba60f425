"""The fused implementation against the eager definition in float64, over objectives and ways of chunking."""

from __future__ import annotations

import pytest
import torch
from loss_cases import IMPLS, KINDS, OBJECTIVES, PAD, make_case

from rdrop_fairseq.loss import fused, linear_rdrop_loss, rdrop_loss

EXACT = {"rtol": 1e-10, "atol": 1e-10}

# name -> positions per chunk for the 11 positions that count: one row each, ragged (4, 4, 3), all at once
CHUNKS = {"eleven chunks": 1, "ragged": 4, "one chunk": 11}


@pytest.fixture(params=CHUNKS.values(), ids=CHUNKS)
def chunks(request, monkeypatch):
    monkeypatch.setitem(fused.TALLEST_CHUNK, "cpu", request.param)


def by_both(kind, case, weights, **options):
    """Values and gradients, fused and eager."""
    options = {"weights": weights, "label_smoothing": 0.1, **options}
    return [case.solve(kind, impl=impl, **options) for impl in ("fused", "eager")]


@pytest.mark.usefixtures("chunks")
@KINDS
@pytest.mark.parametrize("weights", OBJECTIVES.values(), ids=OBJECTIVES)
def test_equals_eager(kind, weights):
    case = make_case(weights.views, positions=13, width=6, classes=17)
    torch.testing.assert_close(*by_both(kind, case, weights), **EXACT)


@KINDS
@pytest.mark.parametrize("classes", [2, 3, 1001])
def test_equals_eager_for_any_number_of_classes(kind, classes):
    case = make_case(2, positions=9, classes=max(classes, 3), padding=False)
    if classes == 2:
        case.weight, case.bias = (t.detach()[:2].requires_grad_() for t in (case.weight, case.bias))
        case.target = case.target % 2
    torch.testing.assert_close(*by_both(kind, case, OBJECTIVES["rdrop"], ignore_index=-100), **EXACT)


@IMPLS
def test_sentences_by_time_are_the_same_as_rows(impl):
    weights = OBJECTIVES["asymmetric"]
    case = make_case(2, positions=12)
    kwargs = {"weights": weights, "ignore_index": PAD, "impl": impl}
    flat = linear_rdrop_loss(case.features, case.weight, case.target, case.bias, **kwargs)
    batched = linear_rdrop_loss(
        case.features.view(2 * 3, 4, -1), case.weight, case.target.view(3, 4), case.bias, **kwargs
    )
    logits = case.logits
    batched_logits = rdrop_loss(logits.view(2 * 3, 4, -1), case.target.view(3, 4), **kwargs)
    torch.testing.assert_close(batched, flat, **EXACT)
    torch.testing.assert_close(batched_logits, flat, **EXACT)


@IMPLS
def test_logits_that_are_not_contiguous(impl):
    case = make_case(2, positions=6, padding=False)
    logits = case.logits.detach()
    strided = logits.t().contiguous().t().requires_grad_()
    expected = rdrop_loss(logits, case.target, alpha=1.0, impl=impl)
    torch.testing.assert_close(rdrop_loss(strided, case.target, alpha=1.0, impl=impl), expected, **EXACT)


def test_padding_is_dropped_before_the_projection():
    """The rows of the logits buffer are those of positions that count; padding meets no matrix product."""
    case = make_case(2, positions=10)
    case.target[:8] = PAD
    case.target[8:] = 3
    with torch.no_grad():
        case.features[:8] = float("nan")  # view 1
        case.features[10:18] = float("nan")  # view 2
    loss, *_ = linear_rdrop_loss(case.features, case.weight, case.target, case.bias, alpha=1.0, ignore_index=PAD)
    loss.backward()
    assert loss.isfinite()
    assert case.weight.grad.isfinite().all()
    assert case.features.grad.isfinite().all()
    assert not case.features.grad[:8].any()


@pytest.mark.parametrize(
    ("positions", "views", "classes", "expected"),
    [
        (1000, 2, 8192, 500),  # at most 512 positions, for 32 MiB: two chunks of even height
        (1000, 2, 32768, 250),  # 64 MiB hold 256 positions of 2 x 32,768 floats: four chunks
        (1000, 2, 10_000_000, 1),  # one position is 80 MB
        (40, 2, 8192, 40),
        (1, 3, 10, 1),
    ],
)
def test_chunk_height(positions, views, classes, expected):
    assert fused.chunk_rows(positions, views, classes, "cpu") == expected


def test_spans_cover_every_position_once():
    assert list(fused.spans(11, 4)) == [(0, 4), (4, 8), (8, 11)]
