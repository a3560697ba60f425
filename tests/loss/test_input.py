"""Bad input of the two entry points: one sentence, and nothing computed."""

from __future__ import annotations

import pytest
import torch
from loss_cases import IMPLS, KINDS, PAD, make_case

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import linear_rdrop_loss, plain_weights, rdrop_loss

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
    with pytest.raises(UserError, match=r"weight must be \[V, 4\] for these features, got \[4, 7\]"):
        linear_rdrop_loss(case.features, case.weight.t(), case.target, alpha=1.0)


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
