"""fairseq's --fp16 as far as a CPU goes: half-precision parameters, a scaled loss, gradients unscaled in fp32."""

from __future__ import annotations

import copy

import pytest
import tiny_lm
import torch
from tiny_criteria import make_adaptive, make_criterion
from tiny_models import make_model, make_sample, without_randomness


def unscaled(criterion, model, sample, scale):
    """d loss / d parameter in fp32 by the steps of fairseq's FP16Optimizer."""
    torch.manual_seed(1)
    model.zero_grad()
    loss, size, _ = criterion(model, sample)
    (loss * scale).backward()
    return {name: p.grad.float() / (scale * size) for name, p in model.named_parameters()}


def scaled_gradients(model, scale, **options):
    """Those of a translation model."""
    return unscaled(make_criterion("rdrop", **options), model, make_sample(), scale)


def assert_near(half, truth, eps):
    """Every gradient within `eps` of itself, and a little of all."""
    whole = torch.cat([grad.flatten() for grad in truth.values()]).norm()
    for name, grad in truth.items():
        assert half[name].isfinite().all(), name
        assert (half[name] - grad).norm() <= eps * grad.norm() + eps / 20 * whole, name


@pytest.mark.parametrize("impl", ["fused", "eager"])
@pytest.mark.parametrize("scale", [128.0, 2048.0])
@pytest.mark.parametrize("tied", [True, False])
def test_half_precision_training_steps(impl, scale, tied):
    """Every gradient as of an fp32 model with the same (rounded) parameters, up to half precision's rounding."""
    model = make_model(share_decoder_input_output_embed=tied).half()
    exact = copy.deepcopy(model).float()  # draws the same dropout masks
    half = scaled_gradients(model, scale, rdrop_impl=impl)
    truth = scaled_gradients(exact, 1.0, rdrop_impl="eager")
    assert_near(half, truth, 0.02)


def language_model_criterion(name, **options):
    if not name.startswith("adaptive"):
        return make_criterion("rdrop", tiny_lm.make_lm_task(), label_smoothing=0.0, rdrop_alpha=1.0, **options)
    return make_adaptive(**options)


@pytest.mark.parametrize(("dtype", "eps"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)], ids=["fp16", "bf16"])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", tiny_lm.MODELS)
def test_language_models(name, exact, dtype, eps):
    """Features path and adaptive softmax against eager fp32, with dropout; fp16 under a scale of 2,048."""
    options = {"rdrop_exact_divergence": True} if exact and name.startswith("adaptive") else {}
    model, sample = tiny_lm.make_lm(name).to(dtype), tiny_lm.make_lm_sample()
    truth = copy.deepcopy(model).float()
    scale = 2048.0 if dtype == torch.float16 else 1.0
    half = unscaled(language_model_criterion(name, **options), model, sample, scale)
    assert_near(half, unscaled(language_model_criterion(name, rdrop_impl="eager", **options), truth, sample, 1.0), eps)


def test_a_scale_that_is_too_large_shows_as_inf():
    """So that the loss scaler can halve it; never as a wrong finite number."""
    model = without_randomness(make_model()).half()
    grads = scaled_gradients(model, 2.0**24)
    assert not all(grad.isfinite().all() for grad in grads.values())
    assert all(grad.isfinite().all() for grad in scaled_gradients(model, 128.0).values())


def test_half_precision_with_dropout_compares_views():
    torch.manual_seed(1)
    loss, _, log = make_criterion("rdrop")(make_model().half(), make_sample())
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert float(log["rdrop_kl"]) > 0
