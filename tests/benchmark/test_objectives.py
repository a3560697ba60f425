"""The benchmark of the objectives compares like with like, and prints the clock it was asked for."""

from __future__ import annotations

import json

import pytest
import torch

from rdrop_fairseq.benchmark import bare_loss, objectives
from rdrop_fairseq.loss import cutoff_weights, rdrop_weights, simcut_weights

KNOWN = objectives.objectives()


def test_they_come_from_the_criterions():
    assert KNOWN["rdrop, 2 views"] == rdrop_weights(5.0)
    assert KNOWN["rdrop, 4 views"] == rdrop_weights(5.0, views=4)
    assert KNOWN["simcut, 2 views"] == simcut_weights(3.0)
    assert KNOWN["cutoff, 3 views"] == cutoff_weights((1.0, 1.0), 5.0)


@pytest.mark.parametrize("name", KNOWN)
def test_naive_and_fused_have_the_same_gradients(name):
    runs = objectives.contestants(bare_loss.make_problem(KNOWN[name], tokens=9, width=8, classes=40))
    torch.testing.assert_close(runs[bare_loss.NAIVE](), runs[bare_loss.OURS](), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clock", ["cpu", "wall"])
def test_command_line(tmp_path, capsys, clock):
    words = ["simcut", "--tokens", "8", "--width", "8", "--vocab", "50", "--rounds", "2", "--clock", clock]
    objectives.main([*words, "--out", str(tmp_path)], "benchmark objectives")
    assert f"1 threads, fp32, {clock} time, 2 rounds" in capsys.readouterr().out
    rows = json.loads((tmp_path / "objectives.json").read_text())
    assert [row["objective"] for row in rows] == ["simcut, 2 views"] * 3
    assert rows[0]["of naive"] == 1.0
    assert rows[1]["of naive"] > 0
    with pytest.raises(SystemExit):
        objectives.main(["nothing"], "benchmark objectives")
