"""--patience counts on after a restart, of fairseq-train or of its module, but not in another training."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from fairseq import checkpoint_utils
from tiny_fairseq import PLAIN, PLUGIN, arguments, train

from rdrop_fairseq.training.options import parse
from rdrop_fairseq.training.resume import limit_reached

pytestmark = pytest.mark.usefixtures("warm")

# Nothing is learnt, so that the first validation stays the best: with patience 3 the fourth one, at update 8, ends it.
LEVEL = ["--task", "translation_rdrop", *PLAIN, "--lr", "1e-30", "--validate-interval-updates", "2"]
LEVEL += ["--validate-interval", "1000", "--save-interval", "1000", "--patience", "3"]


def updates(folder):
    state = checkpoint_utils.load_checkpoint_to_cpu(str(folder / "checkpoint_last.pt"))
    return state["optimizer_history"][-1]["num_updates"]


def limit(corpus, folder, *options):
    """What a rerun would say."""
    return limit_reached(folder, parse([*map(str, arguments(corpus, *options))], "the test"))


@pytest.fixture
def stopped(corpus, tmp_path):
    """A training that was stopped at update 4, after two validations."""
    train(corpus, tmp_path / "stopped", *LEVEL, "--max-update", 4)
    assert updates(tmp_path / "stopped") == 4
    return tmp_path / "stopped"


def test_it_ends_where_it_would_have_ended_in_one_go(corpus, tmp_path, stopped):
    train(corpus, tmp_path / "whole", *LEVEL, "--max-update", 30)
    assert updates(tmp_path / "whole") == 8
    other = shutil.copytree(stopped, tmp_path / "other")
    command = [*arguments(corpus, *LEVEL, "--max-update", 30), "--save-dir", str(other), "--user-dir", str(PLUGIN)]
    subprocess.run([sys.executable, "-m", "fairseq_cli.train", *command], check=True, capture_output=True)
    assert updates(other) == 8


def test_fairseq_train(corpus, stopped):
    train(corpus, stopped, *LEVEL, "--max-update", 30)
    assert updates(stopped) == 8


def test_a_new_training_from_the_checkpoint_counts_anew(corpus, tmp_path, stopped):
    start = ["--finetune-from-model", stopped / "checkpoint_last.pt"]
    train(corpus, tmp_path / "new", *LEVEL, *start, "--max-update", 30)
    assert updates(tmp_path / "new") == 8


def test_a_share_of_the_updates_so_far(corpus, tmp_path):
    # the best validation is that at update 2: at 4 and 6 it is 2/4 and 4/6 of the updates back, at 8 it is 6/8
    share = [*LEVEL, "--patience", "1", "--patience-share", "0.7"]
    train(corpus, tmp_path, *share, "--max-update", 4)
    assert updates(tmp_path) == 4
    assert limit(corpus, tmp_path, *share, "--max-update", 30) == ""
    train(corpus, tmp_path, *share, "--max-update", 30)
    assert updates(tmp_path) == 8
    assert limit(corpus, tmp_path, *share, "--max-update", 30) == "validations without a better one: 1, --patience 1"
    assert limit(corpus, tmp_path, *share, "--patience-share", "0.8") == ""


def test_without_validation_there_is_nothing_to_keep(corpus, tmp_path):
    train(corpus, tmp_path, *LEVEL, "--disable-validation", "--max-update", 2)
    state = checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "checkpoint_last.pt"))
    assert "TranslationRDropTask" not in state["extra_state"]
