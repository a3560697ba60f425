"""Peak of the bytes that torch's CPU allocator hands out while a function runs."""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(function: Callable[[], Any]) -> int:
    """Largest sum of bytes allocated and not yet freed since the start of `function`."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = function()
    del result
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    assert events, "the profiler saw no allocation"
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def float_bytes(*shape: int) -> int:
    """Bytes of an fp32 tensor."""
    return 4 * torch.Size(shape).numel()
