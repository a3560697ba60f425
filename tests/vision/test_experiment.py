"""The experiment on digits: its statistics against scipy and by hand, and a whole run that resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy import stats

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.vision import experiment


def test_sign_flips() -> None:
    """Of the 8 choices of signs of (1, 2, 3), only all + and all - are as far from 0; of (1, -1) all are."""
    assert experiment.sign_flips([1, 2, 3]) == 2 / 8
    assert experiment.sign_flips([1, -1]) == 1.0
    differences = [0.3, -0.1, 0.4, 0.2, 0.25, -0.05]
    exact = stats.permutation_test((differences,), sum, permutation_type="samples", n_resamples=10**6)
    assert experiment.sign_flips(differences) == pytest.approx(exact.pvalue)


def test_comparison() -> None:
    found = {
        "baseline": [{"score": value} for value in (0.5, 0.6, 0.7)],
        "rdrop": [{"score": value} for value in (0.6, 0.8, 0.7)],
    }
    compared = experiment.compare(found, "score")
    assert compared["difference"] == pytest.approx(0.1)
    assert compared["mean"] == pytest.approx({"baseline": 0.6, "rdrop": 0.7})
    low, high = compared["interval"]  # 0.1 +- t(0.975, 2) 0.1 / sqrt(3)
    assert (low, high) == pytest.approx((0.1 - 4.302653 * 0.1 / 3**0.5, 0.1 + 4.302653 * 0.1 / 3**0.5))


def test_both_systems_are_tuned_alike_then_compared(tmp_path: Path, monkeypatch, capsys) -> None:
    tiny = ("--model-args", '{"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 1}')
    monkeypatch.setattr(experiment, "COMMON", (*tiny, "--eval-every", "3", "--warmup-updates", "1"))
    monkeypatch.setattr(experiment, "DROPOUTS", ("0.1", "0.2"))
    monkeypatch.setattr(experiment, "LENGTHS", ("3",))
    monkeypatch.setattr(experiment, "ALPHAS", ("0.3", "3"))
    words = ["experiment", "digits", "--images", "40", "--seeds", "2", "--tuning-seeds", "1", "--out", str(tmp_path)]
    assert main(words) == 0
    table = capsys.readouterr().out
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    tuning = {name.removesuffix("_seed1001") for name in runs if name.endswith("1001")}
    assert tuning > {"baseline_0.1_3", "baseline_0.2_3", "rdrop_0.1_3_0.3", "rdrop_0.2_3_0.3"}
    assert tuning & {"rdrop_0.1_3_3", "rdrop_0.2_3_3"}
    assert (len(tuning), len(runs)) == (5, 5 + 4)
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    plain = written["test_accuracy"]["mean"]["baseline"]
    assert f"| {100 * plain:.2f} |" in table
    assert "40 training images, 2 seeds" in table
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == table
    assert (tmp_path / "curves.png").is_file()

    monkeypatch.setattr(experiment.run, "train", lambda *_: pytest.fail("everything was trained already"))
    assert main(words) == 0
    assert capsys.readouterr().out == table
