"""What is logged, in which unit."""

from __future__ import annotations

import math

import pytest
from fairseq.logging import metrics

from rdrop_fairseq.criterions.label_smoothed_cross_entropy_rdrop import RDropCriterion
from rdrop_fairseq.criterions.logged import log_divergence
from rdrop_fairseq.loss import plain_weights, rdrop_weights


def logged(*outputs, log=log_divergence):
    with metrics.aggregate(new_root=True) as meters:
        for output in outputs:
            log([output])
    return meters.get_smoothed_values()


def output(kl, ntokens, alpha, views=2, **more):
    """As a training step of the criterion makes it; kl in nats, summed over positions."""
    weights = rdrop_weights(alpha, views) if views > 1 else plain_weights()
    return {
        "rdrop_kl": kl,
        "rdrop_ntokens": ntokens if views > 1 else 0,
        "rdrop_alpha": weights.kl_total * ntokens,
        "rdrop_trained_ntokens": ntokens,
        "ntokens": ntokens,
        **more,
    }


def test_kl_is_per_token_in_bits():
    assert logged(output(kl=math.log(2) * 30, ntokens=10, alpha=5.0)) == {"rdrop_kl": 3.0, "rdrop_alpha": 5.0}


def test_a_kl_of_0_is_logged():
    """Fault of the earlier codes: KL not logged, or only if above 0."""
    assert logged(output(kl=0.0, ntokens=10, alpha=5.0)) == {"rdrop_kl": 0.0, "rdrop_alpha": 5.0}


def test_plain_updates_do_not_dilute_the_kl():
    """Mean over the tokens that were compared; alpha is the mean over all tokens."""
    values = logged(
        output(kl=0.0, ntokens=30, alpha=0.0, views=1), output(kl=math.log(2) * 20, ntokens=10, alpha=8.0)
    )
    assert values == {"rdrop_kl": 2.0, "rdrop_alpha": 2.0}


def test_a_plain_interval_has_no_kl():
    assert logged(output(kl=0.0, ntokens=30, alpha=0.0, views=1)) == {"rdrop_alpha": 0.0}


def test_validation_logs_neither():
    assert logged({"loss": 1.0, "ntokens": 10}) == {}


def test_workers_are_summed():
    first = {key: value for key, value in output(kl=math.log(2) * 10, ntokens=10, alpha=5.0).items()}
    second = output(kl=math.log(2) * 90, ntokens=30, alpha=5.0)
    with metrics.aggregate(new_root=True) as meters:
        log_divergence([first, second])
    assert meters.get_smoothed_values() == {"rdrop_kl": 2.5, "rdrop_alpha": 5.0}


def test_ppl_is_a_perplexity():
    """Fault of the paper's code and fairseq's: nll of both views over the tokens of one, so that ppl is squared."""
    sample = output(kl=0.0, ntokens=10, alpha=5.0, nll_loss=10 * math.log(2) * 4, loss=100.0, sample_size=10)
    values = logged(sample, log=RDropCriterion.reduce_metrics)
    assert values["nll_loss"] == 4.0
    assert values["ppl"] == pytest.approx(16.0)
