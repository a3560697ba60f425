"""Learning curves out of fairseq's log."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from rdrop_fairseq.training.cpu_clock import CpuClock, CpuTimes
from rdrop_fairseq.training.curves import read_curve


def line(kind, **values):
    stats = json.dumps({name: str(value) for name, value in values.items()})
    return f"2026-01-01 00:00:00 | INFO | {kind} | {stats}\n"


def inner(updates, wall):
    return line("train_inner", epoch=1, loss=3.1, num_updates=updates, wall=wall)


def valid(updates, bleu):
    return line("valid", epoch=1, valid_loss=2.5, valid_bleu=bleu, valid_num_updates=updates, valid_note="x")


def test_validations_with_the_clock_of_the_training(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("a warning { not json }\n" + inner(50, 7) + inner(100, 12) + valid(100, 1.5) + inner(150, 20)
                   + inner(200, 24) + valid(200, 3.5))  # fmt: skip
    curve = read_curve(log)
    points = [(point.updates, point.seconds, point.metrics["bleu"]) for point in curve]
    assert points == [(100, 12, 1.5), (200, 24, 3.5)]
    assert curve[0].metrics["loss"] == 2.5
    assert "note" not in curve[0].metrics


def test_a_restart_from_an_older_checkpoint(tmp_path):
    """The first attempt reached update 200; the second went on from 100, where 12 seconds had gone."""
    log = tmp_path / "train.log"
    log.write_text(inner(50, 7) + inner(100, 12) + valid(100, 1.5) + inner(150, 20) + inner(200, 24) + valid(200, 3.5)
                   + inner(150, 6) + inner(200, 9) + valid(200, 3.6) + inner(300, 30) + valid(300, 4.0))  # fmt: skip
    points = [(point.updates, point.seconds, point.metrics["bleu"]) for point in read_curve(log)]
    assert points == [(100, 12, 1.5), (200, 21, 3.6), (300, 42, 4.0)]


def test_a_log_without_validations(tmp_path):
    log = tmp_path / "train.log"
    log.write_text(inner(50, 7))
    assert read_curve(log) == []


def test_cpu_seconds_beside_the_log(tmp_path):
    """Each line is dated by the first look at the process after it; the clock of a second attempt starts again."""
    log = tmp_path / "train.log"
    first = inner(100, 12) + valid(100, 1.5)
    log.write_text(first + inner(200, 24) + inner(200, 9) + valid(200, 3.6))
    whole, lost = log.stat().st_size, len(first + inner(200, 24))
    pairs = [(10, "1.00"), (len(first), "8.00"), (lost, "17.00"), (lost + 5, "2.00"), (whole, "6.00")]
    (tmp_path / "train.cpu.csv").write_text("".join(f"{length},{seconds}\n" for length, seconds in pairs) + "7")
    assert [(point.updates, point.cpu_seconds) for point in read_curve(log)] == [(100, 8.0), (200, 14.0)]
    assert CpuTimes(log).total == 17.0 + 6.0


def test_the_clock_reads_the_cpu_time_of_a_process(tmp_path):
    """Against the process's own times(2)."""
    log = tmp_path / "train.log"
    work = "import os, sys; [sum(range(1000)) for _ in range(60000)]; print(sum(os.times()[:2]), flush=True); "
    work += "sys.stdin.read()"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=out)
    with CpuClock(log, process.pid):
        while not log.stat().st_size:
            time.sleep(0.05)
        time.sleep(2.5)
    process.communicate()
    assert CpuTimes(log).at(log.stat().st_size) == pytest.approx(float(log.read_text()), abs=0.05)


def test_nothing_is_known_without_a_clock(tmp_path):
    log = tmp_path / "train.log"
    log.write_text(inner(50, 7) + valid(50, 1.0))
    assert [point.cpu_seconds for point in read_curve(log)] == [None]
