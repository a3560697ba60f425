"""Treebank tokens and sentence ends; the expected tokens are what the Treebank's guidelines say."""

from __future__ import annotations

import pytest

from rdrop_fairseq.rouge import ptb


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He can't go.", "He ca n't go ."),
        ("It’s John’s “dog”.", "It 's John 's `` dog '' ."),
        ("Paid (in part): $3.5m, 20%!", "Paid -LRB- in part -RRB- : $ 3.5m , 20 % !"),
        ("One ends. Two ends. Three", "One ends . Two ends . Three"),
        ("Mr. J. Smith met the U.S. envoy.", "Mr. J. Smith met the U.S. envoy ."),
        ("", ""),
    ],
)
def test_tokens(text: str, expected: str) -> None:
    assert ptb.tokenize(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A b. C d! E f? G", ["A b.", "C d!", "E f?", "G"]),
        ("Gen. Lee came. He won.", ["Gen. Lee came.", "He won."]),
        ('"Stop." He did.', ['"Stop."', "He did."]),
        ("Well... so what.", ["Well... so what."]),
        ("   ", []),
        ("No. 5 is alive.", ["No.", "5 is alive."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert ptb.sentences(text) == expected
