"""One encoder run for all views of the decoder."""

from __future__ import annotations

import pytest
import torch
from tiny_criteria import gradients, make_criterion, step
from tiny_models import make_model, make_sample, without_randomness
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views import Views

MODELS = {
    "transformer": ("transformer", {}),
    "bart": ("bart_base", {}),
    "lstm": ("lstm", {}),
    "convolutions": ("fconv", {"encoder_layers": "[(16, 3)]", "decoder_layers": "[(16, 3)]"}),
}
ALL_MODELS = pytest.mark.parametrize(("arch", "options"), MODELS.values(), ids=MODELS)


def counted(module):
    """A list that grows by the batch size of each forward."""
    calls = []
    module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args or tuple(kwargs.values()))[0].size(0)), with_kwargs=True
    )
    return calls


@ALL_MODELS
@pytest.mark.parametrize("views", [2, 3])
def test_equals_separate_forwards_when_nothing_is_random(arch, options, views):
    model, sample = without_randomness(make_model(arch, **options)), make_sample()
    results = []
    for forward in ("separate", "shared-encoder"):
        loss, _ = step(make_criterion("rdrop", rdrop_passes=views, rdrop_forward=forward), model, sample)
        results.append((loss, gradients(model)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-3, atol=1e-4)


def test_the_encoder_runs_once_and_the_decoder_for_all_views():
    model = make_model(share_all_embeddings=True)
    encoder, decoder = counted(model.encoder), counted(model.decoder)
    step(make_criterion("rdrop", rdrop_passes=3, rdrop_forward="shared-encoder"), model, make_sample())
    assert (encoder, decoder) == ([3], [9])


def test_the_decoders_dropout_differs():
    _, log = step(make_criterion("rdrop", rdrop_forward="shared-encoder"), make_model(), make_sample())
    assert log["rdrop_kl"].item() > 0.01


def test_no_hook_is_left_whatever_happens():
    model = make_model()
    net_input = make_sample()["net_input"]
    Views(2, "shared-encoder").of(model).run(net_input, 3)
    assert not model.encoder._forward_hooks

    def fail(*_):
        raise RuntimeError("out of memory")

    model.decoder.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        Views(2, "shared-encoder").of(model).run(net_input, 3)
    assert not model.encoder._forward_hooks


def test_through_a_data_parallel_wrapper(tmp_path):
    """The wrapper's own forward is called, so its gradient hooks see every parameter."""
    model, sample = without_randomness(make_model()), make_sample()
    criterion = make_criterion("rdrop", rdrop_forward="shared-encoder")
    step(criterion, model, sample)
    expected = gradients(model)
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(model)
        step(make_criterion("rdrop", rdrop_forward="shared-encoder"), wrapped, sample)
    finally:
        distributed.destroy_process_group()
    torch.testing.assert_close(gradients(model), expected)


def test_an_input_that_might_be_of_either_side():
    net_input = {**make_sample()["net_input"], "domain": torch.tensor([0, 1, 1])}
    with pytest.raises(UserError, match="whether domain is an input of encoder or decoder"):
        Views(2, "shared-encoder").of(make_model()).run(net_input, 3)


def test_a_decoder_with_layerdrop():
    with pytest.raises(UserError, match="LayerDrop drops the same layers"):
        Views(2, "shared-encoder").of(make_model(decoder_layerdrop=0.5))
    assert Views(2, "shared-encoder").of(make_model(encoder_layerdrop=0.5)).mode == "shared-encoder"


def test_a_model_without_an_encoder():
    model = make_model()
    del model.encoder
    with pytest.raises(UserError, match="no encoder whose output can be repeated"):
        Views(2, "shared-encoder").of(model)
