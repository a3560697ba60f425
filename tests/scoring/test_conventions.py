"""Each convention against the tool that it is named after."""

from pathlib import Path

import pytest
import sacrebleu
from sacrebleu.metrics import CHRF

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import conventions

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def corpus():
    return [(GOLDEN / f"{side}.tok.de").read_text(encoding="utf-8").rstrip("\n").split("\n") for side in ("hyp", "ref")]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("language", ["de", "zh"])
def test_sacrebleu_and_chrf_are_sacrebleus(corpus, lowercase, language):
    hyp, ref = (lines[:100] for lines in corpus)
    tokenize = "zh" if language == "zh" else "13a"
    bleu = conventions.score("sacrebleu", hyp, [ref], language, lowercase)
    assert bleu.score == sacrebleu.corpus_bleu(hyp, [ref], lowercase=lowercase, tokenize=tokenize, force=True).score
    case = "lc" if lowercase else "mixed"
    assert bleu.signature == f"nrefs:1|case:{case}|eff:no|tok:{tokenize}|smooth:exp|version:{sacrebleu.__version__}"
    chrf = conventions.score("chrf2", hyp, [ref], language, lowercase)
    assert chrf.score == pytest.approx(CHRF(lowercase=lowercase).corpus_score(hyp, [ref]).score)
    assert chrf.signature.startswith(f"nrefs:1|case:{case}|eff:yes|nc:6|nw:0|")


def test_signatures_say_what_differs():
    signatures = {
        conventions.score(name, ["a b c d"], [["a b c d"]] * references, lowercase=lowercase).signature
        for name in conventions.TITLES
        for references in (1, 2)
        for lowercase in (False, True)
    }
    assert len(signatures) == 4 * 2 * 2


@pytest.mark.parametrize("convention", conventions.TITLES)
@pytest.mark.parametrize(
    ("hyp", "ref", "message"),
    [(["", " "], ["a", "b"], "the hypothesis has no words"), (["a"], [""], "the reference has no words")],
)
def test_nothing_to_score(convention, hyp, ref, message):
    with pytest.raises(UserError, match=message):
        conventions.score(convention, hyp, [ref])
