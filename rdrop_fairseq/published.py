"""Numbers that others published, to be printed beside ours. None of them was measured by this project.

`checked` is False where the number is widely quoted but its source was not read again: a target to print, no more.
"""

from __future__ import annotations

from dataclasses import dataclass

TOKENIZED = "tokenized, lowercased, as multi-bleu.perl"
COMPOUND = "tokenized, after compound splitting"
CASED = "tokenized, cased, as multi-bleu.perl"
ROUGE = "ROUGE-1/2/L F1 of ROUGE-1.5.5 (files2rouge) on PTB-tokenized text"


@dataclass(frozen=True)
class Published:
    """One published result: BLEU, or ROUGE as "R1/R2/RL"."""

    system: str
    score: str
    convention: str
    checked: bool = True

    def remark(self) -> str:
        """The convention of the number, and whether it is certain."""
        return self.convention + ("" if self.checked else "; widely quoted, source not read again")


def _pair(baseline: str, rdrop: str, convention: str, checked: bool = False) -> list[Published]:
    return [Published("baseline", baseline, convention, checked), Published("R-Drop", rdrop, convention, checked)]


# By data set, source and target language.
TABLE: dict[str, list[Published]] = {
    "iwslt14.de-en": [
        *_pair("34.64", "37.25", TOKENIZED, checked=True),
        Published("R-Drop + Cutoff", "37.90", TOKENIZED),
        Published("SimCut", "37.81", TOKENIZED),
        Published("Bi-SimCut", "38.37", TOKENIZED),
        Published("R-Drop, m = 3", "37.30", TOKENIZED, checked=False),
        Published("R-Drop, alpha = 1", "36.05", TOKENIZED, checked=False),
        Published("R-Drop, alpha = 3", "36.85", TOKENIZED, checked=False),
        Published("R-Drop, alpha = 7", "37.20", TOKENIZED, checked=False),
        Published("R-Drop, alpha = 10", "36.95", TOKENIZED, checked=False),
    ],
    "iwslt14.en-de": [
        *_pair("28.57", "30.72", TOKENIZED),
        Published("SimCut", "30.98", TOKENIZED, checked=False),
        Published("Bi-SimCut", "31.16", TOKENIZED, checked=False),
    ],
    "iwslt17.en-fr": _pair("35.9", "38.0", TOKENIZED),
    "iwslt17.fr-en": _pair("36.1", "38.9", TOKENIZED),
    "iwslt17.en-zh": _pair("26.3", "28.1", TOKENIZED),
    "iwslt17.zh-en": _pair("18.4", "19.5", TOKENIZED),
    "iwslt14.en-es": _pair("39.0", "41.8", TOKENIZED),
    "iwslt14.es-en": _pair("40.6", "43.2", TOKENIZED),
    "wmt14.en-de": [
        Published("baseline", "29.12", COMPOUND, checked=False),
        Published("R-Drop", "30.91", COMPOUND),
        Published("Bi-SimCut", "30.78", COMPOUND),
    ],
    "wmt14.en-fr": [
        Published("baseline", "42.69", CASED, checked=False),
        Published("R-Drop", "43.95", CASED),
    ],
    "cnndm": [
        Published("BART-large", "44.16/21.28/40.90", ROUGE),
        Published("BART-large with R-Drop", "44.51/21.58/41.24", ROUGE),
    ],
}


@dataclass(frozen=True)
class Decoding:
    """Beam and length penalty of a recipe."""

    beam: int
    lenpen: float


# fairseq's own defaults stand for everything that is not in a recipe.
DEFAULT_DECODING = Decoding(beam=5, lenpen=1.0)
_DECODING = {"iwslt14": DEFAULT_DECODING, "iwslt17": DEFAULT_DECODING, "wmt14": Decoding(beam=4, lenpen=0.6)}


def decoding(benchmark: str) -> Decoding:
    """How the paper's recipe decodes `benchmark` (a key of TABLE, or just its data set)."""
    return _DECODING.get(benchmark.split(".")[0], DEFAULT_DECODING)
