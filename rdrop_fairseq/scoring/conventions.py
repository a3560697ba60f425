"""Conventions for scoring a translation, each with a name and a signature that every number carries.

tokenized       BLEU of the tokenized text as multi-bleu.perl: what IWSLT14 papers report (on lowercased text)
compound-split  the same after splitting hyphenated compounds: what WMT14 En-De papers report, and what the R-Drop
                authors' own script prints for IWSLT14 De-En. Of text whose hyphens are split already (Moses' -a, as
                `prepare wmt14` has it), `tokenized` is that number, and this one is too high
sacrebleu       sacreBLEU of detokenized text: the one that can be compared between papers
chrf2           character n-gram F2 of detokenized text (sacreBLEU)
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import bleu


@dataclass(frozen=True)
class Score:
    """A value (0..100) with its convention and signature."""

    convention: str
    title: str
    score: float
    line: str
    signature: str


class MultiBleu:
    """BLEU on tokenized text, see bleu.py."""

    def __init__(self, lowercase: bool, compounds: bool) -> None:
        self.lowercase = lowercase
        self.compounds = compounds

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        """Counts, one row per sentence; their sum over sentences gives the score."""
        if self.compounds:
            hypotheses = [bleu.split_compounds(line) for line in hypotheses]
            references = [[bleu.split_compounds(line) for line in reference] for reference in references]
        return bleu.statistics(hypotheses, references, self.lowercase)

    def value(self, sums: np.ndarray) -> float:
        """The score of statistics summed over sentences, 0..100."""
        return bleu.from_sums(sums).score

    def line(self, sums: np.ndarray) -> str:
        """The score as the tool prints it that the convention is named after."""
        return str(bleu.from_sums(sums))

    def signature(self, references: int) -> str:
        """What distinguishes this score from others of the same name, written as sacreBLEU writes its own."""
        case = "lc" if self.lowercase else "mixed"
        split = "|compounds:split" if self.compounds else ""
        version = importlib.metadata.version("rdrop-fairseq")
        return f"multi-bleu|nrefs:{references}|case:{case}|tok:none{split}|smooth:none|rdrop_fairseq:{version}"


class Sacre:
    """A metric of sacreBLEU, which takes the text as people write it, with the methods of MultiBleu.

    They call those that sacreBLEU's own significance tests are built on.
    """

    def __init__(self, metric: BLEU | CHRF) -> None:
        self.metric = metric

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        """See MultiBleu."""
        return np.array(self.metric._extract_corpus_statistics(hypotheses, references))

    def value(self, sums: np.ndarray) -> float:
        """See MultiBleu."""
        return self._score(sums).score

    def line(self, sums: np.ndarray) -> str:
        """See MultiBleu."""
        return str(self._score(sums))

    def signature(self, references: int) -> str:
        """See MultiBleu."""
        self.metric.num_refs = references
        return str(self.metric.get_signature())

    def _score(self, sums: np.ndarray) -> Any:
        return self.metric._compute_score_from_stats(sums.tolist())


Scorer = Union[MultiBleu, Sacre]

TITLES = {
    "tokenized": "tokenized BLEU (multi-bleu.perl)",
    "compound-split": "compound-split tokenized BLEU",
    "sacrebleu": "sacreBLEU (detokenized)",
    "chrf2": "chrF2 (detokenized)",
}
# These read tokenized text, the others text as people write it.
ON_TOKENS = ("tokenized", "compound-split")


def scorer(convention: str, language: str | None = None, lowercase: bool = False) -> Scorer:
    """The scorer of a convention; `language` of the translation (Chinese has a tokenizer of its own in sacreBLEU)."""
    if convention in ON_TOKENS:
        return MultiBleu(lowercase, compounds=convention == "compound-split")
    if convention == "sacrebleu":
        tokenizer = "zh" if language == "zh" else "13a"
        # force: no warning about tokenized input on stderr; the callers say it in their own words where it applies.
        return Sacre(BLEU(lowercase=lowercase, tokenize=tokenizer, force=True))
    return Sacre(CHRF(lowercase=lowercase))


def score(
    convention: str,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    language: str | None = None,
    lowercase: bool = False,
) -> Score:
    """Scores a corpus of as many lines on each side; raises UserError if one side has no words."""
    for side, lines in (("hypothesis", hypotheses), *(("reference", reference) for reference in references)):
        if not any(line.strip() for line in lines):
            raise UserError(f"the {side} has no words: there is nothing to score")
    how = scorer(convention, language, lowercase)
    sums = how.statistics(hypotheses, references).sum(0)
    return Score(convention, TITLES[convention], how.value(sums), how.line(sums), how.signature(len(references)))
