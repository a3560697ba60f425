"""From story archives to a ROUGE score by the scripts: prepare, fine-tune a tiny BART with R-Drop, summarize, score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest
import small_news
import tiny_bart
from tiny_training import succeed

pytestmark = pytest.mark.usefixtures("warm")
TRAIN, VALID, TEST = 24, 4, 6  # stories

CONFIG = """
data: {data}
task: summarization_rdrop
source-lang: source
target-lang: target
truncate-source-length: 48
{options}
layernorm-embedding: true
share-all-embeddings: true
share-decoder-input-output-embed: true
finetune-from-model: {model}
activation-dropout: 0.1
max-tokens: 256
tokens-per-update: 512
max-epoch: 2
required-batch-size-multiple: 1
eval-rouge: true
eval-rouge-args: '{{"beam": 2, "max_len_b": 12, "min_len": 1}}'
best-checkpoint-metric: rougeLsum
maximize-best-checkpoint-metric: true
log-format: simple
seed: 1
"""
OPTIONS = {
    **{name: value for name, value in tiny_bart.OPTIONS.items() if name not in ("task", "source-lang", "target-lang")},
    "max-source-positions": "1024",
    "max-target-positions": "1024",
    "total-num-update": "50",
    "lr-scheduler": "polynomial_decay",
}


def config(data: Path, model: Path) -> str:
    lines = [f"{name}: {value}" for name, value in OPTIONS.items() if name not in ("max-tokens", "seed",
             "required-batch-size-multiple")]  # fmt: skip
    return CONFIG.format(data=data, model=model, options="\n".join(lines))


def test_stories_to_rouge(gpt2_files: Path, story: Callable[[int], bytes], tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    small_news.news(mirror, gpt2_files, story, (TRAIN, VALID, TEST), lacking=(3,), dummies=5)
    out, save = tmp_path / "cnn dm", tmp_path / "run"
    printed = succeed("prepare_cnndm.sh", "--out", out, "--models", tmp_path, DATA_MIRROR=mirror.as_uri())
    assert printed == f"{out / 'bin'}\n"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["sentence_pairs"] == {"train": TRAIN - 1, "val": VALID, "test": TEST}
    assert (out / "text" / "train.missing").read_text() == "http://example.org/3\n"

    model = tmp_path / "bart.base" / "model.pt"
    (tmp_path / "tiny.yaml").write_text(config(out / "bin", model))
    succeed("train.sh", tmp_path / "tiny.yaml", "--save-dir", save)
    log = (save / "train.log").read_text()
    assert f"loading pretrained model from {model}" in log
    assert log.count("6 rows of dummy dictionary entries (and <mask>) are dropped") == 1
    for name in ("valid_rouge1", "rouge2", "rougeLsum", "rdrop_kl"):
        assert name.replace("valid_", "") in log, log[-3000:]
    assert "best_rougeLsum" in log

    articles, summaries = out / "text" / "test.source", tmp_path / "test.hyp"
    settings = ["--preset", "xsum", "--beam", "2", "--max-len-b", "12", "--min-len", "1"]
    succeed("summarize.sh", save / "checkpoint_best.pt", out / "bin", articles, "--out", summaries, *settings)
    assert len(summaries.read_text().splitlines()) == TEST
    two = "".join(articles.read_text().splitlines(keepends=True)[:2])
    streamed = succeed("summarize.sh", save / "checkpoint_best.pt", out / "bin", *settings, stdin=two)
    assert streamed.splitlines() == summaries.read_text().splitlines()[:2]

    references = out / "text" / "test.target"
    printed = succeed("score_rouge.sh", summaries, references, "--published", "cnndm", "--samples", "50")
    assert "41.24" in printed
    scores = json.loads((tmp_path / "test.hyp.rouge.json").read_text())
    assert scores["documents"] == TEST
    assert set(scores["conventions"]) == {
        "rouge-score", "rouge-score+stem", "rouge-1.5.5-ptb", "rouge-1.5.5-ptb+stem"
    }  # fmt: skip
