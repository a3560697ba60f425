"""The statistics of the experiments by hand; what is tuned, trained once and reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.experiments import report
from rdrop_fairseq.experiments.trials import CURVE, SYSTEMS, Experiment, in_child, run
from rdrop_fairseq.experiments.tuning import tuned


def test_comparison() -> None:
    """Of the 8 choices of signs of (0.1, 0.2, 0), those with equal signs of the first two are as far from 0: 4."""
    found = {
        "baseline": [{"score": value} for value in (0.5, 0.6, 0.7)],
        "rdrop": [{"score": value} for value in (0.6, 0.8, 0.7)],
    }
    compared = report.compare(found, "score")
    assert compared["difference"] == pytest.approx(0.1)
    assert compared["mean"] == pytest.approx({"baseline": 0.6, "rdrop": 0.7})
    assert compared["p_sign_flips"] == 4 / 8
    low, high = compared["interval"]  # 0.1 +- t(0.975, 2) 0.1 / sqrt(3)
    assert (low, high) == pytest.approx((0.1 - 4.302653 * 0.1 / 3**0.5, 0.1 + 4.302653 * 0.1 / 3**0.5))


def made_up(metric: str = "nll") -> Experiment:
    """Trainings that write a curve and take no time: best at dropout 0 or 0.2, alpha 3."""

    def train(system, settings, seed, folder):
        nll = abs(float(settings["dropout"]) - 0.2) + 1 / (1 + float(settings.get("alpha", "0"))) + seed / 1e6
        nll = nll if settings["dropout"] != "0" else 0.5
        (folder / CURVE).write_text(f"update,train_nll,valid_nll\n1,1,2\n2,0.5,{nll}\n")
        print(f"trained {system}")
        return {
            "valid_nll": nll,
            "test_nll": nll + 1,
            "valid_accuracy": 1 - nll / 4,
            "test_accuracy": 0.5,
            "updates": 2.0,
        }

    axes = {"dropout": ("0.1", "0", "0.2", "0.3"), "alpha": ("1", "0.3", "3")}
    return Experiment("made up", metric, axes, train, "tokens", "no recipe")


@pytest.mark.parametrize("metric", ["nll", "accuracy"])
def test_axes_are_tuned_one_after_the_other(tmp_path: Path, metric: str) -> None:
    experiment = made_up(metric)
    chosen = {system: tuned(experiment, system, (1001, 1002), tmp_path) for system in SYSTEMS}
    assert chosen == {"baseline": {"dropout": "0"}, "rdrop": {"dropout": "0.2", "alpha": "3"}}
    trained = {path.name.removesuffix("_seed1001") for path in (tmp_path / "runs").glob("*_seed1001")}
    plain = {f"baseline_{value}" for value in ("0.1", "0", "0.2", "0.3")}
    assert trained == plain | {f"rdrop_{each}" for each in ("0.1_1", "0.2_1", "0.3_1", "0.2_0.3", "0.2_3")}
    assert report.edges(experiment, chosen) == ["rdrop's alpha 3"]  # dropout 0 has nothing beyond it


def test_report_and_what_is_trained_once(tmp_path: Path) -> None:
    experiment, settings = made_up(), {"baseline": {"dropout": "0.1"}, "rdrop": {"dropout": "0.1", "alpha": "1"}}
    found = {
        system: [run(experiment, system, chosen, seed, tmp_path) for seed in (1, 2)]
        for system, chosen in settings.items()
    }
    table = report.write(experiment, settings, found, tmp_path)
    assert "| baseline | dropout 0.1 | 50.00 | 0.00 | 2.100 | 0.000 | 2 |" in table
    assert "2 seeds. test accuracy, % +0.00" in table
    assert "test nll -0.500 (95 % interval -0.500 to -0.500, p 0.5000)" in table
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == table + "\n"
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["settings"] == settings
    assert (tmp_path / "curves.png").is_file()
    log = Path(found["rdrop"][0]["folder"]) / "trial.log"
    run(experiment, "rdrop", settings["rdrop"], 1, tmp_path)
    assert log.read_text() == "trained rdrop\n"
    (log.parent / "trial.json").unlink()  # as if it had been killed: it starts anew
    run(experiment, "rdrop", settings["rdrop"], 1, tmp_path)
    assert log.read_text() == "trained rdrop\n"


def test_a_training_by_another_recipe_is_not_taken(tmp_path: Path) -> None:
    run(made_up(), "baseline", {"dropout": "0.1"}, 1, tmp_path)
    with pytest.raises(UserError, match=r"baseline_0\.1_seed1 was trained by another recipe: remove .*runs, or give"):
        run(replace(made_up(), recipe="longer"), "baseline", {"dropout": "0.1"}, 1, tmp_path)


def test_a_training_that_fails_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a training failed \(ZeroDivisionError: division by zero\), see .*log"):
        in_child(lambda: 1 / 0, tmp_path / "log")
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()
