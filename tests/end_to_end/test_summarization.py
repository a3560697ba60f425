"""From story archives to a ROUGE score by the scripts: prepare, fine-tune a tiny BART with R-Drop, summarize, score."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
import tiny_bart

from rdrop_fairseq.corpus.stories import file_name

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TRAIN, VALID, TEST = range(24), range(24, 28), range(28, 34)

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
    "total-num-update": "50",
    "lr-scheduler": "polynomial_decay",
}


def config(data: Path, model: Path) -> str:
    lines = [f"{name}: {value}" for name, value in OPTIONS.items() if name not in ("max-tokens", "seed",
             "required-batch-size-multiple")]  # fmt: skip
    return CONFIG.format(data=data, model=model, options="\n".join(lines))


def script(name: str, *words: object, stdin: str | None = None, **environment: str) -> str:
    """Runs a script with this Python; returns its stdout."""
    done = subprocess.run(
        [str(SCRIPTS / name), *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def mirror(
    gpt2_files: Path, tmp_path: Path, story: Callable[[int], bytes], make_tar: Callable[[Path, dict[str, bytes]], None]
) -> Path:
    """Everything that is downloaded: two archives (one story is missing), three lists, the BPE, BART's dictionary."""
    folder = tmp_path / "mirror"
    shutil.copytree(gpt2_files, folder)
    urls = {number: f"http://example.org/{number}" for number in (*TRAIN, *VALID, *TEST)}
    for split, numbers in (("train", TRAIN), ("val", VALID), ("test", TEST)):
        (folder / f"all_{split}.txt").write_text("".join(f"{urls[number]}\n" for number in numbers))
    for name, rest in (("cnn", 0), ("dailymail", 1)):
        inside = {
            f"{name}/stories/{file_name(urls[number])}": story(number)
            for number in urls
            if number % 2 == rest and number != 3
        }
        make_tar(folder / f"{name}_stories.tgz", inside)
    for side in ("source", "target"):
        shutil.copy(folder / "dict.txt", folder / f"dict.{side}.txt")
    model = tiny_bart.publish(tiny_bart.task_and_model(folder)[1], tmp_path / "model.pt", dummies=5)
    entries = (folder / "dict.txt").read_bytes() + b"".join(b"madeupword%04d 0\n" % n for n in range(3, 8))
    for name in ("bart.base", "bart.large"):
        inside = {f"{name}/model.pt": model.read_bytes(), f"{name}/dict.txt": entries}
        make_tar(folder / f"{name}.tar.gz", inside)
    return folder


def test_stories_to_rouge(mirror: Path, tmp_path: Path) -> None:
    out, save = tmp_path / "cnn dm", tmp_path / "run"
    printed = script("prepare_cnndm.sh", "--out", out, "--models", tmp_path, DATA_MIRROR=mirror.as_uri())
    assert printed == f"{out / 'bin'}\n"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["sentence_pairs"] == {"train": len(TRAIN) - 1, "val": len(VALID), "test": len(TEST)}
    assert (out / "text" / "train.missing").read_text() == "http://example.org/3\n"

    model = tmp_path / "bart.base" / "model.pt"
    (tmp_path / "tiny.yaml").write_text(config(out / "bin", model))
    script("train.sh", tmp_path / "tiny.yaml", "--save-dir", save)
    log = (save / "train.log").read_text()
    assert f"loading pretrained model from {model}" in log
    assert log.count("6 rows of dummy dictionary entries (and <mask>) are dropped") == 1
    for name in ("valid_rouge1", "rouge2", "rougeLsum", "rdrop_kl"):
        assert name.replace("valid_", "") in log, log[-3000:]
    assert "best_rougeLsum" in log

    articles, summaries = out / "text" / "test.source", tmp_path / "test.hyp"
    settings = ["--preset", "xsum", "--beam", "2", "--max-len-b", "12", "--min-len", "1"]
    script("summarize.sh", save / "checkpoint_best.pt", out / "bin", articles, "--out", summaries, *settings)
    assert len(summaries.read_text().splitlines()) == len(TEST)
    two = "".join(articles.read_text().splitlines(keepends=True)[:2])
    streamed = script("summarize.sh", save / "checkpoint_best.pt", out / "bin", *settings, stdin=two)
    assert streamed.splitlines() == summaries.read_text().splitlines()[:2]

    references = out / "text" / "test.target"
    printed = script("score_rouge.sh", summaries, references, "--published", "cnndm", "--samples", "50")
    assert "41.24" in printed
    scores = json.loads((tmp_path / "test.hyp.rouge.json").read_text())
    assert scores["documents"] == len(TEST)
    assert set(scores["conventions"]) == {
        "rouge-score", "rouge-score+stem", "rouge-1.5.5-ptb", "rouge-1.5.5-ptb+stem"
    }  # fmt: skip
