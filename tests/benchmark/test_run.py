"""The benchmark itself: everything it prints is measured, and it measures what it says."""

from __future__ import annotations

import csv
import time

import pytest
import torch

from rdrop_fairseq.benchmark import bare_loss, peak, run, timing

TINY = ["--rounds", "1", "--threads", "1", "--layers", "1", "--width", "16", "--ffn", "16", "--classes", "64"]
TINY += ["--tokens", "100", "--loss-tokens", "256", "--loss-width", "16", "--loss-vocab", "4096"]


def test_tables_and_files_of_both_parts(tmp_path, capsys):
    assert run.main([*TINY, "--out", str(tmp_path)], "benchmark") == 0
    printed = capsys.readouterr().out
    rows = {name: list(csv.DictReader((tmp_path / f"{name}.csv").open())) for name in ("steps", "loss")}
    steps = {row["training step"]: row for row in rows["steps"]}
    assert float(steps["limit (their sum)"]["seconds"]) == pytest.approx(
        sum(float(steps[name]["seconds"]) for name in ("two passes through the model", "three matrix products"))
    )
    assert float(steps["plain (no R-Drop)"]["of plain"]) == 1.0
    assert all(float(steps[name]["peak MB"]) > 50 for name in ("ours", "fairseq's R-Drop", "plain (no R-Drop)"))
    loss = {row["loss and projection"]: row for row in rows["loss"]}
    assert float(loss["fairseq's R-Drop"]["of fairseq's"]) == 1.0
    assert all(name in printed for name in (*steps, *loss))


def test_contestants_compute_the_same_loss():
    shape = bare_loss.Shape(tokens=12, width=8, classes=30)
    work = bare_loss.contestants(shape, "cpu")
    gradients = {}
    for name in (bare_loss.OURS, bare_loss.EAGER, bare_loss.PEER):
        work[name]()
        features, weight = _inputs(work[name])
        gradients[name] = torch.cat([features.grad.flatten(), weight.grad.flatten()])
    for name in (bare_loss.EAGER, bare_loss.PEER):
        torch.testing.assert_close(gradients[name], gradients[bare_loss.OURS], rtol=1e-4, atol=1e-5)


def _inputs(step):
    cells = dict(zip(step.__code__.co_freevars, (cell.cell_contents for cell in step.__closure__)))
    return cells["features"], cells["weight"]


def test_rounds_take_turns_and_drop_the_first():
    order = []
    seconds = timing.rounds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, "test")
    assert order == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_ratio_is_taken_round_by_round():
    assert timing.ratio([2.0, 20.0, 9.0], [1.0, 10.0, 3.0]) == 2.0


def test_cpu_time_does_not_count_sleeping():
    slept = timing.rounds({"sleep": lambda: time.sleep(0.05)}, 1, "test", clock=time.process_time)["sleep"][0]
    assert slept < 0.04


def test_peak_counts_what_was_freed_again():
    def work():
        torch.ones(32 << 20)  # 128 MiB, gone at once: large enough to be mapped and unmapped by itself

    top, before = peak.peak_above(work, "cpu")
    assert 120 < top - before < 160
