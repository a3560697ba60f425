"""Weights of the objectives, and what is refused."""

from __future__ import annotations

import math

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import ViewWeights, cutoff_weights, plain_weights, rdrop_weights, simcut_weights


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (rdrop_weights(5.0), ViewWeights((1.0, 1.0), ((0.0, 2.5), (2.5, 0.0)))),
        (simcut_weights(3.0), ViewWeights((1.0, 0.0), ((0.0, 3.0), (0.0, 0.0)))),
        (cutoff_weights((0.5, 0.25), 2.0), ViewWeights((1.0, 0.5, 0.25), ((0.0,) * 3,) * 3, 2.0)),
        (plain_weights(), ViewWeights((1.0,), ((0.0,),))),
        (plain_weights(2.0), ViewWeights((2.0,), ((0.0,),))),
    ],
)
def test_weights_of_each_objective(made, expected):
    assert made == expected


@pytest.mark.parametrize(("views", "pair"), [(3, 1.0), (4, 0.5)])
def test_rdrop_shares_alpha_among_the_ordered_pairs(views, pair):
    """Paper, section 4.3: alpha / (m (m - 1)) for each; worked out by hand for alpha 6."""
    weights = rdrop_weights(6.0, views=views)
    assert weights.ce == (1.0,) * views
    assert weights.kl == tuple(tuple(0.0 if i == j else pair for j in range(views)) for i in range(views))
    assert weights.kl_total == pytest.approx(6.0)


def test_totals():
    weights = ViewWeights((1.0, 1.0), ((0.0, 0.5), (1.5, 0.0)), js=3.0)
    assert weights.views == 2
    assert weights.kl_total == 5.0


@pytest.mark.parametrize("alpha", [-1.0, -1e-9, math.nan, math.inf])
@pytest.mark.parametrize("make", [rdrop_weights, simcut_weights])
def test_alpha_must_be_finite_and_not_negative(make, alpha):
    with pytest.raises(UserError, match=f"alpha must be a finite number >= 0, got {alpha}"):
        make(alpha)


@pytest.mark.parametrize("views", [1, 0, -2])
def test_rdrop_needs_two_views(views):
    with pytest.raises(UserError, match=f"at least 2 views of a batch, got {views}"):
        rdrop_weights(1.0, views)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), ()), "m views need m cross-entropy weights"),
        (((1.0, 1.0), ((0.0, 1.0),)), "m x m KL weights"),
        (((1.0, 1.0), ((0.0, 1.0), (1.0,))), "m x m KL weights"),
        (((1.0, -1.0), ((0.0, 1.0), (1.0, 0.0))), "finite and not negative, got -1.0"),
        (((1.0, 1.0), ((0.0, math.nan), (1.0, 0.0))), "finite and not negative, got nan"),
        (((1.0,), ((0.0,),), math.inf), "finite and not negative, got inf"),
        (((0.0, 0.0), ((0.0, 0.0), (0.0, 0.0))), "nothing would be trained"),
        (((0.0,), ((0.0,),), 2.0), "nothing would be trained"),  # one view has no Jensen-Shannon divergence
        (((1.0, 1.0), ((1.0, 0.0), (0.0, 0.0))), "its weight must be 0"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        ViewWeights(*arguments)
