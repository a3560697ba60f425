"""Peak memory of a piece of work: the bytes that tensors hold, on a CPU as on a GPU."""

from __future__ import annotations

from typing import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(work: Callable[[], object], device: str = "cpu") -> int:
    """The most bytes of tensors that exist at a time during `work`, without those that existed before it.

    On a GPU (the current one) the allocator counts them; on a CPU torch's profiler records every allocation.
    """
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    del result
    recorded = profiler.profiler.kineto_results.events()
    events = [event for event in recorded if event.name() == "[memory]"]
    if not events:
        raise RuntimeError("torch's profiler recorded no allocation")
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
