"""R-Drop over updates: which updates compare views, at which price, and with which gradient scale."""

from __future__ import annotations

import pytest
from tiny_criteria import gradients, make_criterion, step
from tiny_models import make_model, make_sample, without_randomness

from rdrop_fairseq.errors import UserError


@pytest.fixture
def rows():
    """A model and the list of the batch sizes its encoder has seen, one entry per forward."""
    model, seen = make_model(), []
    model.encoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    return model, seen


def at_update(number, model, sample=None, seed=1, **options):
    """Loss and log of the update with this number (from 1)."""
    criterion = make_criterion("rdrop", **options)
    criterion.set_num_updates(number - 1)
    return step(criterion, model, sample or make_sample(), seed)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [6, 6]),
        ({"rdrop_passes": 3}, [9, 9]),
        ({"rdrop_passes": 3, "rdrop_forward": "separate"}, [3, 3, 3, 3, 3, 3]),
        ({"rdrop_alpha": 0.0}, [3, 3]),
        ({"rdrop_start_updates": 2}, [3, 3, 6, 6]),
        ({"rdrop_every": 3}, [3, 3, 6, 3, 3, 6, 3]),
    ],
)
def test_forwards_of_the_first_updates(rows, options, expected):
    """All views in one forward, of one view alone while the effective alpha is 0."""
    model, seen = rows
    criterion = make_criterion("rdrop", **options)
    for number in range(7):
        criterion.set_num_updates(number)
        before = len(seen)
        _, log = step(criterion, model, make_sample())
        assert bool(log["rdrop_alpha"]) == bool(log["rdrop_ntokens"]) == (sum(seen[before:]) > 3)
    assert seen[: len(expected)] == expected


def test_warmup_is_a_line(rows):
    model, seen = rows
    criterion = make_criterion("rdrop", rdrop_alpha=4.0, rdrop_start_updates=1, rdrop_warmup_updates=4)
    logs = []
    for number in range(6):
        criterion.set_num_updates(number)
        logs.append(step(criterion, model, make_sample(), seed=1)[1])
    assert [log["rdrop_alpha"] / log["ntokens"] for log in logs] == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    losses = [float(log["loss"]) for log in logs[1:5]]
    steps = [b - a for a, b in zip(losses, losses[1:])]
    assert steps[0] == pytest.approx(float(logs[1]["rdrop_kl"]), rel=1e-3)  # 1 alpha more is 1 mean KL more
    assert steps == pytest.approx([steps[0]] * 3, rel=1e-3)
    assert seen == [3, 6, 6, 6, 6, 6]


@pytest.mark.parametrize("passes", [2, 3])
def test_a_plain_update_of_a_schedule_has_the_gradient_scale_of_all_views(passes):
    """CE counts m times: without dropout, where every KL is 0, loss and gradient do not jump at the switch."""
    model = without_randomness(make_model())
    options = {"rdrop_start_updates": 10, "rdrop_passes": passes}
    plain, log = at_update(10, model, **options)
    before = gradients(model)
    rdrop, later = at_update(11, model, **options)
    assert plain == pytest.approx(rdrop, rel=1e-5)
    for name, grad in gradients(model).items():
        assert before[name].sub(grad).norm() <= 1e-4 * grad.norm() + 1e-5, name
    assert float(log["nll_loss"]) == pytest.approx(float(later["nll_loss"]), rel=1e-5)  # a mean, not m times it


def test_without_a_schedule_alpha_0_is_not_scaled():
    model = without_randomness(make_model())
    alone = step(make_criterion("rdrop", rdrop_alpha=0.0), model, make_sample())[0]
    assert at_update(1, model, rdrop_start_updates=1)[0] == pytest.approx(2 * alone, rel=1e-5)


def test_a_task_that_promises_and_does_not_hand_over():
    with pytest.raises(UserError, match="did not pass on the update number"):
        step(make_criterion("rdrop", rdrop_start_updates=2), make_model(), make_sample())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rdrop_alpha": -1.0}, "alpha must be a finite number >= 0, got -1.0"),
        ({"rdrop_passes": 1}, "--rdrop-passes must be at least 2, got 1"),
        ({"rdrop_every": 0}, "--rdrop-every must be >= 1, got 0"),
        ({"label_smoothing": 1.0}, r"--label-smoothing must be in \[0, 1\), got 1.0"),
        ({"label_smoothing": -0.1}, r"--label-smoothing must be in \[0, 1\), got -0.1"),
        ({"ignore_prefix_size": -1}, "--ignore-prefix-size must be >= 0, got -1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        make_criterion("rdrop", **options)
