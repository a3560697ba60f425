"""A training step asks no tensor for its values: on a GPU the host would wait for each.

Traced on CPU tensors that the package takes for a device's. fairseq's own models ask whether a batch is padded.
"""

from __future__ import annotations

import pytest
import tiny_lm
import torch
from host_waits import HostWaits
from tiny_criteria import gradients, make_criterion, step
from tiny_models import PAD, make_model, make_sample
from tiny_roberta import RDROP, session, write_sentences

from rdrop_fairseq import loss
from rdrop_fairseq.loss import positions

READ = "_local_scalar_dense"
ENCODER, DECODER, SINES = (
    f"fairseq/{where}"
    for where in (
        "models/transformer/transformer_encoder.py:forward_scriptable",
        "models/transformer/transformer_decoder.py:extract_features_scriptable",
        "modules/sinusoidal_positional_embedding.py:forward",
    )
)
# fairseq's own: whether there is padding at all (`.any()`; the encoder asks again in every layer), a flag beside it,
# and sizes. The last two are on the host.
FAIRSEQS = {(READ, ENCODER), (READ, DECODER), ("lift_fresh", ENCODER), (READ, SINES)}
# A seed, drawn by the host's generator, which is on no device.
SEED = (READ, "rdrop_fairseq/views/cutoff.py:own_generator")
CASES = {
    "R-Drop": ("rdrop", {}),
    "three views": ("rdrop", {"rdrop_passes": 3}),
    "one forward per view": ("rdrop", {"rdrop_forward": "separate"}),
    "shared encoder": ("rdrop", {"rdrop_forward": "shared-encoder"}),
    "eager": ("rdrop", {"rdrop_impl": "eager"}),
    "accuracy": ("rdrop", {"report_accuracy": True}),
    "ignored prefix": ("rdrop", {"ignore_prefix_size": 2, "report_accuracy": True}),
    "sentences": ("rdrop", {"sentence_avg": True}),
    "token cutoff": ("rdrop", {"rdrop_cutoff": "token", "rdrop_cutoff_rate": 0.3}),
    "span cutoff": ("rdrop", {"rdrop_cutoff": "span", "rdrop_cutoff_rate": 0.3}),
    "feature cutoff": ("rdrop", {"rdrop_cutoff": "feature", "rdrop_cutoff_rate": 0.3}),
    "SimCut": ("simcut", {}),
    "Cutoff": ("cutoff", {}),
    "before the start": ("rdrop", {"rdrop_start_updates": 9}),
    "every second update": ("rdrop", {"rdrop_every": 2, "rdrop_warmup_updates": 8}),
}


def waits(criterion, model, sample):
    """What of one forward and backward would make the host wait."""
    if hasattr(criterion, "set_num_updates"):
        criterion.set_num_updates(3)
    with HostWaits() as seen:
        found, *_ = criterion(model, sample)
        (found * 3.0).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    return seen.found


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def on_a_device(request, monkeypatch):
    """The dtype of the model; the package takes the GPU's way, with products in that dtype."""
    monkeypatch.setattr(positions, "waits", lambda _: True)
    monkeypatch.setattr(loss, "_product_dtype", lambda *_: request.param)
    return request.param


@pytest.mark.parametrize("case", CASES)
def test_a_translation_step(case, on_a_device):
    name, options = CASES[case]
    model = make_model(share_decoder_input_output_embed=True).to(on_a_device)
    found = waits(make_criterion(name, **options), model, make_sample())
    assert found - {SEED} == FAIRSEQS
    assert (SEED in found) == ("utoff" in case or case == "SimCut")


LENGTHS = (9, 4, 30, 12, 7, 25)


def left_padded():
    """Targets with their padding in front, as --left-pad-target makes them: the decoder's output there may be NaN."""
    sample = make_sample(LENGTHS)
    for tensor in (sample["target"], sample["net_input"]["prev_output_tokens"]):
        for row, length in zip(tensor, LENGTHS):
            row.copy_(row.roll(max(LENGTHS) - length))
    return sample


@pytest.mark.parametrize("arch", ["transformer", "fconv"])
@pytest.mark.parametrize("impl", ["fused", "eager"])
@pytest.mark.parametrize("prefix", [0, 2, 5, 50])
def test_the_gpus_way_gives_what_the_cpus_does(arch, impl, prefix, monkeypatch):
    """Loss, gradients, accuracy and counts, with an ignored prefix that takes what the host does not know."""
    layers = dict.fromkeys(("encoder_layers", "decoder_layers"), "[(16, 3)]") if arch == "fconv" else {}
    options = {"ignore_prefix_size": prefix, "report_accuracy": True, "rdrop_impl": impl}
    for sample in (make_sample(LENGTHS), left_padded()):
        found = []
        for waits_for_device in (False, True):
            monkeypatch.setattr(positions, "waits", lambda _, answer=waits_for_device: answer)
            model = make_model(arch, **layers)
            loss, log = step(make_criterion("rdrop", **options), model, sample)
            found.append((loss, {key: float(value) for key, value in log.items()}, gradients(model)))
        assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
        assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)
        torch.testing.assert_close(found[1][2], found[0][2], rtol=1e-5, atol=1e-6)
        assert log["n_correct"] > 0 or prefix == 50
        assert log["total"] == 2 * sample["target"][:, prefix:].ne(PAD).sum()


def test_a_step_on_logits(on_a_device):
    """A convolutional model makes its logits itself."""
    layers = dict.fromkeys(("encoder_layers", "decoder_layers"), "[(16, 3)]")
    model = make_model("fconv", **layers).to(on_a_device)
    found = waits(make_criterion("rdrop", report_accuracy=True), model, make_sample())
    assert not [each for each in found if not each[1].startswith("fairseq/models/fconv.py")]


def test_a_step_of_a_language_model(on_a_device):
    criterion = make_criterion("rdrop", tiny_lm.make_lm_task(), label_smoothing=0.0)
    found = waits(criterion, tiny_lm.make_lm().to(on_a_device), tiny_lm.make_lm_sample())
    assert found == {(READ, DECODER), (READ, SINES)}


@pytest.mark.parametrize("numbers", [False, True])
def test_a_step_of_sentence_prediction(numbers, on_a_device, tmp_path):
    classes, options = ((), ["--regression-target", "--num-classes", "1"]) if numbers else (("1", "0"), [])
    run = session(write_sentences(tmp_path, classes), *RDROP, *options)
    found = waits(run.criterion, run.model.to(on_a_device), run.batch(*range(4)))
    assert not [each for each in found if not each[1].startswith("fairseq/models/")]


READS = {
    "item": lambda x: x.sum().item(),
    "a condition": lambda x: 1 if x.any() else 0,
    "a number": lambda x: int(x[0]),
    "nonzero": lambda x: x.nonzero(),
    "a mask as index": lambda x: x[x > 1],
    "writing by a mask": lambda x: x.clone().__setitem__(x > 1, 0.0),
    "masked_select": lambda x: x.masked_select(x > 1),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "a list": lambda x: torch.tensor([1.0, 2.0]),
    "a list for a device": lambda x: x.new_tensor([1.0]),
    "repetition by counts": lambda x: torch.repeat_interleave(x.long()),
    "numbers for Python": lambda x: x.tolist(),
    "a copy to the host": lambda x: x.to("cpu"),
}


@pytest.mark.parametrize("read", READS)
def test_what_is_seen(read):
    """Each of these makes the host wait on a GPU, and none goes unseen."""
    x = torch.arange(4.0)
    with HostWaits() as seen:
        READS[read](x)
    assert seen.found
