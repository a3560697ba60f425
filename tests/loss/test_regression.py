"""Squared distances of views: float64 gradients, the two-view formula, m views, half precision, sizes."""

from __future__ import annotations

import pytest
import torch

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss.regression import rdrop_regression_loss


def test_by_hand() -> None:
    """y = 1, views 2 and 0.5, alpha 4: 1 + 0.25 + 4 * 2.25."""
    loss, error, distance = rdrop_regression_loss(torch.tensor([2.0, 0.5]), torch.tensor([1.0]), alpha=4)
    assert (loss.item(), error.item(), distance.item()) == (10.25, 0.625, 2.25)


@pytest.mark.parametrize("views", [1, 2, 3, 4])
def test_every_pair_of_views_weighs_the_same(views: int) -> None:
    torch.manual_seed(1)
    values = torch.randn(views * 5, dtype=torch.float64, requires_grad=True)
    target = torch.randn(5, dtype=torch.float64)
    y = values.view(views, 5)
    pairs = [(y[i] - y[j]).square().sum() for i in range(views) for j in range(views) if i != j]
    distance = sum(pairs) / len(pairs) if pairs else torch.zeros(())
    loss, _, found = rdrop_regression_loss(values, target, 0.7, views)
    torch.testing.assert_close(loss, (y - target).square().sum() + 0.7 * distance)
    torch.testing.assert_close(found, torch.as_tensor(distance).detach().double())
    assert torch.autograd.gradcheck(lambda v: rdrop_regression_loss(v, target, 0.7, views)[0], values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_only_what_its_input_lost(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    values, target = torch.randn(64).to(dtype), torch.randn(32)
    loss = rdrop_regression_loss(values, target, 1.0)[0]
    truth = rdrop_regression_loss(values.double(), target.double(), 1.0)[0]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(truth.item(), rel=1e-6)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="2 views of 3 targets do not match 5 values"):
        rdrop_regression_loss(torch.zeros(5), torch.zeros(3), 1.0)
    with pytest.raises(UserError, match="alpha must be"):
        rdrop_regression_loss(torch.zeros(6), torch.zeros(3), float("nan"))
