"""One test for each fault of the paper's code and of fairseq's R-Drop criterion, beside the fault where it runs."""

from __future__ import annotations

import pytest
import torch
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
from fairseq.tasks.translation import TranslationTask
from peak_memory import float_bytes, peak_bytes
from tiny_criteria import gradients, make_criterion, step
from tiny_models import PAD, make_model, make_sample, make_task, without_randomness

LAYERDROP = {"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5}
CLASSES = 1500


def make_peer(**options):
    """fairseq's own R-Drop."""
    settings = {"sentence_avg": False, "label_smoothing": 0.1, "rdrop_alpha": 5.0, **options}
    return CRITERION_REGISTRY["label_smoothed_cross_entropy_with_rdrop"](make_task(), **settings)


def run(criterion, model, sample):
    torch.manual_seed(1)
    return criterion(model, sample)


def test_nll_of_training_is_that_of_one_pass_not_the_sum_of_two():
    model = without_randomness(make_model())
    with torch.no_grad():
        logits = model(**make_sample()["net_input"])[0]
    nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), make_sample()["target"].flatten(), ignore_index=PAD, reduction="sum"
    )
    ours, theirs = (run(criterion, model, make_sample())[2] for criterion in (make_criterion("rdrop"), make_peer()))
    assert float(ours["nll_loss"]) == pytest.approx(nll.item(), rel=1e-5)
    assert float(theirs["nll_loss"]) == pytest.approx(2 * nll.item(), rel=1e-5)


def test_validation_costs_one_view_and_is_plain_cross_entropy():
    rows = {}
    for name, criterion in (("ours", make_criterion("rdrop")), ("theirs", make_peer())):
        model, seen = make_model().eval(), []
        model.encoder.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(len(args[0])))
        loss, _, log = run(criterion, model, make_sample())
        rows[name] = (seen, float(loss))
        if name == "ours":
            assert "rdrop_kl" not in log
    assert rows["ours"][0] == [3]
    assert rows["theirs"][0] == [6]
    assert rows["theirs"][1] == pytest.approx(2 * rows["ours"][1], rel=1e-5)


def test_the_callers_sample_is_untouched():
    found = {}
    for name, criterion in (("ours", make_criterion("rdrop")), ("theirs", make_peer())):
        sample = make_sample()
        run(criterion, make_model(), sample)
        found[name] = len(sample["net_input"]["src_tokens"])
    assert found == {"ours": 3, "theirs": 6}


def test_ignore_prefix_size_works():
    loss, log = step(make_criterion("rdrop", ignore_prefix_size=2), make_model(), make_sample())
    assert 0 < loss < step(make_criterion("rdrop"), make_model(), make_sample())[0]
    assert float(log["rdrop_kl"]) > 0
    with pytest.raises(RuntimeError):
        run(make_peer(ignore_prefix_size=2), make_model(), make_sample())


def test_any_task_trains_with_it_by_fairseqs_own_train_step():
    """No task of its own, no method that one task must call, and backward is the optimizer's: --amp, --fp16 hold."""

    class Optimizer:
        losses: list[torch.Tensor]

        def backward(self, loss):
            self.losses.append(loss)
            loss.backward()

    optimizer, model = Optimizer(), make_model()
    optimizer.losses = []
    criterion = make_criterion("rdrop")
    loss, _, _ = criterion(model, make_sample())
    assert not gradients(model)  # not the criterion's business
    assert loss.requires_grad
    TranslationTask.train_step(object.__new__(TranslationTask), make_sample(), model, criterion, optimizer, 0)
    assert len(optimizer.losses) == 1
    assert gradients(model)


