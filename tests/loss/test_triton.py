"""The GPU sweep without a GPU: by Triton's interpreter against float64, and compiled for GPUs that are not here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import choose, cutoff_weights, rdrop_loss

ROOT = Path(__file__).parents[2]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed (it has wheels for Linux x86-64 only)"
)
# What rounding the gradient to the dtype costs; the interpreter truncates to bf16, which is a whole unit.
ROUNDED = {"fp32": 1e-6, "bf16": 8e-3, "fp16": 1e-3}


def lines(script, tmp_path_factory, **variables):
    """The JSON lines that a script of tests/support prints in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton cache"))
    command = [sys.executable, str(ROOT / "tests" / "support" / script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    return lines("triton_interpreted.py", tmp_path_factory, TRITON_INTERPRET="1")


@needs_triton
def test_values_and_gradients_beside_float64_and_the_torch_sweep(interpreted):
    """The torch sweep has fp32 logits for all dtypes; the kernel's gradient is rounded to the dtype of the logits."""
    cases = [case for case in interpreted if "classes" in case]
    assert len(cases) == (3 * 6 + 4) * 3 + 1
    for case in cases:
        for what in ("loss", "nll", "kl"):
            assert case[f"triton {what}"] <= case[f"torch {what}"] + 1e-6, case
        assert case["triton gradient"] <= case["torch gradient"] + ROUNDED[case["dtype"]], case


@needs_triton
def test_equal_views_have_no_divergence(interpreted):
    assert [case["kl"] for case in interpreted if case["kind"] == "equal"] == [0.0] * 3


@needs_triton
def test_half_precision_from_features_to_gradients(interpreted):
    cases = [case for case in interpreted if case["kind"] == "products"]
    assert len(cases) == 4
    for case in cases:
        found = [value for key, value in case.items() if key == "loss" or key.startswith("gradient")]
        assert max(found) <= {"bf16": 2e-2, "fp16": 2e-3}[case["dtype"]], case


@needs_triton
def test_a_position_that_does_not_count_adds_nothing(interpreted):
    cases = [case for case in interpreted if case["kind"] == "dead"]
    assert len(cases) == 9
    for case in cases:
        assert (case["gradient"], case["others"]) == (0.0, 0.0), case
        assert case["sums"] <= 1e-4, case


@needs_triton
def test_classes_masked_by_the_lowest_finite_logit(interpreted):
    cases = [case for case in interpreted if case["kind"] == "masked"]
    assert len(cases) == 2
    for case in cases:
        assert case["losses"][1] == pytest.approx(case["losses"][0], rel=1e-5)


@needs_triton
def test_an_fp16_gradient_that_overflows_is_shown(interpreted):
    """As infinity or NaN, which fairseq's loss scaling looks for; a clamped one would be taken for right."""
    [case] = [case for case in interpreted if case["kind"] == "overflow"]
    assert case["finite"] == [False, False]
    assert case["loss"] <= 1e-3
    assert case["harmless"] <= 2e-2


@needs_triton
def test_a_kernel_that_is_wrong_or_does_not_run_is_not_used_and_that_is_said_once(interpreted):
    [said] = [case for case in interpreted if case["kind"] == "fallback"]
    assert said["good"] is None
    assert said["skewed"] == "the kl is off with 8 warps"
    for name, text in (("wrong", "the gradient of view 1 is off"), ("broken", "out of resource: shared memory")):
        assert said[name] == [False, False]
        [warning] = said[f"{name} warnings"]
        assert text in warning


@needs_triton
def test_tf32_products_do_not_turn_the_kernel_off(interpreted):
    [said] = [case for case in interpreted if case["kind"] == "tf32"]
    assert said["said"] is None


@needs_triton
def test_by_name(interpreted):
    assert interpreted[-1]["difference"] < 1e-5


@needs_triton
def test_compiled_for_gpus_it_spills_nothing_and_fills_half_of_a_multiprocessor(tmp_path_factory):
    rows = lines("triton_compiled.py", tmp_path_factory)
    assert {(row["sm"], row["dtype"], row["views"]) for row in rows} == {
        (sm, dtype, views) for sm in (80, 90) for dtype in ("bf16", "fp16", "fp32") for views in (1, 2)
    }
    for row in rows:
        assert row["spilled bytes"] == 0, row
        assert row["resident warps"] >= 32, row


@needs_triton
def test_a_triton_without_the_option_of_3_2_takes_the_kernel(monkeypatch):
    import triton

    jit = triton.jit
    monkeypatch.setattr(triton, "jit", lambda fn=None, *, do_not_specialize=None: jit(fn) if fn else jit)
    spec = importlib.util.spec_from_file_location("older", ROOT / "rdrop_fairseq" / "loss" / "rows_triton.py")
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)
    assert older.ONE_ALIGNMENT == {}


def test_the_choice():
    cpu, cuda, other = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
    assert [choose.choose_impl("auto", device) for device in (cpu, cuda, other)] == ["fused", "fused", "eager"]
    assert choose.choose_impl("fused-torch", cuda) == "fused-torch"


def test_what_the_kernel_cannot_do_by_name():
    with pytest.raises(UserError, match="fused-triton takes one or two views"):
        rdrop_loss(torch.zeros(4, 5), torch.tensor([1, 2]), weights=cutoff_weights((1.0,), 5.0), impl="fused-triton")


def test_by_name_without_triton(monkeypatch):
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="fused-triton needs triton"):
        rdrop_loss(torch.zeros(4, 5), torch.tensor([1, 2]), alpha=1.0, impl="fused-triton")


def test_a_run_on_the_cpu_never_imports_triton():
    program = (
        "import sys, torch, rdrop_fairseq.loss as loss\n"
        "x = torch.randn(4, 3, requires_grad=True)\n"
        "loss.linear_rdrop_loss(x, torch.randn(7, 3), torch.tensor([1, 2]), alpha=5.0)[0].backward()\n"
        "assert 'rdrop_fairseq.loss.rows_triton' not in sys.modules\n"
        "assert not any(name.split('.')[0] == 'triton' and 'rdrop' in str(sys.modules[name]) for name in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
