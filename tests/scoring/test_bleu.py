"""multi-bleu.perl's numbers: its own output (golden/), values worked out by hand, sacreBLEU as a second opinion."""

import math
import random
from pathlib import Path

import pytest
import sacrebleu

from rdrop_fairseq.scoring.bleu import Bleu, from_sums, split_compounds, statistics

GOLDEN = Path(__file__).parent / "golden"


def multi_bleu(hypotheses, references, lowercase=False):
    return from_sums(statistics(hypotheses, references, lowercase).sum(0))


def golden_lines(name):
    return (GOLDEN / name).read_bytes().decode().rstrip("\n").split("\n")


@pytest.mark.parametrize(
    ("expected", "lowercase", "split", "files"),
    [
        ("multi-bleu.txt", False, False, "tok"),
        ("multi-bleu.lc.txt", True, False, "tok"),
        ("multi-bleu.compound-split.txt", False, True, "tok"),
        ("multi-bleu.zero.txt", False, False, "short"),
    ],
)
def test_prints_the_line_that_multi_bleu_perl_prints(expected, lowercase, split, files):
    hyp, ref = golden_lines(f"hyp.{files}.de"), golden_lines(f"ref.{files}.de")
    if split:
        hyp, ref = map(split_compounds, hyp), map(split_compounds, ref)
    assert str(multi_bleu(list(hyp), [list(ref)], lowercase)) == golden_lines(expected)[0]


def test_by_hand():
    # "a b c d e" against "a b c d f g": unigrams 4/5, bigrams 3/4, trigrams 2/3, 4-grams 1/2, BP exp(1 - 6/5)
    result = multi_bleu(["a b c d e"], [["a b c d f g"]])
    assert result == Bleu((4, 3, 2, 1), (5, 4, 3, 2), hyp_len=5, ref_len=6)
    assert result.score == pytest.approx(100 * math.exp(-0.2) * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert str(result) == "BLEU = 54.75, 80.0/75.0/66.7/50.0 (BP=0.819, ratio=0.833, hyp_len=5, ref_len=6)"


def test_an_ngram_counts_as_often_as_the_reference_has_it():
    assert statistics(["the the the the"], [["the cat the"]]).tolist() == [[4, 3, 2, 0, 0, 0, 4, 3, 2, 1]]


def test_several_references_nearest_length_and_the_best_count():
    # 3 words; references of 2 and 4 words are equally near: the shorter counts. "x" twice in one, once in the other.
    row = statistics(["x x y"], [["x x z w"], ["x y"]])
    assert row[0].tolist() == [3, 2, 3, 2, 0, 0, 3, 2, 1, 0]


def test_only_ascii_white_space_separates_and_only_ascii_is_lowercased():
    nbsp, next_line, wide = "a\u00a0b", "c\u0085d", "e\u3000f"
    assert statistics([f"{nbsp} {next_line} {wide}"], [["x"]])[0, 0] == 3
    assert statistics(["a\tb\x0bc\x0cd\re"], [["x"]])[0, 0] == 5
    assert statistics(["Ä A"], [["ä a"]], lowercase=True)[0, 2] == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("glob-Syntax", "glob ##AT##-##AT## Syntax"),
        ("a-b-c", "a ##AT##-##AT## b-c"),
        ("ab-cd-ef", "ab ##AT##-##AT## cd ##AT##-##AT## ef"),
        ("- a -b c- @-@ d", "- a -b c- @ ##AT##-##AT## @ d"),
        ("a--b", "a ##AT##-##AT## -b"),
        ("ä-ö", "ä ##AT##-##AT## ö"),
        ("a\u00a0-b", "a\u00a0 ##AT##-##AT## b"),
    ],
)
def test_compound_splitting_as_the_perl_one_liner(line, expected):
    assert split_compounds(line) == expected


def test_agrees_with_sacrebleu_on_random_text():
    dice = random.Random(1)
    for _ in range(60):
        size, words = dice.randint(1, 8), "abcdef"[: dice.randint(2, 6)]
        text = [[" ".join(dice.choices(words, k=dice.randint(1, 12))) for _ in range(size)] for _ in range(3)]
        hyp, refs = text[0], text[1 : dice.randint(2, 3)]
        ours = multi_bleu(hyp, refs)
        theirs = sacrebleu.corpus_bleu(hyp, refs, tokenize="none", smooth_method="none", force=True)
        assert ours.score == pytest.approx(theirs.score, abs=1e-9)
        assert (ours.matches, ours.ngrams) == (tuple(theirs.counts), tuple(theirs.totals))
        assert (ours.hyp_len, ours.ref_len) == (theirs.sys_len, theirs.ref_len)
        if theirs.totals[3]:
            assert ours.brevity_penalty == pytest.approx(theirs.bp)
