"""From a miniature of WikiText-103's archive to perplexities and their comparison, by the scripts."""

from __future__ import annotations

import json
import math
import random
import zipfile
from pathlib import Path

import pytest
from tiny_training import run_script, succeed

from rdrop_fairseq.scoring import perplexity

pytestmark = pytest.mark.usefixtures("warm")
WORDS = ["the", "of", "and", "river", "castle", "king", "song", "@-@", "@,@", "<unk>", "=", "was", "built", "near"]
SHAPE = """
share-decoder-input-output-embed: {tied}
decoder-layers: 1
decoder-attention-heads: 2
decoder-embed-dim: 16
decoder-ffn-embed-dim: 32
dropout: 0.1
tokens-per-sample: 32
sample-break-mode: none
optimizer: adam
lr: 0.01
max-tokens: 128
tokens-per-update: 256
max-update: 12
required-batch-size-multiple: 1
log-format: simple
seed: 1
"""
CONFIGS = {
    "gpt": "arch: transformer_lm_gpt\ncriterion: label_smoothed_cross_entropy_rdrop\nlabel-smoothing: 0.0\n"
    "rdrop-alpha: 1.0" + SHAPE.format(tied="true"),
    "adaptive": "arch: transformer_lm\ncriterion: adaptive_loss_rdrop\nrdrop-alpha: 1.0\nddp-backend: legacy_ddp\n"
    "adaptive-softmax-cutoff: 6,12\nadaptive-input: true\nadaptive-input-cutoff: 6,12\ndecoder-input-dim: 16\n"
    "decoder-output-dim: 16\ntie-adaptive-weights: true" + SHAPE.format(tied="false"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wikitext")
    draw = random.Random(1)
    with zipfile.ZipFile(folder / "wikitext-103-v1.zip", "w") as archive:
        archive.writestr("wikitext-103/", "")
        for split, lines in (("train", 60), ("valid", 6), ("test", 30)):
            text = " \n = Castle = \n \n"
            text += "".join(" " + " ".join(draw.choices(WORDS, k=9)) + " \n" for _ in range(lines))
            archive.writestr(f"wikitext-103/wiki.{split}.tokens", text)
    done = run_script("prepare_wikitext103.sh", "--data", folder, "--workers", "1", DATA_MIRROR=folder.as_uri())
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'wikitext103' / 'bin'}\n"
    # as fairseq counts: three words of the title, nine of each line, and the ends of 33 lines
    assert "test has 306 tokens, 245,569 are known" in done.stderr
    return folder / "wikitext103" / "bin"


def test_what_is_prepared(data: Path) -> None:
    record = json.loads((data.parent / "manifest.json").read_text())
    assert record["complete"]
    assert record["steps"][-1]["counts"]["types"] == len((data / "dict.txt").read_text().splitlines())
    assert {f"{split}.{end}" for split in ("train", "valid", "test") for end in ("bin", "idx")} < {
        path.name for path in data.iterdir()
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_trained_scored_and_compared(data: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "tiny.yaml").write_text(f"data: {data}\ntask: language_modeling_rdrop\n{CONFIGS[name]}")
    succeed("train.sh", tmp_path / "tiny.yaml", "--save-dir", tmp_path / "run")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "rdrop_kl" in log
    assert "the loss works on logits" not in log

    results = []
    for context in (16, 24) if name == "gpt" else (16,):
        results.append(tmp_path / f"{context}.json")
        words = ["--tokens-per-sample", 32, "--context-window", context, "--out", results[-1], "--", "--cpu"]
        assert "perplexity" in succeed("score_perplexity.sh", data, tmp_path / "run" / "checkpoint_last.pt", *words)
        found = json.loads(results[-1].read_text())
        assert found["words"] == sum(found["block_words"]) == 306
        total = math.exp(sum(found["block_nll"]) / found["words"])
        assert found["perplexity"] == pytest.approx(total, rel=1e-4)
        assert 1 < total < 2 * len(WORDS)
    if name == "adaptive":
        return
    trained, words = tmp_path / "run" / "checkpoint_last.pt", ["--cpu", "--num-workers", "2"]
    loaded = perplexity.score(trained, data, "test", 32, 24, words)
    assert loaded["block_nll"] == pytest.approx(found["block_nll"])  # each in its own context
    printed = succeed("score_perplexity.sh", "compare", results[0], results[0])
    assert "difference +0.00" in printed
    assert "p 1.0000" in printed
    done = run_script("score_perplexity.sh", "compare", *results)
    assert done.returncode == 1
    assert "are not of the same blocks" in done.stderr
    # six blocks of 66 - 16 words, too long for this model, and the last one of 6 words, which alone would be scored
    words = ["--tokens-per-sample", 66, "--context-window", 16, "--out", tmp_path / "part.json", "--", "--cpu"]
    done = run_script("score_perplexity.sh", data, tmp_path / "run" / "checkpoint_last.pt", *words)
    assert done.returncode == 1
    assert "only 1 blocks of test were scored: 50 words in each" in done.stderr
    assert not (tmp_path / "part.json").exists()
