"""R-Drop on a classification head against plain torch, fairseq's own criterion, sklearn and scipy."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from fairseq.logging import metrics
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef
from tiny_criteria import gradients
from tiny_roberta import BART, PLAIN, RDROP, ROBERTA, session, write_sentences
from torch.nn.functional import kl_div, log_softmax, nll_loss

from rdrop_fairseq.criterions import sentence_metrics
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import rdrop_loss

REGRESSION = ["--regression-target", "--num-classes", "1"]
NO_DROPOUT = ["--dropout", "0", "--attention-dropout", "0"]


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return write_sentences(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return write_sentences(tmp_path_factory.mktemp("three"), classes=("neutral", "yes", "no"))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return write_sentences(tmp_path_factory.mktemp("numbers"), classes=())


def head(run, batch, seed=1, times=2):
    """The head's output for a batch repeated along its first dimension, as the paper's code does it."""
    torch.manual_seed(seed)
    doubled = {key: torch.cat([value] * times) for key, value in batch["net_input"].items()}
    return run.model(**doubled, features_only=True, classification_head_name="sentence_classification_head")[0]


@pytest.mark.parametrize("model", [ROBERTA, BART], ids=["roberta", "bart"])
@pytest.mark.parametrize("impl", ["fused", "eager"])
def test_equals_the_paper_in_plain_torch(three, model, impl):
    run = session(three, *RDROP, "--rdrop-impl", impl, "--rdrop-alpha", "0.7", "--num-classes", "3", model=model)
    batch = run.batch(*range(8))
    loss, size, log = run.loss(batch)
    loss.backward()
    ours = gradients(run.model)
    run.model.zero_grad()
    lp = log_softmax(head(run, batch), -1)
    p, q = lp.chunk(2)
    target = batch["target"].view(-1)
    assert {0, 1, 2} == set(target.tolist())  # class 1 is not padding here
    ce = nll_loss(lp, torch.cat([target, target]), reduction="sum")
    kl = kl_div(p, q, log_target=True, reduction="sum") + kl_div(q, p, log_target=True, reduction="sum")
    naive = ce + 0.35 * kl
    naive.backward()
    assert size == log["nsentences"] == 8
    torch.testing.assert_close(loss, naive)
    assert float(kl) > 1e-4
    torch.testing.assert_close(log["rdrop_kl"], kl.detach() / 2)
    torch.testing.assert_close(log["nll_loss"], ce.detach() / 2)
    torch.testing.assert_close(ours, gradients(run.model), rtol=1e-4, atol=1e-6)


def test_regression_equals_the_paper_in_plain_torch(numbers):
    run = session(numbers, *RDROP, *REGRESSION, "--rdrop-alpha", "0.7")
    batch = run.batch(*range(8))
    loss, size, log = run.loss(batch)
    first, second = head(run, batch).view(-1).chunk(2)
    y = batch["target"].view(-1).float()
    naive = ((first - y) ** 2 + (second - y) ** 2 + 0.7 * (first - second) ** 2).sum()
    torch.testing.assert_close(loss, naive)
    torch.testing.assert_close(log["rdrop_distance"], ((first - second) ** 2).sum().detach())
    assert size == 8
    assert float(log["rdrop_distance"]) > 0


def test_dropout_of_the_head_makes_views_differ(classes):
    alone = session(classes, *RDROP, *NO_DROPOUT, "--pooler-dropout", "0.3")
    nothing = session(classes, *RDROP, *NO_DROPOUT, "--pooler-dropout", "0")
    assert float(alone.loss(alone.batch(0, 1, 2))[2]["rdrop_kl"]) > 1e-4
    assert float(nothing.loss(nothing.batch(0, 1, 2))[2]["rdrop_kl"]) == 0


@pytest.mark.parametrize("regression", [False, True])
def test_alpha_0_trains_as_fairseq_does(classes, numbers, regression):
    data, words = (numbers, REGRESSION) if regression else (classes, [])
    ours = session(data, *RDROP, "--rdrop-alpha", "0", *words)
    theirs = session(data, *PLAIN, *words)
    for mine, other in zip(ours.updates(6), theirs.updates(6)):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert mine["gnorm"] == pytest.approx(other["gnorm"], rel=1e-5)


@pytest.mark.parametrize("regression", [False, True])
def test_eval_is_fairseqs_criterion_to_the_bit(classes, numbers, regression):
    data, words = (numbers, REGRESSION) if regression else (classes, [])
    ours, theirs = session(data, *RDROP, *words), session(data, *PLAIN, *words)
    for run in (ours, theirs):
        run.model.eval()
        run.criterion.eval()
    batch = ours.batch(*range(11))
    loss, size, log = ours.loss(batch)
    expected, expected_size, expected_log = theirs.loss(batch)
    assert torch.equal(loss, expected)
    assert size == expected_size
    for key in ("loss", "ntokens", "nsentences", "sample_size", *([] if regression else ["ncorrect"])):
        assert log[key] == expected_log[key], key


def validate(run, *parts):
    """What is logged for a validation set that comes in these batches."""
    run.model.eval()
    run.criterion.eval()
    dataset = run.task.dataset("valid")
    with metrics.aggregate(new_root=True) as meters, torch.no_grad():
        for part in parts:
            logs = [run.criterion(run.model, dataset.collater([dataset[i] for i in rows]))[2] for rows in part]
            run.task.reduce_metrics(logs, run.criterion)
        return meters.get_smoothed_values()


def everything(run):
    """Outputs and labels of the whole validation set."""
    dataset = run.task.dataset("valid")
    batch = dataset.collater([dataset[i] for i in range(27)])
    with torch.no_grad():
        output = head(run, batch, times=1)
    return output, batch["target"].view(-1)


@pytest.mark.parametrize("parts", [([range(27)],), ([range(5)], [range(5, 27)]), ([range(20), range(20, 27)],)])
def test_metrics_of_classes_are_those_of_the_whole_set(classes, three, parts):
    """In one batch, in two of different sizes, on two workers: as sklearn computes them of all sentences."""
    for data, count in ((classes, 2), (three, 3)):
        run = session(data, *RDROP, "--num-classes", count)
        found = validate(run, *parts)
        output, target = everything(run)
        predicted = output.argmax(-1)
        assert found["accuracy"] == pytest.approx(100 * float(predicted.eq(target).float().mean()), abs=1e-3)
        assert found["mcc"] == pytest.approx(100 * matthews_corrcoef(target, predicted), abs=1e-3)
        if count == 2:  # class 0 is the label "1", since it is the more frequent one
            f1 = f1_score(target.eq(0), predicted.eq(0))
            assert found["f1"] == pytest.approx(100 * f1, abs=1e-3)
            assert found["acc_and_f1"] == pytest.approx((found["accuracy"] + found["f1"]) / 2, abs=1e-2)
        else:
            assert "f1" not in found
        assert not any(key.startswith("_") for key in found)


@pytest.mark.parametrize("parts", [([range(27)],), ([range(5)], [range(5, 27)]), ([range(20), range(20, 27)],)])
def test_correlations_are_those_of_the_whole_set(numbers, parts):
    run = session(numbers, *RDROP, *REGRESSION)
    found = validate(run, *parts)
    output, target = everything(run)
    assert found["pearson"] == pytest.approx(100 * stats.pearsonr(output.view(-1), target)[0], abs=1e-3)
    assert found["spearman"] == pytest.approx(100 * stats.spearmanr(output.view(-1), target)[0], abs=1e-3)


def test_correlations_of_growing_sets(numbers):
    """As fairseq-validate takes them: each set is loaded after the one before, and its metrics go to meters that stay.
    The train set, of 64 sentences, may be among them."""
    run = session(numbers, *RDROP, *REGRESSION)
    run.model.eval()
    run.criterion.eval()
    run.task.datasets.clear()
    metrics.reset()
    for split, count in (("valid", 27), ("train", 64)):
        dataset = run.task.load_dataset(split)
        batches = [dataset.collater([dataset[i] for i in rows]) for rows in (range(20), range(20, count))]
        with metrics.aggregate() as meters, torch.no_grad():
            run.task.reduce_metrics([run.criterion(run.model, batch)[2] for batch in batches], run.criterion)
            found = meters.get_smoothed_values()["pearson"]
            output = torch.cat([head(run, batch, times=1) for batch in batches]).view(-1)
        target = torch.cat([batch["target"] for batch in batches]).view(-1)
        assert found == pytest.approx(100 * stats.pearsonr(output, target)[0], abs=1e-3), split
    metrics.reset()


def test_metrics_that_are_not_defined_are_0():
    assert sentence_metrics.matthews(3, [5, 0], [3, 2]) == 0
    assert sentence_metrics.f1(0, 0, 0) == 0
    values = np.full(1000, 0.1)
    target = np.linspace(0, 1, 1000)
    assert sentence_metrics.pearson(values, target) == 0
    assert sentence_metrics.spearman(values, target) == 0
    assert sentence_metrics.spearman(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(
        stats.spearmanr([1, 1, 2], [1, 2, 3])[0]
    )


def test_logged_units(classes):
    """Loss and divergence per sentence, in bits; the loss of R-Drop is two cross entropies and alpha KL."""
    run = session(classes, *RDROP)
    logged = run.update(run.batch(*range(8)))
    loss = 2 * logged["nll_loss"] + logged["rdrop_kl"]
    assert logged["loss"] == pytest.approx(loss, rel=1e-4)
    assert logged["rdrop_alpha"] == 1
    assert logged["nll_loss"] < 2 / math.log(2)
    assert 0 <= logged["accuracy"] <= 100


def test_layerdrop_takes_separate_forwards(classes):
    """A stack would lose the same layers in both views."""
    largest = {}
    for mode in ("auto", "stacked"):
        words = [*NO_DROPOUT, "--pooler-dropout", "0", "--encoder-layerdrop", "0.5", "--rdrop-mode", mode]
        run = session(classes, *RDROP, *words)
        largest[mode] = max(float(run.loss(run.batch(0, 1, 2), seed)[2]["rdrop_kl"]) for seed in range(6))
    assert largest["stacked"] == 0 < largest["auto"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rdrop-passes", "1"], "--rdrop-passes must be at least 2, got 1"),
        (["--rdrop-alpha", "-1"], "alpha must be a finite number >= 0"),
        (["--mha-reg-scale-factor", "0.1"], "leave out mha_reg_scale_factor"),
    ],
)
def test_bad_options(classes, words, message):
    def one_step():
        run = session(classes, *RDROP, *words)
        run.loss(run.batch(0))

    with pytest.raises(UserError, match=message):
        one_step()


def test_another_models_head_is_named(classes):
    run = session(classes, *RDROP)
    run.criterion.cfg.classification_head_name = "other"
    with pytest.raises(UserError, match="RobertaModel has no classification head other"):
        run.loss(run.batch(0))


@pytest.mark.parametrize("impl", ["fused", "eager"])
@pytest.mark.parametrize("regression", [False, True])
def test_gradient_in_float64_by_finite_differences(three, numbers, regression, impl):
    """Along a random direction of the head's parameters, dropout masks held by the seed. (Below the head fairseq takes
    the softmax of attention in fp32.)"""
    words = REGRESSION if regression else ["--num-classes", "3"]
    run = session(numbers if regression else three, *RDROP, "--rdrop-impl", impl, *words)
    run.model.double()
    batch = run.batch(*range(6))
    run.loss(batch)[0].backward()
    parameters = list(run.model.classification_heads.parameters())
    torch.manual_seed(5)
    direction = [torch.randn_like(p) for p in parameters]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(parameters, direction))

    def moved(step):
        with torch.no_grad():
            for p, d in zip(parameters, direction):
                p.add_(d, alpha=step)
            loss = float(run.loss(batch)[0])
            for p, d in zip(parameters, direction):
                p.sub_(d, alpha=step)
        return loss

    step = 1e-6
    assert (moved(step) - moved(-step)) / (2 * step) == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("regression", [False, True])
def test_half_precision_budget(three, numbers, regression, dtype):
    """The loss is the float64 loss of the half-precision head's outputs, to fp32's precision. Each gradient is that of
    a float64 model with the same weights and dropout, within four roundings of its norm and a twentieth of that of the
    norm of all; fp16 under a scale of 2,048, which fairseq's FP16Optimizer undoes in fp32."""
    words = REGRESSION if regression else ["--num-classes", "3"]
    run = session(numbers if regression else three, *RDROP, *words)
    exact = copy.deepcopy(run.model.to(dtype)).double()
    batch = run.batch(*range(8))
    loss, _, _ = run.loss(batch)
    output, target = head(run, batch).detach().double(), batch["target"].view(-1)
    if regression:
        first, second = output.view(-1).chunk(2)
        truth = ((first - target) ** 2 + (second - target) ** 2 + (first - second) ** 2).sum()
    else:
        truth = rdrop_loss(output, target, alpha=1.0, impl="eager")[0]
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(truth), rel=1e-5)
    scale = 2048.0 if dtype == torch.float16 else 1.0
    (loss * scale).backward()
    half = {name: gradient.double() / scale for name, gradient in gradients(run.model).items()}
    run.model = exact
    run.loss(batch)[0].backward()
    right = gradients(run.model)
    whole, eps = torch.cat([gradient.flatten() for gradient in right.values()]).norm(), 4 * torch.finfo(dtype).eps
    for name, gradient in right.items():
        assert (half[name] - gradient).norm() <= eps * gradient.norm() + eps / 20 * whole, name


