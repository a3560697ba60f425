"""Timing side by side: contestants take turns in one process, and ratios are taken turn by turn."""

from __future__ import annotations

import functools
import gc
import math
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable

import torch
from tqdm import tqdm

from rdrop_fairseq.benchmark.table import Row

Work = Callable[[], object]
# "cpu" counts all threads, waiting ones too, and is the better clock on a busy machine; "cuda" means device events.
CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}
# Least seconds of work between two events: with less, launches would be timed instead of the work.
LEAST_EVENT_SECONDS = 0.02
MOST_REPEATS = 50


class UnavailableError(Exception):
    """A contestant cannot run here; its cells show the message."""


def rounds(
    contestants: Mapping[str, Work], turns: int, what: str, clock: str = "wall"
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """(seconds of each contestant in each of `turns` rounds, why the others have none).

    In every round each contestant runs once, so that a machine that slows down slows all of them. The first round is
    not counted. With the clock "cuda" a short contestant runs several times between two events. A contestant that runs
    out of memory or raises UnavailableError is left out of later rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    faults: dict[str, str] = {}
    repeats: dict[str, int] = {}

    def turn(name: str) -> None:
        if name in repeats:
            seconds[name].append(timed(contestants[name], clock, repeats[name]))
        else:
            repeats[name] = warm_up(contestants[name], clock)

    for _ in tqdm(range(turns + 1), desc=what, unit="round", disable=None):
        for name in [*seconds]:
            if fault := attempt(functools.partial(turn, name)):
                faults[name] = fault
                del seconds[name]
    return seconds, faults


def warm_up(run: Work, clock: str) -> int:
    """Runs it once. Returns how often it has to run between two readings of the clock."""
    run()
    if clock != "cuda":
        return 1
    return max(1, min(MOST_REPEATS, math.ceil(LEAST_EVENT_SECONDS / timed(run, clock))))  # now that all is compiled


def timed(run: Work, clock: str, repeats: int = 1) -> float:
    """Seconds of one run, the mean of `repeats` of them one after the other."""
    if clock != "cuda":
        begin = CLOCKS[clock]()
        for _ in range(repeats):
            run()
        return (CLOCKS[clock]() - begin) / repeats
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    if repeats > 1:  # the device is busy while the host launches what is timed
        run()
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1e3 / repeats


def attempt(work: Work) -> str:
    """Runs the work. Returns "", or "OOM" if memory runs out, or the message of an UnavailableError, after freeing
    memory."""
    try:
        work()
        return ""
    except UnavailableError as error:
        fault = str(error)
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        print(f"out of memory: {str(error).splitlines()[0] if str(error) else ''}", file=sys.stderr)
        fault = "OOM"
    # After the except clause, since the traceback held the tensors.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return fault


def ran_out_of_memory(error: Exception) -> bool:
    """Whether this is an allocation that failed, by torch, Triton, cuBLAS or the CPU's allocator."""
    words = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(word in str(error) for word in words)


def ratio(over: Iterable[float], under: Iterable[float]) -> float:
    """Median over rounds of over / under."""
    return statistics.median(a / b for a, b in zip(over, under))


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median: the noise of the machine."""
    return (max(values) - min(values)) / statistics.median(values)


def compare(
    head: str,
    contestants: Mapping[str, Work],
    turns: int,
    clock: str = "wall",
    beside: Mapping[str, str] = {},
    sums: Mapping[str, tuple[str, str]] = {},
) -> list[Row]:
    """One row per contestant, its name in the column `head`: median time, its ratios, noise.

    beside: column -> the contestant that the column's ratios refer to. sums: further rows, each the sum of the times of
    two contestants in every round. A contestant without times has its reason instead.
    """
    seconds, faults = rounds(contestants, turns, head, clock)
    for name, (one, other) in sums.items():
        if one in seconds and other in seconds:
            seconds[name] = [a + b for a, b in zip(seconds[one], seconds[other])]
    unit, factor = ("ms", 1e3) if clock == "cuda" else (f"{clock} s", 1.0)
    rows: list[Row] = []
    for name in (*contestants, *sums):
        times = seconds.get(name)
        if times is None:
            rows.append({head: name, unit: faults.get(name, "-"), **dict.fromkeys(beside)})
            continue
        ratios = {label: ratio(times, seconds[to]) if to in seconds else None for label, to in beside.items()}
        rows.append({head: name, unit: factor * statistics.median(times), **ratios, "noise": spread(times)})
    return rows
