"""The same training as fairseq's own criterions, on real models, from the same seed and data."""

from __future__ import annotations

import pytest
import torch
from tiny_fairseq import MODELS, PLAIN, RDROP, session, write_corpus

PEER = ["--criterion", "label_smoothed_cross_entropy_with_rdrop", "--label-smoothing", "0.1", "--rdrop-alpha", "5"]
models = pytest.mark.parametrize("model", MODELS)


@pytest.fixture(scope="module")
def even_corpus(tmp_path_factory):
    """Sentences of one length: fairseq's stacked batch must be from long to short for an LSTM."""
    return write_corpus(tmp_path_factory.mktemp("even"), shortest=6, longest=6)


@models
def test_equals_fairseqs_rdrop_for_ten_updates(corpus, even_corpus, model):
    """Loss and gradient norm of each update to 4 digits; logged losses differ only where fairseq counts twice."""
    data, stacked = (even_corpus if model == "lstm" else corpus), ["--rdrop-forward", "stacked"]
    ours = session(data, *RDROP, *stacked, model=model).updates(10)
    theirs = session(data, *PEER, model=model).updates(10)
    for mine, other in zip(ours, theirs):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert mine["gnorm"] == pytest.approx(other["gnorm"], rel=1e-4)
        assert mine["nll_loss"] == pytest.approx(other["nll_loss"] / 2, rel=1e-4)
        assert mine["rdrop_kl"] == pytest.approx(other["rdrop_kl_loss"], rel=1e-3, abs=1e-6)
    assert ours[-1]["loss"] < ours[0]["loss"]


@pytest.mark.parametrize("impl", ["fused", "eager"])
@pytest.mark.parametrize("forward", ["stacked", "separate"])
def test_every_implementation_trains_the_same_model(corpus, impl, forward):
    """Separate forwards draw other dropout masks: without dropout all four agree."""
    options = [*RDROP, "--dropout", "0", "--rdrop-passes", "3"]
    ours = session(corpus, *options, "--rdrop-impl", impl, "--rdrop-forward", forward).updates(3)
    reference = session(corpus, *options).updates(3)
    for mine, other in zip(ours, reference):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert mine["gnorm"] == pytest.approx(other["gnorm"], rel=1e-5)


@pytest.mark.parametrize("model", ["transformer", "transformer-tied", "lstm"])
def test_alpha_0_is_plain_training_exactly(corpus, model):
    """Loss, gradient norm and, after 10 updates, every parameter: as fairseq's label_smoothed_cross_entropy."""
    ours = session(corpus, *RDROP, "--rdrop-alpha", "0", model=model)
    theirs = session(corpus, *PLAIN, model=model)
    for mine, other in zip(ours.updates(10), theirs.updates(10)):
        for key in ("loss", "nll_loss", "gnorm", "ntokens", "sample_size"):
            if key in other:
                assert mine[key] == pytest.approx(other[key], rel=1e-5), key
        assert "rdrop_kl" not in mine
        assert mine["rdrop_alpha"] == 0.0
    expected = theirs.parameters()
    for name, value in ours.parameters().items():
        if not name.endswith("k_proj.bias"):  # its gradient is 0 in theory; Adam blows the rounding up
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-5)


@models
@pytest.mark.parametrize("options", [[], ["--ignore-prefix-size", "2", "--report-accuracy", "--sentence-avg"]])
def test_validation_is_plain_cross_entropy_to_the_bit(corpus, model, options):
    """Fault of fairseq's: R-Drop at validation too, at double cost, with a doubled loss and a KL of 0."""
    ours = session(corpus, *RDROP, *options, model=model)
    theirs = session(corpus, *PLAIN, *options, model=model)
    rows = []
    ours.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["src_tokens"])), with_kwargs=True
    )
    found = ours.task.valid_step(ours.batch(0, 1, 2), ours.model, ours.criterion)
    expected = theirs.task.valid_step(theirs.batch(0, 1, 2), theirs.model, theirs.criterion)
    assert found[0].item() == expected[0].item()
    assert found[1] == expected[1]
    assert found[2] == expected[2]
    assert rows == [3]  # one forward, one view
