"""ROUGE of one summary against values worked out by hand."""

from __future__ import annotations

import pytest

from rdrop_fairseq import rouge

RAW, RAW_STEM, PTB, _ = rouge.CONVENTIONS


def f1(hypothesis: str, reference: str, convention: rouge.Convention) -> list[float]:
    return rouge.score_pair(hypothesis, reference, convention)[:, 2].tolist()


def test_worked_out_by_hand() -> None:
    # reference  police killed the gunman      4 words, 3 bigrams
    # hypothesis police kill the gunman today  5 words, 4 bigrams
    # words in common: police the gunman = 3; P 3/5, R 3/4, F 2/3.  bigrams: "the gunman"; P 1/4, R 1/3, F 2/7.
    # longest common subsequence: police the gunman = 3, as the words; one sentence, so Lsum is the same.
    expected = [2 / 3, 2 / 7, 2 / 3, 2 / 3]
    assert f1("Police kill the gunman today.", "police killed the gunman", RAW) == pytest.approx(expected)


def test_stemming_by_hand() -> None:
    # killed -> kill: words 4 of 5 and of 4, F 8/9; bigrams 3 of 4 and of 3, F 6/7.
    expected = [8 / 9, 6 / 7, 8 / 9, 8 / 9]
    assert f1("Police kill the gunman today.", "police killed the gunman", RAW_STEM) == pytest.approx(expected)


def test_sentences_in_another_order() -> None:
    # Words all match. Over the whole text the longest common subsequence has 3 of 6 words; sentence by sentence, 6.
    # bigrams: "a b", "b c", "d e", "e f" of the 5 on each side.
    scores = f1("Dd ee ff. Aa bb cc.", "Aa bb cc. Dd ee ff.", RAW)
    assert scores == pytest.approx([1.0, 4 / 5, 1 / 2, 1.0])


def test_union_over_sentences_by_hand() -> None:
    # Lin 2004, section 3.2: w1 w2 w3 w4 w5 against w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5: the union is w1 w2 w3 w5, R 4/5.
    # P 4/10 over both sentences; F = 2 * 0.8 * 0.4 / 1.2 = 8/15.
    reference, hypothesis = "A1 a2 a3 a4 a5.", "A1 a2 a6 a7 a8. A1 a3 a8 a9 a5."
    assert rouge.score_pair(hypothesis, reference, RAW)[3].tolist() == pytest.approx([4 / 10, 4 / 5, 8 / 15])


def test_treebank_tokens_change_the_score_by_hand() -> None:
    # raw: "can't" is can, t; the Treebank's "ca n't" is ca, n, t; "cannot" is one word, and two in the Treebank.
    # raw: he cannot go / he can t go: he, go of 3 and 4; F 4/7.
    # Treebank: he can not go / he ca n t go: he, go of 4 and 5; F 4/9.
    assert f1("He cannot go", "He can't go", RAW)[0] == pytest.approx(4 / 7)
    assert f1("He cannot go", "He can't go", PTB)[0] == pytest.approx(4 / 9)
    # A bracket becomes the word lrb for ROUGE: (x) against x is 1 word of 3; F 1/2.
    assert f1("(x)", "x", PTB)[0] == pytest.approx(1 / 2)


def test_treebank_sentences_end_at_every_lone_period() -> None:
    assert rouge.ptb_sentences("It ended. Mr. X left! Then. now") == ["It ended .", "Mr. X left ! Then. now"]


@pytest.mark.parametrize("convention", rouge.CONVENTIONS)
@pytest.mark.parametrize(("hypothesis", "reference"), [("", "a b"), ("a b", ""), ("", ""), ("...", "a b")])
def test_nothing_to_compare_is_zero(hypothesis: str, reference: str, convention: rouge.Convention) -> None:
    assert not rouge.score_pair(hypothesis, reference, convention).any()
