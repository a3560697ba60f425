"""ROUGE against values worked out by hand, the bootstrap, the conventions and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import rouge

RAW, RAW_STEM, PTB, PTB_STEM = rouge.CONVENTIONS


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


def test_intervals_cover_the_mean_and_know_certainty() -> None:
    scores = np.linspace(0, 1, 200).reshape(200, 1)
    mean, low, high = rouge.intervals(scores)[:, 0]
    # standard error of the mean: sqrt(1/12 / 200) = 2.04 %, so about 46.0 to 54.0
    assert mean == pytest.approx(50)
    assert (low, high) == (pytest.approx(46.0, abs=0.5), pytest.approx(54.0, abs=0.5))
    assert rouge.intervals(np.full((5, 1), 0.25)).ravel().tolist() == [25, 25, 25]
    assert (rouge.intervals(scores, seed=1) == rouge.intervals(scores, seed=1)).all()
    assert (rouge.intervals(scores, seed=1) != rouge.intervals(scores, seed=2)).any()


def test_same_for_any_number_of_workers() -> None:
    hypotheses, references = ["A b c.", "D e. F g.", ""] * 20, ["A b.", "F g. D e.", "h"] * 20
    one = rouge.score_all(hypotheses, references, PTB_STEM)
    assert one.shape == (60, 4, 3)
    assert (one == rouge.score_all(hypotheses, references, PTB_STEM, workers=2)).all()


def test_command_prints_and_writes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hypotheses, references = tmp_path / "a b.hyp", tmp_path / "ref"
    hypotheses.write_text("police kill the gunman today\n\n", encoding="utf-8")
    references.write_text("police killed the gunman\nx y\n", encoding="utf-8")
    rouge.main(["--hyp", str(hypotheses), "--ref", str(references), "--published", "cnndm"], prog="rouge")
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "a b.hyp.rouge.json").read_text(encoding="utf-8"))
    mean = result["conventions"]["rouge-score"]["rouge1"]["f1"]["mean"]
    assert mean == pytest.approx(100 / 3)
    assert f"{mean:.2f} [" in printed
    assert result["empty_summaries"] == 1
    assert "1 summaries are empty" in printed
    assert result["versions"]["rouge-score"]
    published = printed[printed.index("published elsewhere, not measured here") :]
    assert "41.24" in published
    assert result["published"]["cnndm"]["BART + R-Drop"] == [44.51, 21.58, None, 41.24]


def test_files_of_different_length_are_refused(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("a\nb\n")
    (tmp_path / "r").write_text("a\n")
    with pytest.raises(UserError, match="2 summaries for 1 references"):
        rouge.main(["--hyp", str(tmp_path / "h"), "--ref", str(tmp_path / "r")], prog="rouge")
    assert not list(tmp_path.glob("*.json"))
