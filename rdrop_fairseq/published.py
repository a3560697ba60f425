"""Numbers that others published, printed beside ours, and the decoding they were measured with. None was measured here.

The only place for them: BLEU and ROUGE, perplexity, GLUE, image classification. A key of TABLE is the data set, a dot
and what was measured on it (a direction, a model, a task); summarization has the data set alone. R-Drop's numbers are
those of the paper (Liang et al. 2021, arXiv 2106.14448v2, its appendices included) unless `source` names another place.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class Convention(NamedTuple):
    """Meaning of a number: the metric (several values of it are separated by slashes) and how it was computed."""

    metric: str
    how: str


PAPER = "Liang et al. 2021"
SIMCUT = "Gao et al. 2022"
CUTOFF = "github.com/dinghanshen/Cutoff: average of the last five epochs, lenpen 0.5"
SCALING = "Ott et al. 2018"
TABLES = "benchmark tables only, no paper and no code"

TOKENIZED = Convention("BLEU", "tokenized, lowercased, as multi-bleu.perl")
COMPOUND = Convention("BLEU", "tokenized, after compound splitting")
CASED = Convention("BLEU", "tokenized, cased, as multi-bleu.perl")
SACREBLEU = Convention("BLEU", "sacreBLEU, detokenized")
# IWSLT beside German. An earlier paper by some of the same authors (Zhu et al. 2020) tests on tst2017, in Spanish on
# tst2014; so does our preparation.
TALKS = Convention("BLEU", "sacreBLEU, detokenized, of a test set that the paper does not name")
ROUGE = Convention("ROUGE-1/2/L", "F1 of ROUGE-1.5.5 (files2rouge: with stemming) on PTB-tokenized text")
PERPLEXITY = Convention("perplexity", "valid/test, per word")
ACCURACY = Convention("accuracy", "in %")
PEARSON = Convention("Pearson", "correlation, in %")
MATTHEWS = Convention("Matthews", "correlation, in %")
GLUE_MEAN = Convention("mean", "of the eight tasks' metrics, in %")


@dataclass(frozen=True)
class Published:
    """One published result; `score` as it was printed, several values (ROUGE, valid/test) separated by slashes."""

    system: str
    score: str
    convention: Convention
    source: str = PAPER

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers in `score`."""
        return tuple(float(value) for value in self.score.split("/"))

    def remark(self) -> str:
        """The convention of the number, and where it stands if that is not the paper."""
        return self.convention.how + ("" if self.source == PAPER else f"; {self.source}")

    def as_json(self) -> dict[str, Any]:
        """For scores.json: {"system", "score", "metric", "convention", "source"}."""
        row = asdict(self)
        return {**row, "metric": self.convention.metric, "convention": self.convention.how}


def _pair(baseline: str, rdrop: str, convention: Convention, name: str = "") -> list[Published]:
    """A model without and with R-Drop; without a name the first is "baseline"."""
    with_rdrop = f"{name} + R-Drop" if name else "R-Drop"
    return [Published(name or "baseline", baseline, convention), Published(with_rdrop, rdrop, convention)]


def _row(convention: Convention, **models: tuple[str, str]) -> list[Published]:
    return [row for name, pair in models.items() for row in _pair(*pair, convention, name.replace("_", "-"))]


def _glue(convention: Convention, base: tuple[str, str], large: tuple[str, str]) -> list[Published]:
    return _row(convention, BERT_base=base, RoBERTa_large=large)


# R-Drop on IWSLT14 De-En with other settings than the recipe's (section 4 and appendix C of the paper).
_STUDIES = {
    "R-Drop, m = 3": "37.30",
    "R-Drop, alpha = 1": "36.05",
    "R-Drop, alpha = 3": "36.85",
    "R-Drop, alpha = 7": "37.20",
    "R-Drop, alpha = 10": "36.95",
    "R-Drop, dropout 0.5 in both views": "36.48",
    "two views without the KL": "34.93",
    "baseline with the batch doubled": "34.93",
    "baseline, one checkpoint": "34.78",
    "baseline, six checkpoints averaged": "35.44",
    "R-Drop, six checkpoints averaged": "37.31",
    "ensemble of six baselines": "36.92",
}

