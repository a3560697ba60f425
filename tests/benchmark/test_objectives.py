"""The benchmark of the objectives compares like with like, and prints the clock it was asked for."""

from __future__ import annotations

import csv

import pytest
import torch

from rdrop_fairseq.benchmark import objectives


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_naive_and_fused_have_the_same_gradients(name):
    runs = objectives.contestants(objectives.OBJECTIVES[name], tokens=9, width=8, classes=40)
    gradients = []
    for contestant in (objectives.NAIVE, objectives.FUSED):
        runs[contestant]()
        cells = dict(zip(runs[contestant].__code__.co_freevars, runs[contestant].__closure__))
        gradients.append([cells[name].cell_contents.grad.clone() for name in ("features", "weight")])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clock", ["cpu", "wall"])
def test_command_line(tmp_path, capsys, clock):
    words = ["SimCut", "--tokens", "8", "--width", "8", "--vocab", "50", "--rounds", "2", "--clock", clock]
    objectives.main([*words, "--out", str(tmp_path)], "benchmark objectives")
    printed = capsys.readouterr().out
    assert f"8 tokens, d 8, V 50, 1 threads; {clock} time" in printed
    with (tmp_path / "objectives.csv").open(encoding="utf-8") as rows:
        (row,) = csv.DictReader(rows)
    assert row["objective"] == "SimCut"
    assert float(row["fused of naive"]) > 0
