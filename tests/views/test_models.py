"""Where the loss may do the output projection itself, and the reasons where it may not."""

from __future__ import annotations

import pytest
import torch
from fairseq.distributed import ModuleProxyWrapper
from tiny_criteria import make_criterion, step
from tiny_models import make_model, make_sample
from torch import nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.models import check_softmax, find_projection, has_plain_probabilities, wrappers

LIGHT = {"encoder_conv_type": "lightweight", "decoder_conv_type": "lightweight", "weight_softmax": True}
LIGHT.update({key: [3, 3] for key in ("encoder_kernel_size_list", "decoder_kernel_size_list")})
CONVOLUTIONS = dict.fromkeys(("encoder_layers", "decoder_layers"), "[(16, 3)]")
ARCHS = pytest.mark.parametrize(
    ("arch", "options"),
    [("transformer", {}), ("transformer", {"share_decoder_input_output_embed": True}), ("bart_base", {})],
)


@ARCHS
def test_transformers_and_bart(arch, options):
    model = make_model(arch, **options)
    projection, reason = find_projection(model)
    assert projection is model.decoder.output_projection
    assert reason == ""


@pytest.mark.parametrize(
    ("arch", "options"), [("lstm", {}), ("fconv", CONVOLUTIONS), ("lightconv", LIGHT)]
)
def test_other_models_take_the_logits_path(arch, options):
    model = make_model(arch, **options)
    assert find_projection(model) == (None, "the decoder's output layer is not a plain linear projection")
    assert has_plain_probabilities(model)


def test_wrapped_models():
    model = make_model()
    wrapped = ModuleProxyWrapper(Wrapper(model))
    assert wrappers(wrapped)[-1] is model
    assert find_projection(wrapped)[0] is model.decoder.output_projection


class Wrapper(nn.Module):
    """As fairseq's: `module` is the model."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_a_decoder_with_another_output_layer():
    model = make_model()

    class Scaled(type(model.decoder)):
        def output_layer(self, features):
            return self.output_projection(features) * 0.5

    model.decoder.__class__ = Scaled
    assert find_projection(model)[1] == "the decoder's output layer is not a plain linear projection"


def test_a_projection_with_hooks():
    model = make_model()
    model.decoder.output_projection.register_forward_hook(lambda *_: None)
    assert "hooks" in find_projection(model)[1]


def test_a_weight_that_is_computed_from_others():
    """weight_norm's weight is stale outside the projection's own forward."""
    model = make_model()
    nn.utils.parametrizations.weight_norm(model.decoder.output_projection)
    assert find_projection(model)[0] is None


def test_a_model_with_probabilities_of_its_own():
    model = make_model()

    class Own(type(model)):
        def get_normalized_probs(self, net_output, log_probs, sample=None):
            return super().get_normalized_probs(net_output, log_probs, sample)

    model.__class__ = Own
    assert find_projection(model)[1] == "the model has its own way to compute probabilities"
    assert not has_plain_probabilities(model)


def test_fully_sharded_models_take_the_logits_path():
    class FullyShardedDataParallel(Wrapper):
        pass

    assert "sharded" in find_projection(FullyShardedDataParallel(make_model()))[1]


def test_the_reason_is_said_once_in_the_log(caplog):
    criterion, model = make_criterion("rdrop"), make_model("fconv", **CONVOLUTIONS)
    with caplog.at_level("INFO"):
        step(criterion, model, make_sample())
        step(criterion, model, make_sample())
    told = [record.getMessage() for record in caplog.records if "works on logits" in record.getMessage()]
    assert len(told) == 1
    assert "not a plain linear projection" in told[0]


def test_the_logits_path_is_not_taken_in_silence_elsewhere(caplog):
    with caplog.at_level("INFO"):
        step(make_criterion("rdrop"), make_model(), make_sample())
    assert "works on logits" not in caplog.text


def test_adaptive_softmax():
    with pytest.raises(UserError, match="use --criterion adaptive_loss_rdrop"):
        check_softmax(Wrapper(make_model(adaptive_softmax_cutoff="8,16", share_all_embeddings=False)))
    check_softmax(make_model())


@ARCHS
def test_linear_and_logits_path_train_the_same(arch, options):
    """The same model with a hook on its projection goes by its logits: equal loss, equal gradients."""
    found = []
    for hooked in (False, True):
        model = make_model(arch, **options)
        if hooked:
            model.decoder.output_projection.register_forward_hook(lambda *_: None)
        loss, _ = step(make_criterion("rdrop"), model, make_sample())
        found.append([loss, *(p.grad for p in model.parameters())])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
