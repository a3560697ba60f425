"""Published numbers: each in the convention of its paper."""

from __future__ import annotations

import pytest

from rdrop_fairseq import published


def test_every_score_has_the_values_of_its_metric() -> None:
    values = {"ROUGE-1/2/L": 3, "perplexity": 2}
    for name, rows in published.TABLE.items():
        assert rows, name
        assert len({row.convention.metric for row in rows}) == 1, name
        for row in rows:
            assert len(row.values) == values.get(row.convention.metric, 1), (name, row)


@pytest.mark.parametrize("pair", ["17.en-fr", "17.fr-en", "17.en-zh", "17.zh-en", "14.en-es", "14.es-en"])
def test_iwslt_beside_german_is_published_in_sacrebleu_of_unnamed_sets(pair: str) -> None:
    """A score of ours, of all sets joined, stands beside it in the same report."""
    assert {row.remark() for row in published.TABLE[f"iwslt{pair}"]} == {
        "sacreBLEU, detokenized, of a test set that the paper does not name"
    }


def test_sacrebleu_of_wmt14_stands_beside_tokenized_bleu() -> None:
    found = {
        name: [row.score for row in published.TABLE[name] if row.convention == published.SACREBLEU]
        for name in ("wmt14.en-de", "wmt14.en-fr")
    }
    assert found == {"wmt14.en-de": ["29.5"], "wmt14.en-fr": ["41.8"]}


def test_a_number_without_a_paper_says_so() -> None:
    [row] = [row for row in published.TABLE["iwslt14.de-en"] if row.score == "37.90"]
    assert row.remark() == "tokenized, lowercased, as multi-bleu.perl; benchmark tables only, no paper and no code"
    assert row.as_json() == {
        "system": "R-Drop + Cutoff",
        "score": "37.90",
        "convention": "tokenized, lowercased, as multi-bleu.perl",
        "source": "benchmark tables only, no paper and no code",
        "metric": "BLEU",
    }


def test_cutoff_is_published_beside_its_own_baseline() -> None:
    """Other decoding and other training than R-Drop's baseline of 34.64 had."""
    rows = [row for row in published.TABLE["iwslt14.de-en"] if row.source == published.CUTOFF]
    assert [row.score for row in rows] == ["36.2", "37.6"]
    assert all("compound splitting; github.com/dinghanshen/Cutoff" in row.remark() for row in rows)


@pytest.mark.parametrize(
    ("benchmark", "settings"),
    [
        ("iwslt14.de-en", (5, 1.0)),
        ("wmt14.en-de", (4, 0.6)),
        ("wmt14.en-fr", (5, 1.0)),
        ("", (5, 1.0)),
        ("cnndm", (4, 2.0, 140, 55, 3)),
        ("xsum", (6, 1.0, 60, 10, 3)),
    ],
)
def test_decoding_of_the_recipes(benchmark: str, settings: tuple[float, ...]) -> None:
    assert published.decoding(benchmark) == published.Decoding(*settings)


def test_glue_means_are_the_means_of_the_tasks() -> None:
    tasks = [rows for name, rows in published.TABLE.items() if name.startswith("glue.") and name != "glue.mean"]
    assert len(tasks) == 8
    # The paper averaged before it rounded: its mean of BERT-base is 82.85, that of its eight printed numbers 82.89.
    for number, mean in enumerate(published.TABLE["glue.mean"]):
        assert sum(rows[number].values[0] for rows in tasks) / 8 == pytest.approx(mean.values[0], abs=0.05)
