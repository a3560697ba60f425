"""The label-smoothed criterions on decoder-only models: on features, and cut on the decoder's side alone."""

from __future__ import annotations

import pytest
import tiny_lm
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from tiny_criteria import gradients, make_criterion, step
from tiny_models import PAD, without_randomness

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.models import find_projection

names = pytest.mark.parametrize("name", ["untied", "tied"])


def criterion(name="rdrop", **options):
    return make_criterion(name, tiny_lm.make_lm_task(), **{"label_smoothing": 0.0, **options})


@names
def test_the_loss_projects_features(name):
    model = tiny_lm.make_lm(name)
    projection, reason = find_projection(model)
    assert projection is model.decoder.output_projection, reason


@names
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_validation_is_fairseqs_to_the_bit(name, smoothing):
    model, sample = tiny_lm.make_lm(name).eval(), tiny_lm.make_lm_sample()
    theirs = LabelSmoothedCrossEntropyCriterion(tiny_lm.make_lm_task(), False, smoothing)
    with torch.no_grad():
        mine, expected = criterion(label_smoothing=smoothing)(model, sample), theirs(model, sample)
    assert torch.equal(mine[0], expected[0])
    assert mine[1] == expected[1] == sample["ntokens"]


@names
@pytest.mark.parametrize("impl", ["fused", "eager"])
def test_equals_the_naive_form_in_float64(name, impl):
    """Two views that differ by rule: plain cross entropy of each, and the KL both ways."""
    model, sample = without_randomness(tiny_lm.make_lm(name)).double(), tiny_lm.make_lm_sample()
    target = sample["target"]
    with tiny_lm.views_by_rule(model, sample["net_input"]["src_tokens"]) as sources:
        loss, log = step(criterion(rdrop_alpha=1.0, rdrop_impl=impl), model, sample)
    mine = gradients(model)
    model.zero_grad()
    counted = target.ne(PAD)
    p, q = (model(src_tokens=tokens)[0].log_softmax(-1)[counted] for tokens in sources)
    nll = -(p + q).gather(1, target[counted].view(-1, 1)).sum()
    expected = nll + 0.5 * ((p.exp() * (p - q)).sum() + (q.exp() * (q - p)).sum())
    expected.backward()
    assert loss == pytest.approx(float(expected), rel=1e-9)
    assert float(log["nll_loss"]) == pytest.approx(float(nll) / 2, rel=1e-9)
    torch.testing.assert_close(mine, gradients(model), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("name", "options"), [
    ("rdrop", {"rdrop_cutoff": "token", "rdrop_cutoff_rate": 0.5}),
    ("simcut", {"rdrop_cutoff_rate": 0.5}),
    ("cutoff", {"rdrop_cutoff": "span", "rdrop_cutoff_rate": 0.5}),
])  # fmt: skip
def test_cutoff_on_the_decoders_side_alone(name, options):
    model, sample = without_randomness(tiny_lm.make_lm()), tiny_lm.make_lm_sample()
    seen = []
    handle = model.decoder.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    _, log = step(criterion(name, **options), model, sample)
    handle.remove()
    assert float(log["rdrop_kl"]) > 0
    whole, cut = seen[0].transpose(0, 1).chunk(2)
    changed = (whole - cut).abs().sum(-1).gt(1e-6)
    tokens = sample["net_input"]["src_tokens"]
    assert changed.any()
    assert not changed[tokens.le(3)].any()  # padding and ends of lines stay
    assert not changed[:, 0].any()


def test_an_adaptive_softmax_is_sent_to_its_own_criterion():
    with pytest.raises(UserError, match="use --criterion adaptive_loss_rdrop"):
        criterion()(tiny_lm.make_lm("adaptive"), tiny_lm.make_lm_sample())


def test_a_schedule_with_the_plain_task_is_sent_to_ours():
    task = tiny_lm.make_lm_task()
    task.hands_over_num_updates = False
    with pytest.raises(UserError, match=r"does not: use .*language_modeling_rdrop"):
        make_criterion("rdrop", task, rdrop_every=2)
