"""Tokenized BLEU exactly as multi-bleu.perl (Moses, scripts/generic) computes and prints it, and compound splitting.

Everything works on bytes, as in that Perl script: words are separated by ASCII white space only (a no-break space is
part of a word), and lowercasing changes A-Z only. No smoothing: one n-gram precision of 0 makes the score 0.

One deliberate difference: multi-bleu.perl removes the last byte of a file that does not end in a newline (`chop`);
here the last line is whole. Files of different length or without words, where the script silently continues or divides
by zero, are refused before (results.py, conventions.py).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ORDER = 4
# Columns of a row of statistics, sacreBLEU's layout: lengths of hypothesis and reference, matches and n-grams by order.
COLUMNS = 2 + 2 * ORDER

_HYPHEN = re.compile(rb"(\S)-(\S)")


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU and its parts; `str()` is the line that multi-bleu.perl prints."""

    matches: tuple[int, ...]
    ngrams: tuple[int, ...]
    hyp_len: int
    ref_len: int

    @property
    def precisions(self) -> list[float]:
        """Clipped n-gram precision by order, 0..1; an order without n-grams counts as 0."""
        return [match / total if total else 0.0 for match, total in zip(self.matches, self.ngrams)]

    @property
    def brevity_penalty(self) -> float:
        """exp(1 - ref/hyp) for a hypothesis shorter than the reference, else 1; 0 where there are no words at all."""
        if self.hyp_len >= self.ref_len:
            return 1.0
        return math.exp(1 - self.ref_len / self.hyp_len) if self.hyp_len else 0.0

    @property
    def score(self) -> float:
        """BLEU, 0..100."""
        if not all(self.precisions):
            return 0.0
        return 100 * self.brevity_penalty * math.exp(sum(map(math.log, self.precisions)) / ORDER)

    def __str__(self) -> str:
        precisions = "/".join(f"{100 * value:.1f}" for value in self.precisions)
        return (
            f"BLEU = {self.score:.2f}, {precisions} (BP={self.brevity_penalty:.3f}, "
            f"ratio={self.hyp_len / self.ref_len:.3f}, hyp_len={self.hyp_len}, ref_len={self.ref_len})"
        )


def statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = False) -> np.ndarray:
    """Counts per sentence, int64 [sentences, COLUMNS]; their sum over sentences is all that BLEU needs.

    `references` holds one list of sentences per reference translation. With several, the length nearest to the
    hypothesis counts (the shorter of two that are equally near), and an n-gram may match as often as in the reference
    that has it most often.
    """
    rows = [
        _sentence(_words(hypothesis, lowercase), [_words(reference, lowercase) for reference in alternatives])
        for hypothesis, *alternatives in zip(hypotheses, *references)
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, COLUMNS)


def from_sums(sums: Sequence[int] | np.ndarray) -> Bleu:
    """BLEU from a row of statistics summed over the corpus."""
    whole = [round(float(value)) for value in sums]
    return Bleu(tuple(whole[2 : 2 + ORDER]), tuple(whole[2 + ORDER :]), hyp_len=whole[0], ref_len=whole[1])


def split_compounds(line: str) -> str:
    """Splits at hyphens inside words: "o-o" becomes "o ##AT##-##AT## o" (fairseq's scripts/compound_split_bleu.sh).

    The word character after a hyphen is used up by the match, so of "a-b-c" only the first hyphen is split.
    """
    return _HYPHEN.sub(rb"\1 ##AT##-##AT## \2", line.encode()).decode()


def _words(line: str, lowercase: bool) -> list[bytes]:
    data = line.encode()
    return (data.lower() if lowercase else data).split()


def _ngrams(words: list[bytes]) -> Counter[tuple[bytes, ...]]:
    return Counter(gram for n in range(1, ORDER + 1) for gram in zip(*(words[i:] for i in range(n))))


def _sentence(words: list[bytes], references: list[list[bytes]]) -> list[int]:
    allowed: Counter[tuple[bytes, ...]] = Counter()
    for reference in references:
        allowed |= _ngrams(reference)
    matches = [0] * ORDER
    for gram, count in _ngrams(words).items():
        matches[len(gram) - 1] += min(count, allowed.get(gram, 0))
    totals = [max(0, len(words) - n) for n in range(ORDER)]
    nearest = min((abs(len(words) - len(reference)), len(reference)) for reference in references)[1]
    return [len(words), nearest, *matches, *totals]
