"""Which files `last` and `best` mean, on directories as fairseq-train leaves them."""

import argparse

import pytest
import torch

from rdrop_fairseq import checkpoint
from rdrop_fairseq.errors import UserError

OTHERS = ["checkpoint_last.pt", "checkpoint_best.pt", "checkpoint3.pt.tmp", "train.log", "checkpoint12-shard0.pt"]


@pytest.fixture
def directory(tmp_path):
    def make(*names, maximize=True, style="cfg"):
        checkpoint = {"maximize_best_checkpoint_metric": maximize}
        options = {"cfg": {"checkpoint": checkpoint}} if style == "cfg" else {"args": argparse.Namespace(**checkpoint)}
        state = {"model": {"w": torch.ones(1)}, **options}
        for name in [*names, *OTHERS]:
            torch.save(state, tmp_path / name)
        return tmp_path

    return make


def names(paths):
    return [path.name for path in paths]


def test_last_by_number_not_by_name_and_oldest_first(directory):
    where = directory("checkpoint2.pt", "checkpoint9.pt", "checkpoint10.pt", "checkpoint_1_500.pt")
    assert names(checkpoint.last(where, 2)) == ["checkpoint9.pt", "checkpoint10.pt"]


def test_last_by_updates(directory):
    where = directory("checkpoint1.pt", "checkpoint_2_900.pt", "checkpoint_10_1000.pt", "checkpoint_3_950.pt")
    assert names(checkpoint.last(where, 2, updates=True)) == ["checkpoint_3_950.pt", "checkpoint_10_1000.pt"]


@pytest.mark.parametrize("style", ["cfg", "args"])
def test_best_asks_the_checkpoint_whether_more_is_better(directory, style):
    scores = [f"checkpoint.best_bleu_{score}.pt" for score in ("9.9001", "10.1000", "34.5121")]
    assert names(checkpoint.best(directory(*scores, style=style), 2)) == scores[1:]
    assert names(checkpoint.best(directory(*scores, style=style, maximize=False), 2)) == [scores[1], scores[0]]


def test_best_of_several_metrics_wants_one_named(directory):
    where = directory("checkpoint.best_bleu_1.000.pt", "checkpoint.best_nll_loss_2.000.pt")
    with pytest.raises(UserError, match="bleu, nll_loss: choose one with --metric"):
        checkpoint.best(where, 1)
    assert names(checkpoint.best(where, 1, metric="nll_loss")) == ["checkpoint.best_nll_loss_2.000.pt"]


def test_a_checkpoint_that_does_not_say(tmp_path):
    torch.save({"model": {"w": torch.ones(1)}}, tmp_path / "checkpoint.best_bleu_1.0.pt")
    with pytest.raises(UserError, match="does not say whether more is better"):
        checkpoint.best(tmp_path, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda where: checkpoint.last(where, 3), r"has 1 epoch checkpoints, 3 were asked for; --updates"),
        (lambda where: checkpoint.last(where, 3, updates=True), "has 2 update checkpoints, 3 were asked for"),
        (lambda where: checkpoint.best(where, 1), "has 0 best checkpoints, 1 were asked for; train with --keep-best"),
        (lambda where: checkpoint.best(where, 1, metric="ppl"), r"has 0 best \(ppl\) checkpoints"),
        (lambda where: checkpoint.last(where, 0), "0 checkpoints cannot be averaged"),
        (lambda where: checkpoint.last(where / "absent", 1), "absent is not a directory"),
    ],
)
def test_too_few(directory, call, message):
    with pytest.raises(UserError, match=message):
        call(directory("checkpoint1.pt", "checkpoint_1_5.pt", "checkpoint_1_9.pt"))
