"""The paired bootstrap over blocks: sure and unsure differences, and files that are no results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import perplexity, perplexity_compare

BLOCKS = 400
WORDS = [112] * (BLOCKS - 1) + [57]


def nll(seed: int, mean: float) -> list[float]:
    return list(np.random.default_rng(seed).normal(mean, 0.3, BLOCKS) * WORDS)


def test_known_perplexity_and_a_sure_difference() -> None:
    base = nll(1, 3.3)
    found = perplexity_compare.compare(WORDS, base, [value - 0.05 * words for value, words in zip(base, WORDS)])
    assert found["baseline"] == pytest.approx(np.exp(sum(base) / sum(WORDS)))
    assert found["system"] == pytest.approx(found["baseline"] * np.exp(-0.05))
    assert found["difference_interval"][0] < found["difference"] < found["difference_interval"][1] < 0
    assert found["p_bootstrap"] < 0.01
    assert found["blocks"] == BLOCKS


def test_chance_and_equality() -> None:
    base = nll(1, 3.3)
    assert perplexity_compare.compare(WORDS, base, base)["p_bootstrap"] == 1.0
    noise = np.random.default_rng(3).normal(0, 0.2, BLOCKS)
    other = [value + words * shift for value, words, shift in zip(base, WORDS, noise - noise.mean())]
    assert perplexity_compare.compare(WORDS, base, other)["p_bootstrap"] > 0.5


WRONG = json.dumps({"block_nll": [1.0], "block_words": [1], "perplexity": 9})


@pytest.mark.parametrize("text", ["", "[]", "{}", WRONG])
def test_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"is not a result of score_perplexity\.sh"):
        perplexity.read(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.pt", "b.pt"], "an ensemble can be scored of translation models only"),
        (["a.pt", "--split", "valid", "test", "--out", "x.json"], "--out is one file, for one split"),
    ],
)
def test_what_cannot_be_scored_together(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        perplexity.main([str(tmp_path), *words], "perplexity")


def test_bad_input_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        perplexity.score(tmp_path / "none.pt", tmp_path, "test", 512, 400, [])
    (tmp_path / "some.pt").touch()
    with pytest.raises(UserError, match=r"has no test\.idx"):
        perplexity.score(tmp_path / "some.pt", tmp_path, "test", 512, 400, [])
    (tmp_path / "test.idx").touch()
    with pytest.raises(UserError, match="--context-window 512 must be less than"):
        perplexity.score(tmp_path / "some.pt", tmp_path, "test", 512, 512, [])
