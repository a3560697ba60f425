"""Learning curves out of fairseq's log."""

from __future__ import annotations

import json

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
