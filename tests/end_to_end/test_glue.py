"""GLUE by the scripts on miniature archives with a tiny RoBERTa: prepare, train over seeds, table, predict."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Callable

import pytest
import torch
from small_glue import sentences, write_archives
from tiny_bart import write_published

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
TINY = [
    *("--encoder-layers", "1", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16", "--cpu"),
    *("--encoder-attention-heads", "2", "--max-positions", "64", "--num-workers", "0", "--max-update", "6"),
    *("--total-num-update", "6", "--warmup-updates", "1", "--lr", "0.01"),
]


def run(*words: object, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run([*map(str, words)], input=stdin, capture_output=True, text=True, env=whole, timeout=300)


def ok(*words: object, stdin: str | None = None, **environment: str) -> str:
    done = run(*words, stdin=stdin, **environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def root(
    gpt2_files: Path, tmp_path_factory: pytest.TempPathFactory, make_tar: Callable[[Path, dict[str, bytes]], None]
) -> Path:
    """A checkout's configs, the data of two tasks, and a pretrained model of the tiny size."""
    folder = tmp_path_factory.mktemp("check out")
    shutil.copytree(gpt2_files, folder / "mirror")
    write_archives(folder / "mirror", "MRPC", "STS-B")
    shutil.copytree(ROOT / "configs", folder / "configs")
    words = ["mrpc", "STS-B", "--data", folder / "data", "--workers", "2"]
    printed = ok(SCRIPTS / "prepare_glue.sh", *words, "--no-model", DATA_MIRROR=str(folder / "mirror"))
    tasks = ("mrpc", "stsb")
    assert printed.split("\n")[:-1] == [str(folder / "data" / "glue" / task / "bin") for task in tasks]
    args = Namespace(arch="roberta_large", task="masked_lm", data="/elsewhere", tokens_per_sample=64)
    state = pretrained(folder / "data" / "glue" / "mrpc" / "bin")
    model = write_published(state, args, folder / "model.pt").read_bytes()
    dictionary = (folder / "mirror" / "dict.txt").read_bytes()
    inside = {"roberta.large/model.pt": model, "roberta.large/dict.txt": dictionary, "roberta.large/NOTE": b"note\n"}
    make_tar(folder / "mirror" / "roberta.large.tar.gz", inside)
    words = ["mrpc", "--data", folder / "data", "--models", folder / "data"]
    ok(SCRIPTS / "prepare_glue.sh", *words, DATA_MIRROR=str(folder / "mirror"))
    return folder


def pretrained(data: Path) -> dict[str, torch.Tensor]:
    """Weights under the names that RoBERTa was published with: no heads, decoder in place of encoder, queries, keys
    and values in one matrix."""
    from tiny_roberta import RDROP, session

    sizes = ["--encoder-layers", "1", "--encoder-ffn-embed-dim", "16", "--max-positions", "64"]
    state = session(data, *RDROP, *sizes).model.state_dict()
    attention = "encoder.sentence_encoder.layers.0.self_attn"
    for kind in ("weight", "bias"):
        parts = [state.pop(f"{attention}.{part}_proj.{kind}") for part in "qkv"]
        state[f"{attention}.in_proj_{kind}"] = torch.cat(parts)
    return {
        name.replace("encoder.", "decoder.", 1).replace(".layernorm_embedding.", ".emb_layer_norm."): value
        for name, value in state.items()
        if not name.startswith("classification_heads.")
    }


def glue(root: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "rdrop_fairseq", "glue", "--root", root, *words, "--", *TINY, PYTHONPATH=str(ROOT))


def test_from_archives_to_the_table_and_predictions(root: Path, tmp_path: Path) -> None:
    done = glue(root, "mrpc", "--seeds", "1", "2")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "[4/4] glue_mrpc_roberta_large_rdrop, seed 2" in done.stderr
    done = glue(root, "mrpc", "sts-b", "--seeds", "1")
    assert "[2/2] glue_stsb_roberta_large_rdrop, seed 1" in done.stderr
    lines = (root / "outputs" / "glue" / "table.md").read_text().splitlines()
    assert lines == done.stdout.splitlines()[-4:]
    assert lines[2].startswith("| MRPC | accuracy | 1 | ")
    assert lines[2].endswith(" | 90.9 | 91.4 |")
    assert lines[3].startswith("| STS-B | Pearson | 1 | ")
    for task, metric in (("mrpc", "accuracy"), ("stsb", "pearson")):
        folders = sorted((root / "outputs" / "glue").glob(f"glue_{task}_roberta_large_rdrop.seed*"))
        results = [json.loads((folder / "result.json").read_text()) for folder in folders]
        assert {result["metric"] for result in results} == {metric}
        best = max(range(len(results)), key=lambda n: (results[n]["best"], -n))
        kept = [(folder / "checkpoint_best.pt").exists() for folder in folders]
        assert kept == [n == best for n in range(len(results))]
        log = (folders[0] / "train.log").read_text()
        assert f"best_{metric} {results[0]['best']:g}" in log
        assert "loading pretrained model from" in log
        assert "rdrop_kl" in log if task == "mrpc" else "rdrop_distance" in log
    again = glue(root, "mrpc", "--seeds", "1", "2")  # nothing is trained a second time
    assert again.stdout.splitlines()[2].startswith("| MRPC | accuracy | 2 | ")
    assert "[1/" not in again.stderr

    trained = root / "outputs" / "glue"
    [checkpoint] = trained.glob("glue_mrpc_roberta_large_rdrop.seed*/checkpoint_best.pt")
    data = root / "data" / "glue" / "mrpc" / "bin"
    pairs = [sentences(2000 + n)[:2] for n in range(6)]
    text = "".join(f"{first}\t{second}\n" for first, second in pairs)
    printed = ok(SCRIPTS / "predict.sh", checkpoint, data, stdin=text).splitlines()
    assert len(printed) == 6
    assert all(line.split("\t")[0] in "01" and 0.5 <= float(line.split("\t")[1]) <= 1 for line in printed)
    out = tmp_path / "submission"
    assert ok(SCRIPTS / "predict.sh", checkpoint, data, "--glue", "mrpc", "--out", out) == f"{out / 'MRPC.tsv'}\n"
    rows = (out / "MRPC.tsv").read_text().splitlines()
    assert rows[0] == "index\tprediction"
    assert rows[1:] == [f"{n}\t{line.split()[0]}" for n, line in enumerate(printed)]  # the same six pairs

    [checkpoint] = trained.glob("glue_stsb_roberta_large_rdrop.seed*/checkpoint_best.pt")
    ok(SCRIPTS / "predict.sh", checkpoint, root / "data" / "glue" / "stsb" / "bin", "--glue", "stsb", "--out", out)
    scores = [float(line.split("\t")[1]) for line in (out / "STS-B.tsv").read_text().splitlines()[1:]]
    assert len(scores) == 6
    assert all(0 <= score <= 5 for score in scores)


def test_what_is_wrong_is_said_in_a_line(root: Path, tmp_path: Path) -> None:
    done = glue(root, "rte", "--seeds", "1")
    assert done.returncode == 1
    assert "data/glue/rte/bin: make it with scripts/prepare_glue.sh rte" in done.stderr
    assert not (root / "outputs" / "glue" / "glue_rte_roberta_large_rdrop.seed1").exists()
