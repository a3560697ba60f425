"""What criteria on several views share: which targets count, sample sizes, accuracy, the caller's batch, models."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from tiny_criteria import gradients, make_criterion, step
from tiny_models import PAD, make_model, make_sample, make_task, without_randomness
from torch.nn import functional

from rdrop_fairseq.errors import UserError


def logits_of(model, sample, views=2, seed=1):
    """[m, B, T, V]: the stacked forward written out, from the seed that `step` uses."""
    net_input = {
        "src_tokens": sample["net_input"]["src_tokens"].repeat(views, 1),
        "src_lengths": sample["net_input"]["src_lengths"].repeat(views),
        "prev_output_tokens": sample["net_input"]["prev_output_tokens"].repeat(views, 1),
    }
    torch.manual_seed(seed)
    with torch.no_grad():
        return model(**net_input)[0].unflatten(0, (views, -1))


def objective(logits, target, alpha, label_smoothing=0.1):
    """The loss of two views by torch's functions alone; logits [2, B, T, V], target [B, T] with padding."""
    kept = target.ne(PAD)
    lp = torch.log_softmax(logits[:, kept], -1)
    classes = lp.size(-1)
    eps = label_smoothing * classes / (classes - 1)
    ce = sum(functional.cross_entropy(z[kept], target[kept], label_smoothing=eps, reduction="sum") for z in logits)
    pairs = ((lp[0], lp[1]), (lp[1], lp[0]))
    return ce + alpha / 2 * sum(functional.kl_div(b, a, reduction="sum", log_target=True) for a, b in pairs)


@pytest.mark.parametrize("impl", ["fused", "eager"])
@pytest.mark.parametrize("arch", ["transformer", "bart_base"])
def test_the_loss_of_a_real_model_written_out(arch, impl):
    model, sample = make_model(arch), make_sample()
    loss, log = step(make_criterion("rdrop", rdrop_alpha=3.0, rdrop_impl=impl), model, sample)
    assert loss == pytest.approx(objective(logits_of(model, sample), sample["target"], 3.0).item(), rel=1e-5)
    assert log["rdrop_kl"] > 0


@pytest.mark.parametrize("impl", ["fused", "eager"])
@pytest.mark.parametrize("size", [1, 3])
def test_ignore_prefix_size(impl, size):
    """Fault of both earlier codes: --ignore-prefix-size crashes or is ignored. Here every sum starts after it."""
    model, sample = make_model(), make_sample()
    criterion = make_criterion("rdrop", ignore_prefix_size=size, report_accuracy=True, rdrop_impl=impl)
    loss, log = step(criterion, model, sample)
    rest = logits_of(model, sample)[:, :, size:], sample["target"][:, size:]
    assert loss == pytest.approx(objective(*rest, 5.0).item(), rel=1e-5)
    assert log["total"] == 2 * rest[1].ne(PAD).sum().item()
    assert log["ntokens"] == sample["ntokens"]  # as fairseq counts


@pytest.mark.parametrize("tied", [True, False])
def test_ignore_prefix_size_that_leaves_nothing(tied):
    """Loss 0, and a gradient of 0 for every parameter: a worker whose parameters have none would hang the others."""
    model = make_model(share_decoder_input_output_embed=tied)
    loss, log = step(make_criterion("rdrop", ignore_prefix_size=50, report_accuracy=True), model, make_sample())
    assert loss == 0.0
    assert log["total"] == 0
    assert set(gradients(model)) == {name for name, _ in model.named_parameters()}
    assert not any(grad.any() for grad in gradients(model).values())


@pytest.mark.parametrize("impl", ["fused", "eager"])
def test_sentence_avg(impl):
    """Fault of both: --sentence-avg ignored in training. The sample size is that of one view, of sentences."""
    sample = make_sample((9, 4))
    for sentence_avg, size in ((True, 2), (False, 13)):
        criterion = make_criterion("rdrop", sentence_avg=sentence_avg, rdrop_impl=impl)
        _, found, log = criterion(make_model(), sample)
        assert (found, log["sample_size"], log["nsentences"], log["ntokens"]) == (size, size, 2, 13)


