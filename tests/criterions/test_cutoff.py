"""R-Drop + Cutoff, and the original Cutoff objective, on whole models."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from tiny_criteria import gradients, make_criterion, step, whole_and_cut
from tiny_models import PAD, make_model, make_sample, make_task, without_randomness

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.cutoff import KINDS

OBJECTIVES = {
    "rdrop": ("rdrop", {"rdrop_alpha": 2.0}),
    "rdrop-three-passes": ("rdrop", {"rdrop_alpha": 2.0, "rdrop_passes": 3}),
    "rdrop-four-passes": ("rdrop", {"rdrop_alpha": 2.0, "rdrop_passes": 4}),
    "rdrop-token": ("rdrop", {"rdrop_alpha": 2.0, "rdrop_cutoff": "token", "rdrop_cutoff_rate": 0.3}),
    "rdrop-span-all": ("rdrop", {"rdrop_alpha": 2.0, "rdrop_cutoff": "span", "rdrop_cutoff_views": "all"}),
    "cutoff": ("cutoff", {"rdrop_cutoff_rate": 0.3}),
    "cutoff-feature-twice": ("cutoff", {"rdrop_cutoff": "feature", "rdrop_cutoff_number": 2}),
    "simcut": ("simcut", {"rdrop_cutoff_rate": 0.3}),
}
ALL_OBJECTIVES = pytest.mark.parametrize(("name", "options"), OBJECTIVES.values(), ids=OBJECTIVES)


@ALL_OBJECTIVES
@pytest.mark.parametrize("forward", ["stacked", "separate"])
def test_gradient_is_the_derivative_of_the_loss(name, options, forward):
    """Along the gradient, all parameters at once, by central differences (fairseq's attention rounds to float32)."""
    model = make_model(share_all_embeddings=True, activation_fn="tanh").double()
    criterion = make_criterion(name, rdrop_forward=forward, **options)
    sample = make_sample()
    step(criterion, model, sample)
    found = gradients(model)
    norm = math.sqrt(sum(value.square().sum().item() for value in found.values()))
    losses = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for key, parameter in moved.named_parameters():
                parameter.add_(found[key], alpha=sign * 1e-3 / norm)
        losses.append(step(criterion, moved, sample)[0])
    assert (losses[0] - losses[1]) / 2e-3 == pytest.approx(norm, rel=1e-4)


@ALL_OBJECTIVES
def test_fused_equals_eager(name, options):
    model, sample = make_model(), make_sample()
    results = []
    for impl in ("fused", "eager"):
        loss, _ = step(make_criterion(name, rdrop_impl=impl, **options), model, sample)
        results.append((loss, gradients(model)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-4)


@ALL_OBJECTIVES
def test_eval_mode_is_plain_cross_entropy_to_the_bit(name, options):
    task = make_task()
    model, sample = make_model(task=task).eval(), make_sample()
    criterion = make_criterion(name, task, **options).eval()
    plain = LabelSmoothedCrossEntropyCriterion(task, False, 0.1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    loss, size, log = criterion(model, sample)
    expected_loss, expected_size, expected_log = plain(model, sample)
    assert loss.equal(expected_loss)
    assert (size, log["nll_loss"]) == (expected_size, expected_log["nll_loss"])
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("forward", ["stacked", "separate"])
def test_rate_0_is_rdrop_to_the_bit(kind, forward):
    model, sample = make_model(), make_sample()
    plain_loss, plain_log = step(make_criterion("rdrop", rdrop_forward=forward), model, sample)
    plain = gradients(model)
    cut = make_criterion("rdrop", rdrop_forward=forward, rdrop_cutoff=kind, rdrop_cutoff_rate=0.0)
    loss, log = step(cut, model, sample)
    assert loss == plain_loss
    assert log == plain_log
    assert all(value.equal(plain[key]) for key, value in gradients(model).items())


@pytest.mark.parametrize("kind", KINDS)
def test_separate_equals_stacked_when_nothing_is_random(kind):
    """At rate 1 the cut view loses every word, whatever is drawn."""
    model, sample = without_randomness(make_model()), make_sample()
    results = []
    for forward in ("stacked", "separate"):
        options = {"rdrop_cutoff": kind, "rdrop_cutoff_rate": 1.0, "rdrop_forward": forward}
        loss, log = step(make_criterion("rdrop", **options), model, sample)
        results.append((loss, log["rdrop_kl"].item(), gradients(model)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    assert results[0][1] > 0
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-3, atol=1e-4)


def test_cutoff_by_its_definition():
    """CE(x) + a CE(x_cut) + b JS with a = 1, b = 5, from the paper's formula, on inputs blanked by hand."""
    model, sample = without_randomness(make_model()), make_sample()
    p, q = (each.double() for each in whole_and_cut(model, sample))
    target = sample["target"][sample["target"].ne(PAD)].unsqueeze(-1)
    mean = ((p.exp() + q.exp()) / 2).log()
    js = sum((each.exp() * (each - mean)).sum() for each in (p, q)) / 2
    expected = -p.gather(1, target).sum() - q.gather(1, target).sum() + 5 * js
    options = {"rdrop_cutoff_rate": 1.0, "label_smoothing": 0.0}
    loss, log = step(make_criterion("cutoff", **options), model, sample)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert log["rdrop_kl"].item() == pytest.approx(js.item(), rel=1e-4)
    assert js.item() > 1e-3 * math.log(2)


def test_which_views_are_cut():
    """Cutting the first view and not the second is the same by symmetry; cutting both alike leaves no divergence."""
    model, sample = without_randomness(make_model()), make_sample()
    losses = {}
    for views in ("0", "1", "rest", "all"):
        options = {"rdrop_cutoff": "token", "rdrop_cutoff_rate": 1.0, "rdrop_cutoff_views": views}
        losses[views], log = step(make_criterion("rdrop", **options), model, sample)
        assert (abs(log["rdrop_kl"].item()) < 1e-4) == (views == "all")
    assert losses["rest"] == losses["1"] == pytest.approx(losses["0"], rel=1e-5)


def test_plain_updates_of_a_schedule_are_not_cut():
    model, sample = make_model(), make_sample()
    losses = []
    for options in ({}, {"rdrop_cutoff": "token", "rdrop_cutoff_rate": 1.0, "rdrop_cutoff_views": "all"}):
        criterion = make_criterion("rdrop", rdrop_start_updates=10, **options)
        criterion.set_num_updates(0)
        losses.append(step(criterion, model, sample)[0])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rdrop", {"rdrop_cutoff": "token", "rdrop_cutoff_rate": 2.0}, "--rdrop-cutoff-rate must be in"),
        ("rdrop", {"rdrop_cutoff": "token", "rdrop_cutoff_views": "2"}, "--rdrop-cutoff-views must be"),
        ("rdrop", {"rdrop_cutoff": "token", "rdrop_forward": "shared-encoder"}, "cannot share an encoder run"),
        ("cutoff", {"rdrop_cutoff_number": 0}, "--rdrop-cutoff-number must be at least 1"),
        ("cutoff", {"rdrop_cutoff_js": -1.0}, "finite and not negative"),
        ("cutoff", {"rdrop_cutoff_rate": float("nan")}, "--rdrop-cutoff-rate must be in"),
        ("simcut", {"rdrop_cutoff_rate": 7.0}, "--rdrop-cutoff-rate must be in"),
        ("simcut", {"rdrop_alpha": -1.0}, "alpha must be a finite number >= 0"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(UserError, match=message):
        make_criterion(name, **options)
