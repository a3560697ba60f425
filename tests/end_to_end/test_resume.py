"""A run that is interrupted and goes on ends where an uninterrupted one does."""

from __future__ import annotations

import pytest
import torch
from fairseq import checkpoint_utils
from tiny_fairseq import RDROP, train

SCHEDULE = ["--rdrop-start-updates", "3", "--rdrop-warmup-updates", "6"]


def parameters(folder):
    state = checkpoint_utils.load_checkpoint_to_cpu(str(folder / "checkpoint_last.pt"))
    assert state["optimizer_history"][-1]["num_updates"] == 16
    return state["model"], state["last_optimizer_state"]["state"]


@pytest.mark.parametrize("schedule", [[], SCHEDULE], ids=["constant", "schedule"])
def test_interrupted_equals_uninterrupted(corpus, tmp_path, schedule):
    """Stopped within the second epoch: parameters and Adam's moments to the bit."""
    options = ["--task", "translation_rdrop", *RDROP, *schedule, "--disable-validation"]
    train(corpus, tmp_path / "whole", *options, "--max-update", "16")
    train(corpus, tmp_path / "parts", *options, "--max-update", "7")
    train(corpus, tmp_path / "parts", *options, "--max-update", "16")
    (whole, moments), (parts, later) = parameters(tmp_path / "whole"), parameters(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert all(torch.equal(moments[n]["exp_avg"], later[n]["exp_avg"]) for n in moments)
