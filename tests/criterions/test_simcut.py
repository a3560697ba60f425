"""SimCut on whole models."""

from __future__ import annotations

import pytest
import torch
from tiny_criteria import gradients, make_criterion, step, whole_and_cut
from tiny_models import PAD, make_model, make_sample, without_randomness


def test_by_its_definition():
    """CE(x) + 3 KL(whole || cut), with every word but eos blanked in the cut view; gradients through both sides."""
    model, sample = without_randomness(make_model()), make_sample()
    p, q = whole_and_cut(model, sample)
    ce = -p.gather(1, sample["target"][sample["target"].ne(PAD)].unsqueeze(-1)).sum()
    expected = ce + 3 * (p.exp() * (p - q)).sum()
    model.zero_grad()
    expected.backward()
    expected_gradients = gradients(model)

    loss, log = step(make_criterion("simcut", rdrop_cutoff_rate=1.0, label_smoothing=0.0), model, sample)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert log["nll_loss"].item() == pytest.approx(ce.item(), rel=1e-5)
    for key, value in gradients(model).items():
        if "embed_tokens" in key:  # class 4 takes part in the sum above, and is cut in the criterion
            value[4] = expected_gradients[key][4]
        torch.testing.assert_close(value, expected_gradients[key], rtol=1e-3, atol=1e-4)


def test_dropout_differs_between_the_passes():
    """Without any cutting left the divergence is that of dropout alone."""
    _, log = step(make_criterion("simcut", rdrop_cutoff_rate=0.0), make_model(), make_sample())
    assert log["rdrop_kl"].item() > 0
    _, log = step(make_criterion("simcut", rdrop_cutoff_rate=0.0), without_randomness(make_model()), make_sample())
    assert abs(log["rdrop_kl"].item()) < 1e-4


def test_defaults_are_the_papers():
    _, log = step(make_criterion("simcut"), make_model(), make_sample())
    assert log["rdrop_alpha"] == 3.0 * log["ntokens"]
    assert make_criterion("simcut").views.cutoff.rate == 0.05
