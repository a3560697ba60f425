"""Peak memory of a piece of work: a process of its own on a CPU, the allocator's own count on a GPU."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import torch

from rdrop_fairseq.errors import UserError

STATUS = Path("/proc/self/status")


def peak_above(work: Callable[[], object], device: str) -> tuple[float, float]:
    """(peak while `work` runs, what was in use before it), in MB."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 1e6, before / 1e6
    before_mb = _status_mb("VmRSS")
    _reset_peak()
    work()
    return _status_mb("VmHWM"), before_mb


def in_own_process(module: str, argv: Sequence[str]) -> dict[str, float]:
    """Run `python -m module argv`, which prints one JSON object on its last line, and return that."""
    done = subprocess.run([sys.executable, "-m", module, *argv], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"measuring by {module} {' '.join(argv)} failed with status {done.returncode}, see above")
    result: dict[str, float] = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    return result


def _status_mb(field: str) -> float:
    """A field of /proc/self/status; without procfs the peak of the whole process stands for all of them."""
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    line = next(line for line in STATUS.read_text().split("\n") if line.startswith(field + ":"))
    return float(line.split()[1]) * 1024 / 1e6


def _reset_peak() -> None:
    """Let VmHWM start again from what is in use now (Linux)."""
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")
