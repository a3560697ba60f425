"""Peak memory above the inputs, forward and backward, counted in the allocator's bytes."""

from __future__ import annotations

import pytest
import torch
from loss_cases import make_case

from rdrop_fairseq.benchmark.peak import peak_bytes
from rdrop_fairseq.loss import fused, linear_rdrop_loss, rdrop_loss

POSITIONS, WIDTH = 1024, 16


def float_bytes(*shape):
    return 4 * torch.Size(shape).numel()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setitem(fused.CHUNK_BYTES, "cpu", 1 << 20)


def step(kind, classes, impl="fused", dtype=torch.float32):
    """Forward and backward on inputs that exist already."""
    case = make_case(2, positions=POSITIONS, width=WIDTH, classes=classes, bias=False, dtype=dtype)
    logits = case.logits if kind == "logits" else None

    def work():
        if kind == "logits":
            loss, *_ = rdrop_loss(logits, case.target, alpha=5.0, label_smoothing=0.1, impl=impl)
        else:
            loss, *_ = linear_rdrop_loss(
                case.features, case.weight, case.target, alpha=5.0, label_smoothing=0.1, impl=impl
            )
        loss.backward()

    return work


def test_linear_does_not_grow_with_the_vocabulary_but_for_the_weights_gradient():
    peaks = {classes: peak_bytes(step("linear", classes)) for classes in (1000, 2000)}
    weights = {classes: float_bytes(classes, WIDTH) for classes in peaks}
    growth = peaks[2000] - peaks[1000]
    # gradient of the weight; what belongs to a chunk is bounded in bytes. (The weight itself is an input.)
    assert growth <= 1.5 * (weights[2000] - weights[1000])
    # two buffers of one chunk, the features' gradient, small change; a single copy of the logits would be 16 times that
    most = 2 * (1 << 20) + weights[2000] + 2 * float_bytes(2 * POSITIONS, WIDTH) + (1 << 18)
    assert peaks[2000] <= most
    assert most < 0.25 * float_bytes(2 * POSITIONS, 2000)


def test_linear_does_not_grow_with_positions_but_for_the_features_gradient():
    def peak(positions):
        case = make_case(2, positions=positions, width=WIDTH, classes=2000, bias=False, dtype=torch.float32)
        return peak_bytes(lambda: linear_rdrop_loss(case.features, case.weight, case.target, alpha=5.0)[0].backward())

    assert peak(2048) - peak(1024) <= 1.5 * float_bytes(2 * 1024, WIDTH) + (1 << 17)


def test_ten_tensors_of_the_logits_size_alive_at_once_are_no_more():
    """Fault of the paper's code and fairseq's: ten [2N, V] tensors. Fused needs one: the logits' gradient."""
    logits = float_bytes(2 * POSITIONS, 1000)
    assert peak_bytes(step("logits", 1000, impl="eager")) > 3 * logits
    assert peak_bytes(step("logits", 1000)) < 1.4 * logits
    assert peak_bytes(step("linear", 1000)) < 0.4 * logits


def test_without_gradient_nothing_is_kept():
    case = make_case(2, positions=POSITIONS, width=WIDTH, classes=1000, bias=False, dtype=torch.float32)

    def work():
        with torch.no_grad():
            return linear_rdrop_loss(case.features, case.weight, case.target, alpha=5.0)

    assert peak_bytes(work) <= 2 * (1 << 20) + (1 << 18)
