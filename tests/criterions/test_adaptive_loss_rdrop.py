"""adaptive_loss_rdrop on tiny language models: against fairseq's criterion, a naive form, and its own words."""

from __future__ import annotations

import copy

import pytest
import tiny_lm
import torch
from fairseq.criterions.adaptive_loss import AdaptiveLoss
from tiny_criteria import gradients, step
from tiny_criteria import make_adaptive as criterion
from tiny_models import PAD, without_randomness

from rdrop_fairseq.criterions.adaptive_loss_rdrop import head_weight
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import adaptive_exact

names = pytest.mark.parametrize("name", [name for name in tiny_lm.MODELS if name.startswith("adaptive")])
LEFT_OUT = (11, 25)  # word 1 of each tail, which fairseq's criterion takes for padding


def fairseqs():
    return AdaptiveLoss(tiny_lm.make_lm_task(), False)


@names
def test_validation_is_fairseqs_to_the_bit(name):
    model, sample = tiny_lm.make_lm(name).eval(), tiny_lm.make_lm_sample()
    with torch.no_grad():
        ours, theirs = criterion()(model, sample), fairseqs()(model, sample)
    assert torch.equal(ours[0], theirs[0])
    assert (ours[1], ours[2].keys()) == (theirs[1], theirs[2].keys())


@names
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_validation_in_half_precision_adds_up_in_fp32(name, dtype):
    """A batch beyond fp16's 65,504 nats, against fairseq's own criterion on the same parameters in float64."""
    model, one = tiny_lm.make_lm(name).eval().to(dtype), tiny_lm.make_lm_sample(avoid=LEFT_OUT)
    inputs = {key: torch.cat([value] * 900) for key, value in one["net_input"].items()}
    sample = {"net_input": inputs, "target": torch.cat([one["target"]] * 900)}
    with torch.no_grad():
        loss, size, log = criterion()(model, sample)
        expected, theirs, other = fairseqs()(copy.deepcopy(model).double(), sample)
    assert float(expected) > 65504
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(expected), rel=1e-3)
    assert (size, log.keys()) == (theirs, other.keys())
    assert all(log[key] == other[key] for key in log if key != "loss")


@names
def test_alpha_0_trains_as_fairseqs_does(name):
    sample = tiny_lm.make_lm_sample(avoid=LEFT_OUT)
    model = tiny_lm.make_lm(name)
    loss, log = step(criterion(rdrop_alpha=0.0), model, sample)
    mine = gradients(model)
    expected, _ = step(fairseqs(), model, sample)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert float(log["nll_loss"]) == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(mine, gradients(model), rtol=1e-3, atol=1e-4)


@names
@pytest.mark.parametrize("how", [{"rdrop_impl": "fused"}, {"rdrop_impl": "eager"}, {"rdrop_exact_divergence": True}])
def test_equals_the_naive_form_in_float64(name, how, monkeypatch):
    """Two views that differ: by rule, so that the naive form sees the same."""
    monkeypatch.setattr(adaptive_exact, "CHUNK_BYTES", 5 * 4 * 2 * 40)  # five positions
    model, sample = without_randomness(tiny_lm.make_lm(name)).double(), tiny_lm.make_lm_sample()
    with tiny_lm.views_by_rule(model, sample["net_input"]["src_tokens"]) as sources:
        loss, log = step(criterion(rdrop_alpha=0.7, **how), model, sample)
    mine = gradients(model)
    model.zero_grad()
    form = exact if "rdrop_exact_divergence" in how else naive
    expected, nll = form(model, sources, sample["net_input"]["src_lengths"], sample["target"], alpha=0.7)
    expected.backward()
    assert loss == pytest.approx(float(expected), rel=1e-9)
    assert float(log["nll_loss"]) == pytest.approx(float(nll), rel=1e-9)
    assert float(log["rdrop_kl"]) > 0.1
    torch.testing.assert_close(mine, gradients(model), rtol=1e-7, atol=1e-8)


def exact(model, sources, lengths, target, alpha):
    """The whole distribution of each view, checked by fairseq's own `get_log_prob`, which has no gradient."""
    softmax, views = model.decoder.adaptive_softmax, []
    for source in sources:
        features = model(src_tokens=source, src_lengths=lengths)[0][target.ne(PAD)]
        head = softmax.head(features).log_softmax(-1)
        parts = [head[..., : softmax.cutoff[0]]]
        for number, tail in enumerate(softmax.tail):
            parts.append(head[..., softmax.cutoff[0] + number, None] + tail(features).log_softmax(-1))
        views.append(torch.cat(parts, dim=-1))
        with torch.no_grad():
            theirs = softmax.get_log_prob(features.unsqueeze(0), None)[0]
        torch.testing.assert_close(views[-1], theirs)
    p, q = views
    nll = -(p + q).gather(1, target[target.ne(PAD)].view(-1, 1)).sum()
    return nll + alpha / 2 * ((p.exp() * (p - q)).sum() + (q.exp() * (q - p)).sum()), nll / 2


def naive(model, sources, lengths, target, alpha):
    """The code of the paper, mended: fairseq's own softmax for each view, cluster by cluster."""
    softmax = model.decoder.adaptive_softmax
    views = []
    for source in sources:
        logits, targets = softmax(model(src_tokens=source, src_lengths=lengths)[0], target.reshape(-1))
        views.append([part if part is None else part.log_softmax(-1) for part in logits])
    loss = nlls = 0.0
    for number, (p, q, classes) in enumerate(zip(*views, targets)):
        if p is None:
            continue
        counted = classes.ne(PAD) if number == 0 else torch.ones_like(classes, dtype=torch.bool)
        p, q, classes = p[counted], q[counted], classes[counted]
        nll = -(p + q).gather(1, classes.view(-1, 1)).sum()
        loss = loss + nll + alpha / 2 * ((p.exp() * (p - q)).sum() + (q.exp() * (q - p)).sum())
        nlls = nlls + nll / 2
    return loss, nlls


@names
def test_layers_with_quantization_noise_make_their_own_logits(name):
    model, sample = tiny_lm.make_lm(name), tiny_lm.make_lm_sample()
    expected, _ = step(criterion(), model, sample)
    gradient = gradients(model)
    model.decoder.adaptive_softmax.q_noise = 1e-9
    assert head_weight(model.decoder.adaptive_softmax) is None
    loss, _ = step(criterion(), model, sample)
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradients(model), gradient, rtol=1e-3, atol=1e-4)


def test_every_word_counts_in_training():
    """The true negative log-likelihood, by fairseq's own probabilities, with words that its criterion leaves out."""
    model, sample = without_randomness(tiny_lm.make_lm("adaptive, tied")), tiny_lm.make_lm_sample()
    sample["target"][0, :2] = torch.tensor(LEFT_OUT)
    _, log = step(criterion(rdrop_alpha=0.0), model, sample)
    log_probs = model.get_normalized_probs(model(**sample["net_input"]), log_probs=True)
    target = sample["target"]
    true = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)[target.ne(PAD)].sum()
    assert float(log["nll_loss"]) == pytest.approx(float(true), rel=1e-5)
    assert float(fairseqs()(model, sample)[0]) < float(true) - 0.5


def test_bad_input():
    with pytest.raises(UserError, match="no adaptive softmax: give --adaptive-softmax-cutoff"):
        criterion()(tiny_lm.make_lm(), tiny_lm.make_lm_sample())
    with pytest.raises(UserError, match="at least 2"):
        criterion(rdrop_passes=1)
    with pytest.raises(UserError, match="use legacy_ddp"):
        criterion(ddp_backend="pytorch_ddp")
