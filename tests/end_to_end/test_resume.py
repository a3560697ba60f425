"""A run that is interrupted and goes on ends where an uninterrupted one does."""

from __future__ import annotations

import pytest
import tiny_lm
import torch
from fairseq import checkpoint_utils
from tiny_fairseq import RDROP, run, train

SCHEDULE = ["--rdrop-start-updates", "3", "--rdrop-warmup-updates", "6"]


def parameters(folder):
    state = checkpoint_utils.load_checkpoint_to_cpu(str(folder / "checkpoint_last.pt"))
    assert state["optimizer_history"][-1]["num_updates"] == 16
    return state["model"], state["last_optimizer_state"]["state"]


@pytest.mark.parametrize("schedule", [[], SCHEDULE], ids=["constant", "schedule"])
def test_interrupted_equals_uninterrupted(corpus, tmp_path, schedule):
    """Stopped within the first epoch and within the second: parameters and Adam's moments to the bit."""
    options = ["--task", "translation_rdrop", *RDROP, *schedule, "--disable-validation"]
    train(corpus, tmp_path / "whole", *options, "--max-update", "16")
    for update in ("7", "14", "16"):
        train(corpus, tmp_path / "parts", *options, "--max-update", update)
    same(tmp_path)


@pytest.mark.parametrize("options", [tiny_lm.FEATURES, tiny_lm.CLUSTERS], ids=["features", "adaptive"])
def test_language_models_too(tmp_path, options):
    """Six updates to an epoch; batches, dropout and the schedule of alpha go on where they were."""
    data = tiny_lm.write_text(tmp_path / "data")
    for folder, updates in (("whole", 16), ("parts", 8), ("parts", 16)):
        words = [*options, *SCHEDULE, "--disable-validation", "--max-update", updates, "--save-dir", tmp_path / folder]
        run(tiny_lm.lm_config(data, *words))
    same(tmp_path)


def same(folder):
    (whole, moments), (parts, later) = parameters(folder / "whole"), parameters(folder / "parts")
    assert whole.keys() == parts.keys()
    for name in whole:  # fairseq's adaptive softmax has a buffer that it never fills
        assert name.endswith("._float_tensor") or torch.equal(whole[name], parts[name]), name
    assert all(torch.equal(moments[n]["exp_avg"], later[n]["exp_avg"]) for n in moments)
