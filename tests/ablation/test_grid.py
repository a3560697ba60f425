"""Which systems an ablation has."""

from __future__ import annotations

from rdrop_fairseq.ablation.grid import BASELINE, make_systems


def names(*args, **kwargs):
    return [system.name for system in make_systems(*args, **kwargs)]


def test_one_axis_at_a_time():
    axes = [("alpha", ["1", "5"]), ("rates", ["0.3,0.1"])]
    assert names(axes) == ["baseline", "alpha=1", "alpha=5", "rates=0.3,0.1"]


def test_crossed():
    systems = make_systems([("alpha", ["1", "5"]), ("cutoff", ["none", "token"])], {"passes": "3"}, crossed=True)
    assert [system.name for system in systems] == [
        "baseline",
        "alpha=1,cutoff=none",
        "alpha=1,cutoff=token",
        "alpha=5,cutoff=none",
        "alpha=5,cutoff=token",
    ]
    assert systems[2].words == [
        *("--criterion", "label_smoothed_cross_entropy_rdrop"),
        *("--rdrop-passes=3", "--rdrop-alpha=1", "--rdrop-cutoff=token"),
    ]


def test_criteria_and_options_of_fairseq_where_plain_is_the_baseline():
    systems = make_systems([("criterion", ["plain", "simcut"]), ("dropout", ["0.1"])])
    assert [system.name for system in systems] == ["baseline", "criterion=simcut", "dropout=0.1"]
    assert BASELINE.words == ["--criterion", "label_smoothed_cross_entropy"]
    assert systems[1].words == ["--criterion", "label_smoothed_cross_entropy_simcut"]
    assert systems[2].words == ["--criterion", "label_smoothed_cross_entropy_rdrop", "--dropout=0.1"]


def test_the_length_of_a_schedule_is_where_it_ends_and_where_its_learning_rate_does():
    (_, system) = make_systems([("updates", ["900"])])
    assert system.words[2:] == ["--max-update=900", "--total-num-update=900"]


def test_without_axes_there_is_one_system_beside_the_baseline():
    assert names([], {"alpha": "3"}) == ["baseline", "rdrop"]
    assert names([], {"criterion": "cutoff"}) == ["baseline", "cutoff"]


def test_no_system_twice():
    assert names([("alpha", ["1", "1"]), ("alpha", ["1"])]) == ["baseline", "alpha=1"]