def test_alpha_is_a_float_and_its_default_is_rdrop():
    alpha = CRITERION_DATACLASS_REGISTRY["label_smoothed_cross_entropy_rdrop"].__dataclass_fields__["rdrop_alpha"]
    assert alpha.type is float
    assert alpha.default == 5.0
    _, log = step(make_criterion("rdrop", rdrop_alpha=0.7), make_model(), make_sample())
    assert log["rdrop_alpha"] / log["ntokens"] == pytest.approx(0.7)
    _, log = step(make_criterion("rdrop", rdrop_alpha=0.7, rdrop_passes=3), make_model(), make_sample())
    assert log["rdrop_alpha"] / log["ntokens"] == pytest.approx(0.7)


def test_kl_is_logged_also_when_it_is_0():
    _, log = step(make_criterion("rdrop"), without_randomness(make_model()), make_sample())
    assert "rdrop_kl" in log
    assert float(log["rdrop_kl"]) == pytest.approx(0.0, abs=1e-4)
    assert log["rdrop_ntokens"] == log["ntokens"]


def test_sentence_avg_counts_and_other_keys_of_net_input_arrive():
    """Also a key that is time-first, and one that belongs to no sentence."""
    model, arrived = make_model(), {}
    forward = model.forward

    def spy(src_tokens, src_lengths, prev_output_tokens, features_only=False, **others):
        arrived.update(others)
        return forward(src_tokens, src_lengths, prev_output_tokens, features_only=features_only)

    model.forward = spy
    sample = make_sample()
    sample["net_input"].update(states=torch.zeros(7, 3, 2), table=torch.zeros(5, 5), flag=True)
    _, size, _ = make_criterion("rdrop", sentence_avg=True, rdrop_impl="eager")(model, sample)
    assert size == 3
    assert arrived["states"].shape == (7, 6, 2)
    assert arrived["table"].shape == (5, 5)
    assert arrived["flag"] is True


def test_both_criterions_can_be_registered_in_one_process():
    names = ("label_smoothed_cross_entropy_rdrop", "label_smoothed_cross_entropy_with_rdrop")
    assert all(name in CRITERION_REGISTRY for name in names)
    assert "reg_label_smoothed_cross_entropy" not in CRITERION_REGISTRY  # the paper's code can come as well


def test_with_layerdrop_the_sub_models_differ():
    """Dropout off: what is left to differ are the layers. Chosen by itself; a stack always loses the same layers."""
    model = without_randomness(make_model(**LAYERDROP))
    for side in (model.encoder, model.decoder):
        side.layers.p = 0.5
    divergence = {"auto": [], "stacked": []}
    for forward, found in divergence.items():
        for seed in range(8):
            criterion = make_criterion("rdrop", rdrop_forward=forward)
            found.append(float(step(criterion, model, make_sample(), seed)[1]["rdrop_kl"]))
    assert max(divergence["auto"]) > 0.1
    assert max(divergence["stacked"]) < 1e-3


@pytest.mark.parametrize("name", ["rdrop", "cutoff", "simcut"])
def test_every_registered_variant_runs(name):
    model = make_model()
    loss, log = step(make_criterion(name), model, make_sample())
    assert loss > 0
    assert float(log["rdrop_kl"]) > 0
    assert all(grad.isfinite().all() for grad in gradients(model).values())


def test_no_ten_tensors_of_the_logits_size_are_alive_at_once():
    """One training step of a model whose logits outweigh all else. Peak above what was there before."""
    peaks = {}
    logits = 0
    for name, criterion in (("ours", make_criterion("rdrop")), ("theirs", make_peer())):
        model = make_model(encoder_layers=1, decoder_layers=1)
        model.decoder.output_projection = torch.nn.Linear(16, CLASSES, bias=False)  # more than the dictionary has
        sample = make_sample((40,) * 40)
        logits = float_bytes(2 * sample["target"].numel(), CLASSES)
        peaks[name] = peak_bytes(lambda c=criterion, m=model, s=sample: run(c, m, s)[0].backward())
    assert peaks["theirs"] > 4 * logits
    assert peaks["ours"] < 2 * logits
    assert peaks["ours"] < 0.35 * peaks["theirs"]