TABLE: dict[str, list[Published]] = {
    "iwslt14.de-en": [
        *_pair("34.64", "37.25", TOKENIZED),
        Published("R-Drop + Cutoff", "37.90", TOKENIZED, TABLES),
        Published("baseline of Cutoff", "36.2", COMPOUND, CUTOFF),
        Published("Cutoff", "37.6", COMPOUND, CUTOFF),
        Published("SimCut", "37.81", TOKENIZED, SIMCUT),
        Published("Bi-SimCut", "38.37", TOKENIZED, SIMCUT),
        *(Published(system, score, TOKENIZED) for system, score in _STUDIES.items()),
    ],
    "iwslt14.en-de": [
        *_pair("28.57", "30.72", TOKENIZED),
        Published("SimCut", "30.98", TOKENIZED, SIMCUT),
        Published("Bi-SimCut", "31.16", TOKENIZED, SIMCUT),
    ],
    "iwslt17.en-fr": _pair("35.9", "38.0", TALKS),
    "iwslt17.fr-en": _pair("36.1", "38.9", TALKS),
    "iwslt17.en-zh": _pair("26.3", "28.1", TALKS),
    "iwslt17.zh-en": _pair("18.4", "19.5", TALKS),
    "iwslt14.en-es": _pair("39.0", "41.8", TALKS),
    "iwslt14.es-en": _pair("40.6", "43.2", TALKS),
    "wmt14.en-de": [
        *_pair("29.12", "30.91", COMPOUND),
        Published("R-Drop", "29.5", SACREBLEU),
        Published("Bi-SimCut", "30.78", COMPOUND, SIMCUT),
    ],
    "wmt14.en-fr": [*_pair("42.69", "43.95", CASED), Published("R-Drop", "41.8", SACREBLEU)],
    # Released models, to check data and scoring (fairseq's examples/scaling_nmt; the paper for what it does not give).
    "fairseq.wmt16.en-de": [
        Published("Transformer big", "29.29", COMPOUND, SCALING),
        Published("Transformer big", "28.6", SACREBLEU, SCALING),
    ],
    "fairseq.wmt14.en-fr": [
        Published("Transformer big", "43.2", CASED, SCALING),
        Published("Transformer big", "41.4", SACREBLEU, SCALING),
    ],
    "cnndm": _pair("44.16/21.28/40.90", "44.51/21.58/41.24", ROUGE, "BART-large"),
    "xsum": [Published("BART-large", "45.14/22.27/37.25", ROUGE, "Lewis et al. 2020")],
    "wikitext103.transformer_lm_gpt": _pair("25.76/26.62", "23.97/24.94", PERPLEXITY),
    "wikitext103.transformer_lm_wiki103": _pair("18.94/18.87", "18.18/18.07", PERPLEXITY),
    "glue.mnli": _glue(ACCURACY, ("83.8", "85.5"), ("90.2", "90.9")),
    "glue.mrpc": _glue(ACCURACY, ("85.3", "87.3"), ("90.9", "91.4")),
    "glue.qnli": _glue(ACCURACY, ("90.8", "92.0"), ("94.7", "95.2")),
    "glue.qqp": _glue(ACCURACY, ("91.0", "91.4"), ("92.2", "92.5")),
    "glue.rte": _glue(ACCURACY, ("68.2", "71.1"), ("86.6", "88.4")),
    "glue.sst2": _glue(ACCURACY, ("92.4", "93.0"), ("96.4", "96.9")),
    "glue.stsb": _glue(PEARSON, ("89.3", "89.6"), ("92.4", "92.5")),
    "glue.cola": _glue(MATTHEWS, ("62.3", "62.6"), ("68.0", "70.0")),
    "glue.mean": _glue(GLUE_MEAN, ("82.85", "84.06"), ("88.93", "89.73")),
    "cifar100": _row(ACCURACY, **{"ViT-B/16": ("92.64", "93.29"), "ViT-L/16": ("93.44", "93.85")}),
    "imagenet": _row(ACCURACY, **{"ViT-B/16": ("83.97", "84.38"), "ViT-L/16": ("85.15", "85.57")}),
}


def benchmarks(metric: str) -> list[str]:
    """The keys of TABLE whose numbers are of this metric (of Convention), in the table's order."""
    return [name for name, rows in TABLE.items() if rows[0].convention.metric == metric]


@dataclass(frozen=True)
class Decoding:
    """Generation settings of a recipe, under fairseq's names; the defaults are fairseq's."""

    beam: int = 5
    lenpen: float = 1.0
    max_len_b: int = 200
    min_len: int = 1
    no_repeat_ngram_size: int = 0

    def options(self) -> dict[str, Any]:
        """All settings by name."""
        return asdict(self)


# WMT14 En-De: the R-Drop paper (A.1), which uses fairseq's defaults for all other pairs, En-Fr included. fairseq.*: its
# examples/scaling_nmt. Summarization: BART's README, and for CNN/DailyMail the authors' script as well.
DECODING = {
    "wmt14.en-de": Decoding(beam=4, lenpen=0.6),
    "fairseq.wmt16.en-de": Decoding(beam=4, lenpen=0.6),
    "fairseq.wmt14.en-fr": Decoding(beam=4, lenpen=0.6),
    "cnndm": Decoding(beam=4, lenpen=2.0, max_len_b=140, min_len=55, no_repeat_ngram_size=3),
    "xsum": Decoding(beam=6, lenpen=1.0, max_len_b=60, min_len=10, no_repeat_ngram_size=3),
}


def decoding(benchmark: str) -> Decoding:
    """How the recipe of `benchmark` (a key of TABLE) decodes; fairseq's defaults for any other name."""
    return DECODING.get(benchmark, Decoding())
