"""ROUGE-1/2/L/Lsum of one summary, by each convention in use. Validation and scoring both stand on this room.

    rouge-score          the raw text, as Google's rouge-score package tokenizes it (lower case, letters and digits)
    rouge-1.5.5-ptb      text tokenized as in the Penn Treebank (ptb.py), sentences cut at " . ", as files2rouge hands
                         them to the Perl script ROUGE-1.5.5; what that prints as ROUGE-L is computed over sentences, so
                         it is Lsum here
    ...+stem             the same after Porter stemming of words longer than three letters (`-m` of the Perl script)

The published figures are rouge-1.5.5-ptb+stem, as near as maintained libraries come to it: files2rouge passes `-m` by
default (its #34 and #37), and always did but for a few weeks of July 2020.

rouge-score, NLTK and sacremoses are imported at the first score, not before.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Callable, NamedTuple

import numpy as np

from rdrop_fairseq.errors import UserError, install
from rdrop_fairseq.rouge import ptb

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class Convention(NamedTuple):
    """`split` gives the sentences of a line, ready for rouge-score's tokenizer; `stem`: Porter's stemmer on or off."""

    name: str
    split: Callable[[str], list[str]]
    stem: bool


def ptb_sentences(line: str) -> list[str]:
    """A line tokenized as in the Treebank, cut after every period that stands alone."""
    return (" .\n".join(ptb.tokenize(line).split(" . "))).split("\n")


CONVENTIONS = (
    Convention("rouge-score", ptb.sentences, False),
    Convention("rouge-score+stem", ptb.sentences, True),
    Convention("rouge-1.5.5-ptb", ptb_sentences, False),
    Convention("rouge-1.5.5-ptb+stem", ptb_sentences, True),
)
PUBLISHED = "rouge-1.5.5-ptb+stem"  # the one of published figures


def score_pair(hypothesis: str, reference: str, convention: Convention) -> np.ndarray:
    """Precision, recall and F1 of one summary, float64 [4 types, 3 measures] in 0..1; all zero if either is empty.

    Raises UserError if rouge-score is not installed.
    """
    texts = ("\n".join(convention.split(text)) for text in (reference, hypothesis))
    found = _scorer(convention.stem).score(*texts)
    return np.array([tuple(found[name]) for name in TYPES])


@cache
def _scorer(stem: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise UserError(f"rouge-score is not installed: {install('summarization')}") from error
    return RougeScorer(list(TYPES), use_stemmer=stem)
