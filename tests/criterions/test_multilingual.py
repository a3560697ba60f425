"""fairseq's multilingual tasks: language tokens in the input, a model and a batch for each pair of languages."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_fairseq
from tiny_fairseq import PLAIN, RDROP, SMALL

PAIRS = ["--lang-pairs", "xx-yy,yy-xx"]
TASKS = {
    "translation_multi_simple_epoch": [
        *("--arch", "transformer", "--encoder-langtok", "tgt", "--decoder-langtok", "--virtual-epoch-size", "100"),
        *("--sampling-method", "temperature", "--sampling-temperature", "1.5"),
    ],
    "multilingual_translation": ["--arch", "multilingual_transformer"],
}


@pytest.mark.parametrize("task", TASKS)
def test_two_equal_views_cost_twice_as_much(tmp_path: Path, task: str) -> None:
    """Without dropout: each sentence of both views has its language tokens and its target."""
    tiny_fairseq.write_corpus(tmp_path, copy=False)
    logged = []
    for criterion in (PLAIN, RDROP):
        words = [str(tmp_path), "--task", task, *TASKS[task], *PAIRS, *SMALL, "--dropout", "0", "--cpu", *criterion]
        session = tiny_fairseq.start(tiny_fairseq.parsed([*words, *tiny_fairseq.common_options(words)]), splits=())
        batches = session.trainer.get_train_iterator(1).next_epoch_itr(shuffle=False)
        logged.append(session.update(next(batches)))
    plain, rdrop = logged
    assert rdrop["loss"] == pytest.approx(2 * plain["loss"], rel=1e-5)
    assert rdrop["nll_loss"] == pytest.approx(plain["nll_loss"], rel=1e-5)
    assert rdrop["gnorm"] == pytest.approx(2 * plain["gnorm"], rel=1e-4)
    assert rdrop["rdrop_kl"] == pytest.approx(0, abs=1e-6)
