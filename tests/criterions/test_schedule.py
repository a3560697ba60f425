"""The effective alpha of each update."""

from __future__ import annotations

import math

import pytest

from rdrop_fairseq.criterions.schedule import Schedule
from rdrop_fairseq.errors import UserError

CASES = {
    "constant": (Schedule(5.0), [5.0, 5.0, 5.0]),
    "plain until start": (Schedule(5.0, start=3), [0.0, 0.0, 0.0, 5.0, 5.0]),
    "warmup is a line to alpha": (Schedule(4.0, warmup=4), [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]),
    "warmup starts after start": (Schedule(4.0, start=2, warmup=2), [0.0, 0.0, 2.0, 4.0, 4.0, 4.0]),
    "every kth update": (Schedule(5.0, every=3), [0.0, 0.0, 5.0, 0.0, 0.0, 5.0, 0.0]),
    "every counts from start, and warmup continues in between": (
        Schedule(6.0, start=1, warmup=6, every=2), [0.0, 0.0, 2.0, 0.0, 4.0, 0.0, 6.0, 0.0]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("schedule", "expected"), CASES.values(), ids=CASES)
def test_alpha_of_the_first_updates(schedule, expected):
    """Update n follows n - 1 finished ones."""
    assert [schedule.alpha_at(done) for done in range(len(expected))] == expected


def test_the_update_number_matters_only_where_alpha_changes():
    assert Schedule(5.0).constant
    assert Schedule(0.0, start=5, warmup=3, every=2).constant
    assert not any(Schedule(5.0, **{option: 2}).constant for option in ("start", "warmup", "every"))


@pytest.mark.parametrize("alpha", [-0.5, math.nan, math.inf, -math.inf])
def test_bad_alpha(alpha):
    with pytest.raises(UserError, match=f"alpha must be a finite number >= 0, got {alpha}"):
        Schedule(alpha)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "--rdrop-start-updates and --rdrop-warmup-updates must be >= 0, got -1 and 0"),
        ({"warmup": -1}, "--rdrop-start-updates and --rdrop-warmup-updates must be >= 0, got 0 and -1"),
        ({"every": 0}, "--rdrop-every must be >= 1, got 0"),
    ],
)
def test_bad_lengths(options, message):
    with pytest.raises(UserError, match=message):
        Schedule(1.0, **options)
