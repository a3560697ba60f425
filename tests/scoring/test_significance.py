"""The paired tests: sacreBLEU's own numbers for one seed, and what several seeds mean."""

import random

import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from rdrop_fairseq.scoring import conventions, significance
from rdrop_fairseq.scoring.significance import compare

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "a", "dog", "ran", "off", "."]


@pytest.fixture(scope="module")
def corpus():
    """60 references, and systems that get 10, 13 and 35 % of the words wrong."""
    dice = random.Random(5)
    ref = [" ".join(dice.choices(WORDS, k=dice.randint(6, 14))) for _ in range(60)]

    def worse(share):
        return [" ".join("x" if dice.random() < share else word for word in line.split()) for line in ref]

    return ref, worse(0.10), worse(0.13), worse(0.35)


def run(convention, baseline, system, ref):
    return compare(convention, convention, conventions.scorer(convention), baseline, system, [ref])


@pytest.mark.parametrize(
    ("convention", "metric"),
    [("tokenized", BLEU(tokenize="none", smooth_method="none", force=True)), ("chrf2", CHRF())],
)
def test_one_seed_gives_what_sacrebleu_prints(corpus, convention, metric):
    ref, good, similar, _ = corpus
    ours = run(convention, [similar], [good], ref)
    for test, p_value in (("bs", ours.p_bootstrap), ("ar", ours.p_randomization)):
        theirs = PairedTest([("a", similar), ("b", good)], {"m": metric}, [ref], test_type=test)()[1]
        baseline, system = (result for name, result in theirs.items() if name != "System" for result in result)
        assert p_value == system.p_value
        assert 0.0001 < p_value < 0.9  # a case that the tests can decide either way
        assert ours.baseline == pytest.approx(baseline.score)
        assert ours.system == pytest.approx(system.score)
        if test == "bs":
            low, high = ours.system_interval
            assert (high - low) / 2 == pytest.approx(system.ci, abs=1e-4)


@pytest.fixture
def fewer_samples(monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 200)
    monkeypatch.setattr(significance, "TRIALS", 200)


@pytest.mark.usefixtures("fewer_samples")
def test_a_clear_difference_is_significant_and_its_interval_has_one_sign(corpus):
    ref, good, _, bad = corpus
    result = run("tokenized", [bad], [good], ref)
    assert result.p_bootstrap < 0.01
    assert result.p_randomization < 0.01
    assert 0 < result.difference_interval[0] < result.difference < result.difference_interval[1]


@pytest.mark.usefixtures("fewer_samples")
def test_a_system_against_itself_is_no_difference(corpus):
    ref, good, *_ = corpus
    result = run("tokenized", [good], [good], ref)
    assert (result.difference, result.difference_interval) == (0, (0, 0))
    assert (result.p_bootstrap, result.p_randomization) == (1, 1)


@pytest.mark.usefixtures("fewer_samples")
def test_texts_that_differ_but_score_alike_are_no_difference(corpus):
    """chrF disregards blanks: no sentence's score changes, and neither test may call that significant."""
    ref, good, *_ = corpus
    result = run("chrf2", [good], [[line.replace(" ", "  ") for line in good]], ref)
    assert (result.difference, result.p_bootstrap, result.p_randomization) == (0, 1, 1)


@pytest.mark.usefixtures("fewer_samples")
def test_seeds_are_averaged_score_by_score(corpus):
    ref, good, similar, bad = corpus
    result = run("tokenized", [similar, bad], [good, similar], ref)
    expected = [conventions.score("tokenized", system, [ref]).score for system in (similar, bad)]
    assert result.baseline_seeds == expected
    assert result.baseline == pytest.approx(sum(expected) / 2)
    assert result.difference == pytest.approx(result.system - result.baseline)