def test_targets_keep_their_precision_in_half(numbers):
    """fairseq rounds float32 targets to fp16 with --fp16; those of the task are float64."""
    run = session(numbers, *RDROP, *REGRESSION)
    assert run.batch(0)["target"].dtype == torch.float64


@pytest.mark.parametrize("regression", [False, True])
def test_bf16_training_follows_fp32(classes, numbers, regression):
    data, words = (numbers, REGRESSION) if regression else (classes, [])
    half, full = (session(data, *RDROP, *words, *more).updates(4) for more in (["--bf16"], []))
    for ours, truth in zip(half, full):
        assert ours["loss"] == pytest.approx(truth["loss"], rel=0.02)


@pytest.mark.parametrize("regression", [False, True])
def test_a_schedule_starts_plainly(classes, numbers, regression):
    """Two plain updates, whose loss counts twice, then R-Drop; validation needs no update before it."""
    data, words = (numbers, REGRESSION) if regression else (classes, [])
    run = session(data, *RDROP, *words, "--rdrop-start-updates", "2")
    assert validate(run, [range(27)])["loss"] > 0
    run.model.train()
    logged, divergence = run.updates(4), "rdrop_distance" if regression else "rdrop_kl"
    assert [divergence in update for update in logged] == [False, False, True, True]
    plain = session(data, *PLAIN, *words).updates(1)
    assert logged[0]["loss"] == pytest.approx(2 * plain[0]["loss"], rel=1e-5)
    assert [update["rdrop_alpha"] for update in logged] == [0, 0, 1, 1]
