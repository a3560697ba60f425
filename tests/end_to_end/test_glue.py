"""GLUE by the scripts on miniature archives with a tiny RoBERTa: prepare, train over seeds, table, predict."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_glue import sentences, write_archives
from tiny_roberta import write_roberta
from tiny_training import ROOT, run_script, succeed

pytestmark = pytest.mark.usefixtures("warm")
TINY = [
    *("--encoder-layers", "1", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16", "--cpu"),
    *("--encoder-attention-heads", "2", "--max-positions", "64", "--num-workers", "0", "--max-update", "6"),
    *("--total-num-update", "6", "--warmup-updates", "1", "--lr", "0.01"),
]


@pytest.fixture(scope="module")
def root(gpt2_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's configs, the data of two tasks, and a pretrained model of the tiny size."""
    folder = tmp_path_factory.mktemp("check out")
    shutil.copytree(gpt2_files, folder / "mirror")
    write_archives(folder / "mirror", "MRPC", "STS-B")
    shutil.copytree(ROOT / "configs", folder / "configs")
    words = ["mrpc", "STS-B", "--data", folder / "data", "--workers", "2"]
    printed = succeed("prepare_glue.sh", *words, "--no-model", DATA_MIRROR=str(folder / "mirror"))
    tasks = ("mrpc", "stsb")
    assert printed.split("\n")[:-1] == [str(folder / "data" / "glue" / task / "bin") for task in tasks]
    write_roberta(folder / "mirror", folder / "data" / "glue" / "mrpc" / "bin")
    words = ["mrpc", "--data", folder / "data", "--models", folder / "data"]
    succeed("prepare_glue.sh", *words, DATA_MIRROR=str(folder / "mirror"))
    return folder


def glue(root: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rdrop_fairseq", "glue", "--root", root]
    return run_script(*command, *words, "--", *TINY, PYTHONPATH=str(ROOT), **environment)


def test_from_archives_to_the_table_and_predictions(root: Path, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    done = glue(root, "mrpc", "--seeds", "1", "2", RDROP_STOP_FILE=str(tmp_path / "stop"))
    assert done.returncode == 1  # after one update; below it resumes
    assert "glue_mrpc_roberta_large_baseline.seed1 was stopped at update 1 of 6" in done.stderr
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
    printed = succeed("predict.sh", checkpoint, data, stdin=text).splitlines()
    assert len(printed) == 6
    assert all(line.split("\t")[0] in "01" and 0.5 <= float(line.split("\t")[1]) <= 1 for line in printed)
    out = tmp_path / "submission"
    assert succeed("predict.sh", checkpoint, data, "--glue", "mrpc", "--out", out) == f"{out / 'MRPC.tsv'}\n"
    rows = (out / "MRPC.tsv").read_text().splitlines()
    assert rows[0] == "index\tprediction"
    assert rows[1:] == [f"{n}\t{line.split()[0]}" for n, line in enumerate(printed)]  # the same six pairs

    [checkpoint] = trained.glob("glue_stsb_roberta_large_rdrop.seed*/checkpoint_best.pt")
    succeed("predict.sh", checkpoint, root / "data" / "glue" / "stsb" / "bin", "--glue", "stsb", "--out", out)
    scores = [float(line.split("\t")[1]) for line in (out / "STS-B.tsv").read_text().splitlines()[1:]]
    assert len(scores) == 6
    assert all(0 <= score <= 5 for score in scores)


def test_what_is_wrong_is_said_in_a_line(root: Path, tmp_path: Path) -> None:
    done = glue(root, "rte", "--seeds", "1")
    assert done.returncode == 1
    assert "data/glue/rte/bin: make it with scripts/prepare_glue.sh rte" in done.stderr
    assert not (root / "outputs" / "glue" / "glue_rte_roberta_large_rdrop.seed1").exists()
