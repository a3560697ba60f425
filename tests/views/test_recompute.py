"""--checkpoint-activations recomputes layers in backward: what holds during a forward alone has to hold there again."""

from __future__ import annotations

import pytest
from tiny_criteria import gradients, make_criterion, step
from tiny_models import make_model, make_sample

OPTIONS = {
    "stacked": {"rdrop_forward": "stacked"},
    "separate": {"rdrop_forward": "separate"},
    "shared encoder": {"rdrop_forward": "shared-encoder"},
    "dropout rates": {"rdrop_dropout_rates": "0.4,0.05"},
    "token cutoff": {"rdrop_cutoff": "token", "rdrop_cutoff_rate": 0.3},
    "span cutoff": {"rdrop_cutoff": "span", "rdrop_cutoff_views": "all"},
    "feature cutoff, separate": {"rdrop_cutoff": "feature", "rdrop_cutoff_rate": 0.3, "rdrop_forward": "separate"},
    "LayerDrop": {},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_are_those_without_checkpointing(name):
    rates = {"attention_dropout": 0.2, "activation_dropout": 0.2}
    if name == "LayerDrop":
        rates |= {"encoder_layerdrop": 0.3, "decoder_layerdrop": 0.3}
    found = []
    for recompute in (False, True):
        model = make_model(checkpoint_activations=recompute, **rates)
        layer = model.encoder.layers[0]
        before = (layer.forward, layer.dropout_module.p)
        loss, _ = step(make_criterion("rdrop", **OPTIONS[name]), model, make_sample(), seed=4)
        assert (layer.forward, layer.dropout_module.p) == before
        assert hasattr(layer, "precheckpoint_forward") == recompute
        found.append((loss, gradients(model)))
    (plain_loss, plain), (loss, recomputed) = found
    assert loss == plain_loss
    assert plain.keys() == recomputed.keys()
    error = sum(float((plain[key] - recomputed[key]).square().sum()) for key in plain) ** 0.5
    assert error < 1e-6 * sum(float(grad.square().sum()) for grad in plain.values()) ** 0.5
