"""What is logged, in which unit."""

from __future__ import annotations

import math

import pytest
from fairseq.logging import metrics

from rdrop_fairseq.criterions.label_smoothed_cross_entropy_rdrop import RDropCriterion
from rdrop_fairseq.criterions.logged import log_divergence, logged_divergence
from rdrop_fairseq.loss import plain_weights, rdrop_weights

BIT = math.log(2)


def logged(*updates, log=log_divergence):
    """What is shown for updates, each a list of what its workers log."""
    with metrics.aggregate(new_root=True) as meters:
        for outputs in updates:
            log(outputs)
    return meters.get_smoothed_values()


def output(kl, ntokens, alpha, views=2, **more):
    """As a training step of the criterion makes it; kl in nats, summed over positions."""
    weights = rdrop_weights(alpha, views) if views > 1 else plain_weights()
    return {**logged_divergence(kl, weights, ntokens), "ntokens": ntokens, **more}


PLAIN = output(kl=0.0, ntokens=30, alpha=0.0, views=1)


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        ([[output(30 * BIT, 10, 5.0)]], {"rdrop_kl": 3.0, "rdrop_alpha": 5.0}),  # per token in bits
        ([[output(0.0, 10, 5.0)]], {"rdrop_kl": 0.0, "rdrop_alpha": 5.0}),  # the earlier codes do not log a KL of 0
        # the mean KL of the tokens that were compared, the mean alpha of all
        ([[PLAIN], [output(20 * BIT, 10, 8.0)]], {"rdrop_kl": 2.0, "rdrop_alpha": 2.0}),
        ([[PLAIN]], {"rdrop_alpha": 0.0}),
        ([[output(10 * BIT, 10, 5.0), output(90 * BIT, 30, 5.0)]], {"rdrop_kl": 2.5, "rdrop_alpha": 5.0}),  # workers
        ([[{"loss": 1.0, "ntokens": 10}]], {}),  # validation
    ],
)
def test_divergence_and_alpha(updates, expected):
    assert logged(*updates) == expected


def test_ppl_is_a_perplexity():
    """Fault of the paper's code and fairseq's: nll of both views over the tokens of one, so that ppl is squared."""
    sample = output(kl=0.0, ntokens=10, alpha=5.0, nll_loss=10 * BIT * 4, loss=100.0, sample_size=10)
    values = logged([sample], log=RDropCriterion.reduce_metrics)
    assert values["nll_loss"] == 4.0
    assert values["ppl"] == pytest.approx(16.0)
