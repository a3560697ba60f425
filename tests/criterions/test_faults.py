"""Faults of the paper's code and of fairseq's R-Drop criterion that are not here. The others: validation in
test_equals_fairseq.py, the caller's sample and prefixes in test_multi_view.py, units in test_logged.py, LayerDrop in
views/test_run.py, memory in benchmark/test_memory.py."""

from __future__ import annotations

import pytest
import torch
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
from fairseq.tasks.translation import TranslationTask
from tiny_criteria import gradients, make_criterion, step
from tiny_models import PAD, make_model, make_sample, make_task, without_randomness


def test_nll_of_training_is_that_of_one_pass_not_the_sum_of_two():
    model = without_randomness(make_model())
    with torch.no_grad():
        logits = model(**make_sample()["net_input"])[0]
    nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), make_sample()["target"].flatten(), ignore_index=PAD, reduction="sum"
    )
    peer = CRITERION_REGISTRY["label_smoothed_cross_entropy_with_rdrop"](make_task(), False, 0.1, rdrop_alpha=5.0)
    ours, theirs = (criterion(model, make_sample())[2] for criterion in (make_criterion("rdrop"), peer))
    assert float(ours["nll_loss"]) == pytest.approx(nll.item(), rel=1e-5)
    assert float(theirs["nll_loss"]) == pytest.approx(2 * nll.item(), rel=1e-5)


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
