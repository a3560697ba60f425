"""Learning curves out of fairseq's log."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime, timedelta

import pytest

from rdrop_fairseq.ablation.cpu_clock import CpuTimes, look
from rdrop_fairseq.ablation.curves import TRAIN_NLL, Point, clock_of, read_curve


def line(kind, seconds, **values):
    """A line of fairseq's log, so many seconds after noon."""
    stats = json.dumps({name: str(value) for name, value in values.items()})
    return f"{stamp(seconds)} | INFO | {kind} | {stats}\n"


def stamp(seconds):
    return datetime(2026, 1, 1, 12) + timedelta(seconds=seconds)


def start(seconds):
    """What fairseq-train writes first."""
    return f"a warning {{ not json }}\n{stamp(seconds)} | INFO | fairseq_cli.train | {{'_name': None, 'task': {{}}}}\n"


def inner(updates, seconds):
    return line("train_inner", seconds, epoch=1, loss=3.1, num_updates=updates, wall=0)


def valid(updates, bleu, seconds):
    return line("valid", seconds, epoch=1, valid_loss=2.5, valid_bleu=bleu, valid_num_updates=updates, valid_note="x")


def test_validations_with_the_clock_of_the_training(tmp_path):
    log = tmp_path / "train.log"
    log.write_text(start(0) + inner(50, 7) + inner(100, 12) + valid(100, 1.5, 13) + inner(150, 20)
                   + inner(200, 24) + valid(200, 3.5, 26))  # fmt: skip
    curve = read_curve(log)
    points = [(point.updates, point.seconds, point.metrics["bleu"]) for point in curve]
    assert points == [(100, 13, 1.5), (200, 26, 3.5)]
    assert curve[0].metrics["loss"] == 2.5
    assert "note" not in curve[0].metrics


def test_a_restart_from_an_older_checkpoint(tmp_path):
    """The first attempt reached update 200; the second went on from 100, where 13 seconds had gone."""
    log = tmp_path / "train.log"
    first = start(0) + inner(50, 7) + inner(100, 12) + valid(100, 1.5, 13) + inner(200, 24) + valid(200, 3.5, 25)
    second = start(1000) + inner(150, 1006) + inner(200, 1009) + valid(200, 3.6, 1010) + inner(300, 1030)
    log.write_text(first + second + valid(300, 4.0, 1031))
    points = [(point.updates, point.seconds, point.metrics["bleu"]) for point in read_curve(log)]
    assert points == [(100, 13, 1.5), (200, 23, 3.6), (300, 44, 4.0)]


def test_restarts_after_the_last_word(tmp_path):
    """Each attempt goes on where the log of the one before it ends, a training that had stopped by itself, say."""
    log = tmp_path / "train.log"
    log.write_text(start(0) + inner(50, 5) + valid(50, 1.0, 6) + start(100) + inner(100, 105) + valid(100, 2.0, 106)
                   + start(200) + inner(150, 204) + valid(150, 3.0, 205))  # fmt: skip
    whole = log.read_text()
    ends = [len(whole.split(start(at))[0]) for at in (100, 200)] + [len(whole)]
    pairs = [(20, "0.50"), (ends[0], "4.00"), (ends[0], "0.60"), (ends[1], "5.00"), (ends[1] + 9, "1.00")]
    (tmp_path / "train.cpu.csv").write_text("".join(f"{a},{b}\n" for a, b in [*pairs, (ends[2], "3.00")]))
    points = [(point.updates, point.seconds, point.cpu_seconds) for point in read_curve(log)]
    assert points == [(50, 6, 4.0), (100, 12, 9.0), (150, 17, 12.0)]
    assert CpuTimes(log).total == 12.0


def test_nll_of_training_since_the_last_validation(tmp_path):
    """A mean over tokens; what an attempt that was lost had trained does not count."""
    log = tmp_path / "train.log"
    lines = [line("train_inner", 0, nll_loss=nll, wpb=wpb, num_updates=updates)
             for updates, nll, wpb in ((50, 6.0, 100), (100, 3.0, 200), (150, 2.0, 100), (150, 1.0, 100))]  # fmt: skip
    log.write_text(start(0) + lines[0] + lines[1] + valid(100, 1.5, 1) + lines[2] + start(2) + lines[3]
                   + valid(150, 1.5, 3))  # fmt: skip
    assert [point.metrics[TRAIN_NLL] for point in read_curve(log)] == [4.0, 1.0]


def test_the_clock_of_a_report():
    """CPU seconds are not recorded on a GPU, where they say nothing."""
    known, unknown = [Point(1, 1.0, {}, 2.0)], [Point(1, 1.0, {})]
    assert clock_of([known, []]) == "cpu"
    assert clock_of([known, unknown]) == "wall"


def test_a_log_without_validations(tmp_path):
    log = tmp_path / "train.log"
    log.write_text(inner(50, 7))
    assert read_curve(log) == []


def test_cpu_seconds_beside_the_log(tmp_path):
    """Each line is dated by the first look at the process after it; the clock of a second attempt starts again."""
    log = tmp_path / "train.log"
    first = start(0) + inner(100, 12) + valid(100, 1.5, 12)
    log.write_text(first + inner(200, 24) + start(60) + inner(200, 69) + valid(200, 3.6, 70))
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
    while not log.stat().st_size:
        time.sleep(0.05)
    look(log, process.pid)
    process.communicate()
    look(log, process.pid)  # it is gone: nothing is known any more
    assert CpuTimes(log).at(log.stat().st_size) == pytest.approx(float(log.read_text()), abs=0.05)


def test_nothing_is_known_without_a_clock(tmp_path):
    log = tmp_path / "train.log"
    log.write_text(start(0) + inner(50, 7) + valid(50, 1.0, 8))
    assert [point.cpu_seconds for point in read_curve(log)] == [None]
