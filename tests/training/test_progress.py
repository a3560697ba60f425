"""Time left, worked out by hand from a made-up log."""

from __future__ import annotations

import pytest

from rdrop_fairseq.training import progress


def log_line(update: int, values: str = "") -> str:
    return f"2026-01-01 00:00:00 | INFO | train_inner | epoch 001: 1 / 9 loss=3,{values} num_updates={update}, lr=0.1\n"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the progress line sees: the first entry."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "RDROP_COST", 2.0)
    return now


def test_time_left_counts_rdrop_updates_at_their_price(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress("x", total=100, start=60) as shown:
        shown.line(log_line(10))
        clock[0] = 50.0
        shown.line(log_line(60, " nll_loss=7.1, rdrop_kl=0.5,"))  # 50 updates in 50 s, 40 left at twice the price: 80 s
        clock[0] = 90.0
        shown.line(log_line(80))  # 20 more in 40 s: 90 units in 90 s, 40 left
        clock[0] = 91.0
        shown.line(log_line(81))  # not again so soon
        shown.line("something else")
        clock[0] = 130.0
        shown.line(log_line(100))
    assert [line.strip() for line in capsys.readouterr().err.splitlines()] == [
        "x: starting",
        "x: update 10/100",
        "x: update 60/100, nll_loss 7.1, rdrop_kl 0.5, about 1:20 left",
        "x: update 80/100, about 0:40 left",
        "x: update 100/100, about 0:00 left",
    ]


def test_a_resumed_training_is_told_and_timed_from_there(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.Progress("x", total=100, start=0) as shown:
        shown.line("INFO | fairseq.trainer | Loaded checkpoint a b/checkpoint_1_50.pt (epoch 1 @ 50 updates)\n")
        shown.line(log_line(60))
        clock[0] = 20.0
        shown.line(log_line(80))
    said = capsys.readouterr().err
    assert "x: resuming at update 50" in said
    assert "x: update 80/100, about 0:20 left" in said


def test_a_training_that_ends_by_time(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """One hour is left from its first line on."""
    with progress.Progress("x", total=0, start=0, seconds=3600.0) as shown:
        clock[0] = 10.0
        shown.line(log_line(60))
        clock[0] = 1000.0
        shown.line(log_line(80))
    assert [line.strip() for line in capsys.readouterr().err.splitlines()[1:]] == [
        "x: update 60, about 60:00 left",
        "x: update 80, about 43:30 left",
    ]
