"""The task: it hands the update number over, and changes nothing else about fairseq's translation."""

from __future__ import annotations

import logging

import pytest
import torch
from fairseq import checkpoint_utils
from tiny_fairseq import PLAIN, RDROP, session, train

from rdrop_fairseq.errors import UserError

TASK = ["--task", "translation_rdrop"]
BLEU = ["--eval-bleu", "--eval-bleu-args", '{"beam": 2, "max_len_b": 12}', "--eval-bleu-remove-bpe"]


def forwards(of):
    """A list of (training?, sentences) that grows with each forward of the model."""
    seen = []
    of.model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((module.training, len(args[0] if args else kwargs["src_tokens"]))),
        with_kwargs=True,
    )
    return seen


def test_the_update_number_reaches_the_criterion(corpus):
    """With update-freq 2 both batches of an update are of the same kind."""
    run = session(corpus, *TASK, *RDROP, "--rdrop-start-updates", "1", "--rdrop-every", "2")
    seen = forwards(run)
    alphas = []
    for _ in range(5):
        alphas.append(run.update(run.batch(0, 1, 2), run.batch(3, 4))["rdrop_alpha"])
    assert alphas == [0.0, 0.0, 5.0, 0.0, 5.0]
    plain, both = [(True, 3), (True, 2)], [(True, 6), (True, 4)]
    assert seen == [*plain, *plain, *both, *plain, *both]


@pytest.mark.parametrize("option", ["--rdrop-start-updates", "--rdrop-warmup-updates", "--rdrop-every"])
def test_a_schedule_with_the_plain_task_names_the_task_to_use(corpus, option):
    with pytest.raises(UserError, match=r"TranslationTask does not: use --task translation_rdrop"):
        session(corpus, "--task", "translation", *RDROP, option, "3")


def test_without_a_schedule_both_tasks_train_the_same(corpus):
    ours, theirs = (session(corpus, "--task", task, *RDROP).updates(3) for task in ("translation_rdrop", "translation"))
    for mine, other in zip(ours, theirs):
        assert (mine["loss"], mine["gnorm"]) == (other["loss"], other["gnorm"])


def test_a_baseline_is_the_same_to_the_bit_as_under_fairseqs_task(corpus, tmp_path):
    """BLEU on valid in between; what the baselines of configs/ rely on."""
    states = []
    for task in ("translation_rdrop", "translation"):
        best = ["--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric"]
        options = ["--task", task, *PLAIN, *BLEU, *best]
        train(corpus, tmp_path / task, *options, "--validate-interval-updates", "2", "--max-update", "5")
        states.append(checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / task / "checkpoint_last.pt")))
    ours, theirs = states
    assert all(torch.equal(value, ours["model"][name]) for name, value in theirs["model"].items())
    moments = [state["last_optimizer_state"]["state"] for state in states]
    assert all(torch.equal(moments[0][n]["exp_avg_sq"], moments[1][n]["exp_avg_sq"]) for n in moments[1])
    assert ours["extra_state"]["best"] == theirs["extra_state"]["best"]


def test_reg_alpha_is_another_name(corpus):
    assert session(corpus, *RDROP, "--reg-alpha", "0.7").criterion.schedule.alpha == 0.7


@pytest.mark.parametrize("change", ["alpha", "start"])
def test_from_plain_to_rdrop_without_resetting_the_optimizer(corpus, tmp_path, change):
    """A checkpoint of this criterion's plain training goes on with R-Drop: moments, update number, learning rate."""
    plain = session(corpus, *TASK, *RDROP, "--rdrop-alpha", "0")
    plain.updates(4)
    path = str(tmp_path / "checkpoint.pt")
    plain.trainer.consolidate_optimizer()
    plain.trainer.save_checkpoint(path, {"train_iterator": {"epoch": 1}})
    switch = ["--rdrop-start-updates", "4", "--rdrop-warmup-updates", "2"]
    options = ["--rdrop-alpha", "2"] if change == "alpha" else switch
    goes_on = session(corpus, *TASK, *RDROP, *options)
    goes_on.trainer.load_checkpoint(path)
    assert goes_on.trainer.get_num_updates() == 4
    before = plain.trainer.optimizer.optimizer.state_dict()["state"]
    after = goes_on.trainer.optimizer.optimizer.state_dict()["state"]
    assert all(torch.equal(before[n]["exp_avg_sq"], after[n]["exp_avg_sq"]) for n in before)
    assert goes_on.updates(1)[0]["rdrop_alpha"] == (2.0 if change == "alpha" else 2.5)
    assert goes_on.trainer.get_num_updates() == 5


@pytest.fixture
def logged():
    """Messages of fairseq's loggers; other tests run programs in this process that set up logging for themselves."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(f"{record.name}: {record.getMessage()}")
    # The progress bar logs under its own logger, which it renames to "train" or "valid" for each message.
    logger = logging.getLogger("fairseq.logging.progress_bar")
    before = logger.level, logger.disabled
    logger.setLevel(logging.INFO)
    logger.disabled = False
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
    logger.level, logger.disabled = before


def test_eval_bleu_during_training(corpus, tmp_path, logged):
    """Fault of fairseq's: its stacking in place ends --eval-bleu in an IndexError (#5410). With update-freq, twice."""
    options = [*TASK, *RDROP, *BLEU, "--update-freq", "2", "--max-update", "4", "--validate-interval-updates", "2"]
    train(corpus, tmp_path, *options, "--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric")
    validations = [line for line in logged if line.startswith("valid:") and "| bleu" in line]
    assert len(validations) == 2
    assert all("rdrop" not in line for line in validations)
    assert any(line.startswith("train:") and "rdrop_kl" in line for line in logged)
    assert (tmp_path / "checkpoint_best.pt").exists()
    state = checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "checkpoint_last.pt"))
    assert state["optimizer_history"][-1]["num_updates"] == 4
    assert state["optimizer_history"][-1]["criterion_name"] == "RDropCriterion"
