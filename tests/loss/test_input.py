"""Bad input of the two entry points: one sentence, and nothing computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from loss_cases import IMPLS, KINDS, PAD, make_case
from torch.distributed._tensor import distribute_tensor  # without _ since torch 2.5
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import linear_rdrop_loss, plain_weights, rdrop_loss


@contextmanager
def lone_process() -> Iterator[DeviceMesh]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


BAD_OPTIONS = [
    ({"alpha": -1.0}, "alpha must be a finite number >= 0, got -1.0"),
    ({"alpha": 1.0, "views": 1}, "at least 2 views of a batch, got 1"),
    ({"alpha": 1.0, "impl": "fast"}, "impl must be one of auto, fused, fused-torch, fused-triton, eager, got 'fast'"),
    ({"alpha": 1.0, "label_smoothing": 1.0}, r"label smoothing must be in \[0, 1\), got 1.0"),
    ({"alpha": 1.0, "label_smoothing": -0.1}, r"label smoothing must be in \[0, 1\), got -0.1"),
    ({"alpha": 1.0, "views": 3}, "3 views of 5 targets need 15 rows, got 10"),
    ({"alpha": 1.0, "weights": plain_weights()}, "give either alpha"),
    ({}, "give either alpha"),
]


@KINDS
@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options(kind, options, message):
    with pytest.raises(UserError, match=message):
        make_case(2).call(kind, **options)


@KINDS
@IMPLS
@pytest.mark.parametrize("wrong", [7, -3])
def test_a_target_outside_the_vocabulary(kind, impl, wrong):
    case = make_case(2)
    case.target[0] = wrong
    with pytest.raises(UserError, match=f"target {wrong} is outside the vocabulary of 7 classes"):
        case.call(kind, alpha=1.0, impl=impl)


@KINDS
@IMPLS
@pytest.mark.parametrize("targets", [5, 0])
def test_a_batch_of_padding_only_or_empty(kind, impl, targets):
    case = make_case(2)
    case.features = case.features.detach()[: 2 * targets]
    case.target = case.target.fill_(PAD)[:targets]
    with pytest.raises(UserError, match=rf"this batch has no targets but padding \({targets}\)"):
        case.call(kind, alpha=1.0, impl=impl)


def test_a_weight_that_does_not_fit():
    case = make_case(2)
    with pytest.raises(UserError, match=r"weight must be \[V, 4\], not sharded, .*, got Tensor \[4, 7\]"):
        linear_rdrop_loss(case.features, case.weight.t(), case.target, alpha=1.0)


def test_a_sharded_weight():
    """FSDP and ZeRO leave an empty tensor outside the model's forward, fully_shard a DTensor that looks whole."""
    case = make_case(2)
    message = r"sharded \(FSDP, ZeRO\), use rdrop_loss on the model's logits"
    with pytest.raises(UserError, match=message):
        linear_rdrop_loss(case.features, case.weight.new_zeros(0), case.target, alpha=1.0)
    with lone_process() as mesh:
        weight = distribute_tensor(case.weight.detach(), mesh)
        with pytest.raises(UserError, match=message):
            linear_rdrop_loss(case.features, weight, case.target, alpha=1.0)


@IMPLS
def test_time_before_the_batch(impl):
    """nn.Transformer's default: the rows are as many as they should be, but their halves are not the views."""
    rows, target = torch.zeros(4, 2 * 3, 5), torch.ones(4, 3, dtype=torch.long)  # T x 2B x V, T x B
    message = r"2 views of targets \[4, 3\] need rows \[8, 3\], got \[4, 6\]: .* which is the batch, not time"
    with pytest.raises(UserError, match=message):
        rdrop_loss(rows, target, alpha=1.0, impl=impl)
    with pytest.raises(UserError, match=message):
        linear_rdrop_loss(rows, torch.zeros(7, 5), target, alpha=1.0, impl=impl)
    with pytest.raises(UserError, match=r"targets \[3, 4\] need rows \[6, 4\]"):
        rdrop_loss(rows, target.t(), alpha=1.0, impl=impl)


def test_a_bias_that_does_not_fit():
    case = make_case(2)
    with pytest.raises(UserError, match=r"bias must be \[7\] for this weight, got \[4\]"):
        linear_rdrop_loss(case.features, case.weight, case.target, torch.zeros(4), alpha=1.0)


def test_a_vocabulary_of_one():
    with pytest.raises(UserError, match="at least 2 classes, got 1"):
        rdrop_loss(torch.zeros(4, 1), torch.zeros(2, dtype=torch.long), alpha=1.0)


def test_user_error_is_a_value_error():
    """Who uses the loss from a loop of their own need not know this package's exception."""
    with pytest.raises(ValueError, match="alpha"):
        rdrop_loss(torch.zeros(4, 3), torch.zeros(2, dtype=torch.long), alpha=-1.0)
