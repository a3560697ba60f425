"""Which way the views of a model run."""

from __future__ import annotations

import pytest
import torch
from tiny_criteria import make_criterion, step
from tiny_models import make_model, make_sample, without_randomness

from rdrop_fairseq.views import Views

LAYERDROP = ({"encoder_layerdrop": 0.5}, {"decoder_layerdrop": 0.5})


@pytest.mark.parametrize(
    ("arch", "options", "rates", "expected"),
    [
        ("transformer", {}, (), "stacked"),
        ("transformer", {}, (0.1, 0.2), "separate"),
        ("transformer", LAYERDROP[0], (), "separate"),
        ("transformer", LAYERDROP[1], (), "separate"),
        ("lstm", {}, (), "separate"),
    ],
)
def test_the_way_is_chosen_by_the_model(arch, options, rates, expected):
    model = make_model(arch, **options)
    assert Views(2, rates=rates).of(model).mode == expected
    assert Views(2, "stacked").of(model).mode == "stacked"
    assert Views(2, "separate").of(model).mode == "separate"


@pytest.mark.parametrize("options", LAYERDROP)
def test_with_layerdrop_the_views_lose_different_layers(options):
    """Fault of the earlier codes. Dropout off, layers dropped at random: stacked views always agree, separate ones do
    not."""
    model = without_randomness(make_model(**options))
    for side in (model.encoder, model.decoder):
        if hasattr(side.layers, "p"):
            side.layers.p = 0.5
    differ = {}
    for forward in ("stacked", "separate"):
        differ[forward] = 0
        for seed in range(20):
            torch.manual_seed(seed)
            first, second = Views(2, forward).of(model).run(make_sample()["net_input"], 3)[0].chunk(2)
            differ[forward] += not torch.allclose(first, second, atol=1e-5)
    assert differ["stacked"] == 0
    assert 5 <= differ["separate"] <= 20  # two of two layers drop alike in 1 of 4 cases


def test_the_criterion_trains_an_lstm_on_sentences_of_different_length():
    _, log = step(make_criterion("rdrop"), make_model("lstm"), make_sample())
    assert log["rdrop_kl"].item() > 0
