"""Tests for a GPU; `scripts/gpu_check.sh` runs them. RDROP_TEST_DEVICE=cpu rehearses those that a CPU can run."""

from __future__ import annotations

import os

import pytest
import torch

DEVICE = os.environ.get("RDROP_TEST_DEVICE", "cuda")


@pytest.fixture(scope="session", autouse=True)
def device() -> str:
    """cuda (the current GPU), or cpu for a rehearsal."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU; scripts/gpu_check.sh runs this where there is one")
    return DEVICE


@pytest.fixture(scope="session", autouse=True)
def exact_products() -> None:
    """Full fp32 products: NVIDIA's containers allow TF32 by an environment variable, which the budgets do not."""
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(autouse=True)
def precision(request: pytest.FixtureRequest, device: str) -> None:
    """Skips a test's bf16 on GPUs without it."""
    values = getattr(getattr(request.node, "callspec", None), "params", {}).values()
    wants = any(value is torch.bfloat16 or value == "bf16" for value in values)
    if wants and device == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no bf16")


@pytest.fixture
def gpu(device: str) -> torch.device:
    """The current GPU, with its index; skips in a rehearsal."""
    if device != "cuda":
        pytest.skip("a CPU has neither streams nor Triton")
    return torch.device("cuda", torch.cuda.current_device())