@pytest.mark.parametrize("arch", ["transformer", "fconv"])
def test_report_accuracy_is_that_of_the_logits(arch):
    layers = dict.fromkeys(("encoder_layers", "decoder_layers"), "[(16, 3)]") if arch == "fconv" else {}
    model, sample = make_model(arch, **layers), make_sample()
    _, log = step(make_criterion("rdrop", report_accuracy=True), model, sample)
    kept = sample["target"].ne(PAD)
    right = logits_of(model, sample).argmax(-1).eq(sample["target"])[:, kept]
    assert (log["n_correct"], log["total"]) == (right.sum().item(), right.numel())
    assert log["total"] == 2 * sample["ntokens"]


@pytest.mark.parametrize("forward", ["stacked", "separate", "shared-encoder"])
def test_the_callers_sample_is_not_changed(forward):
    """Fault of fairseq's: the sample is doubled in place; with --eval-bleu that ends in an IndexError (#5410)."""
    sample = make_sample()
    before = copy.deepcopy(sample)
    tensors = dict(sample["net_input"])
    step(make_criterion("rdrop", rdrop_forward=forward, ignore_prefix_size=1), make_model(), sample)
    assert sample.keys() == before.keys()
    assert torch.equal(sample["target"], before["target"])
    assert all(sample["net_input"][key] is tensor for key, tensor in tensors.items())
    assert all(torch.equal(tensor, before["net_input"][key]) for key, tensor in tensors.items())


def test_a_model_with_probabilities_of_its_own_is_asked_for_them():
    """The logits path compares what the model calls its probabilities, not the softmax of its output."""
    model = without_randomness(make_model())
    plain = step(make_criterion("rdrop"), model, make_sample())[0]
    sharp = SimpleNamespace(temperature=0.5)

    class Sharper(type(model)):
        def get_normalized_probs(self, net_output, log_probs, sample=None):
            output = net_output[0] / sharp.temperature
            return functional.log_softmax(output, -1) if log_probs else functional.softmax(output, -1)

    model.__class__ = Sharper
    with torch.no_grad():
        logits = logits_of(model, make_sample()) / sharp.temperature
    loss = step(make_criterion("rdrop"), model, make_sample())[0]
    assert loss == pytest.approx(objective(logits, make_sample()["target"], 5.0).item(), rel=1e-5)
    assert loss != pytest.approx(plain, rel=1e-2)


@pytest.mark.parametrize("impl", ["fused", "eager"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda target: target.fill_(PAD), "a batch of 3 sentences has no target token"),
        (lambda target: target[:0], "a batch of 0 sentences has no target token"),
        (lambda target: target.index_fill_(1, torch.tensor([0]), 999), "target 999 is outside the vocabulary of 27"),
    ],
    ids=["padding only", "empty", "unknown word"],
)
def test_bad_batches(change, message, impl):
    model, sample = make_model(), make_sample()
    sample["target"] = change(sample["target"])
    with pytest.raises(UserError, match=message):
        step(make_criterion("rdrop", rdrop_impl=impl), model, sample)
    assert not gradients(model)


def test_training_needs_the_sum_over_the_batch():
    with pytest.raises(UserError, match="call it with reduce=True"):
        make_criterion("rdrop")(make_model(), make_sample(), reduce=False)


def test_validation_may_be_unreduced():
    """fairseq-validate and others ask for a loss per token."""
    loss, *_ = make_criterion("rdrop")(make_model().eval(), make_sample(), reduce=False)
    assert loss.numel() == make_sample()["target"].numel()


def test_another_model_gets_a_plan_of_its_own():
    criterion, sample = make_criterion("rdrop"), make_sample()
    first = step(criterion, make_model(seed=1), sample)[0]
    second = step(criterion, make_model(seed=2), sample)[0]
    assert step(criterion, make_model(seed=1), sample)[0] == pytest.approx(first, rel=1e-6)
    assert second != pytest.approx(first, rel=1e-3)


def test_a_task_with_two_dictionaries():
    model = make_model(task=make_task(joined=False))
    loss, _ = step(make_criterion("rdrop", make_task(joined=False)), model, make_sample())
    assert loss > 0
