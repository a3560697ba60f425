"""A dropout rate for one pass alone."""

from __future__ import annotations

import pytest
from tiny_criteria import gradients, make_criterion, step
from tiny_models import make_model, make_sample

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.dropout_rates import dropout_rate, main_dropouts, parse_rates

RATES = {"dropout": 0.3, "attention_dropout": 0.2, "activation_dropout": 0.1}


def all_rates(model):
    return [module.p for module in model.modules() if hasattr(module, "p")]


def test_only_what_dropout_sets_is_changed_and_comes_back():
    """The main rate stands in encoder, decoder and their layers; attention and activation keep theirs."""
    model = make_model(**RATES)
    before = all_rates(model)
    with dropout_rate(model, 0.45):
        during = all_rates(model)
    assert before == all_rates(model)
    assert [0.45 if rate == 0.3 else rate for rate in before] == during
    assert sorted(set(during)) == [0.1, 0.2, 0.45]
    assert len(main_dropouts(model)) == 2 + 2 + 2  # encoder, decoder, and their layers


def test_rates_that_are_equal_are_told_apart_by_place():
    """As in the recipe of WMT14, 0.1 everywhere: attention dropout stays where it is."""
    model = make_model(dropout=0.1, attention_dropout=0.1, activation_dropout=0.1)
    with dropout_rate(model, 0.4):
        assert model.encoder.layers[0].self_attn.dropout_module.p == 0.1
        assert model.encoder.layers[0].activation_dropout_module.p == 0.1
        assert model.encoder.layers[0].dropout_module.p == model.decoder.dropout_module.p == 0.4


def test_an_exception_leaves_the_models_own_rates():
    model = make_model(**RATES)
    before = all_rates(model)
    criterion = make_criterion("rdrop", rdrop_dropout_rates="0.5,0.4")

    def fail(*_):
        raise RuntimeError("out of memory")

    handle = model.decoder.layers[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        criterion(model, make_sample())
    handle.remove()
    assert all_rates(model) == before


def test_each_pass_has_its_rate():
    model = make_model(**RATES)
    criterion = make_criterion("rdrop", rdrop_dropout_rates="0.5,0.0,0.25", rdrop_passes=3)
    seen = []
    model.encoder.register_forward_pre_hook(lambda *_: seen.append(model.encoder.layers[1].dropout_module.p))
    step(criterion, model, make_sample())
    assert seen == [0.5, 0.0, 0.25]


def test_the_models_own_rate_twice_is_one_forward_per_view_to_the_bit():
    model, sample = make_model(**RATES), make_sample()
    plain = step(make_criterion("rdrop", rdrop_forward="separate"), model, sample)
    plain_gradients = gradients(model)
    rated = step(make_criterion("rdrop", rdrop_dropout_rates="0.3,0.3"), model, sample)
    assert rated == plain
    assert all(value.equal(plain_gradients[key]) for key, value in gradients(model).items())


def test_plain_updates_of_a_schedule_have_the_models_own_rate():
    model = make_model(**RATES)
    criterion = make_criterion("rdrop", rdrop_dropout_rates="0.5,0.0", rdrop_start_updates=5)
    criterion.set_num_updates(0)
    seen = []
    model.encoder.register_forward_pre_hook(lambda *_: seen.append(model.encoder.dropout_module.p))
    step(criterion, model, make_sample())
    assert seen == [0.3]


def test_a_model_without_such_dropout():
    model = make_model("lstm")
    with pytest.raises(UserError, match="leave out --rdrop-dropout-rates"), dropout_rate(model, 0.1):
        pytest.fail("opened")


def test_rates_by_text():
    assert parse_rates("", 2) == ()
    assert parse_rates("0.3, 0.1", 2) == (0.3, 0.1)
    assert parse_rates("0,0.5,1e-1", 3) == (0.0, 0.5, 0.1)


@pytest.mark.parametrize("text", ["0.3", "0.3,0.1,0.2", "0.3,1.0", "-0.1,0.3", "0.3,nan", "a,b", "0.3,"])
def test_rates_that_are_none(text):
    with pytest.raises(UserError, match=r"must be 2 rates in \[0, 1\)"):
        parse_rates(text, 2)


@pytest.mark.parametrize("forward", ["stacked", "shared-encoder"])
def test_one_forward_cannot_have_two_rates(forward):
    with pytest.raises(UserError, match="needs one forward per view"):
        make_criterion("rdrop", rdrop_dropout_rates="0.3,0.1", rdrop_forward=forward)
