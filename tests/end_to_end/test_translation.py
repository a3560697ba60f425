"""From the raw archive to the comparison, by the shell scripts themselves, on miniature archives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_corpora
from flaky_server import Site, serving
from tiny_training import run_script, succeed

pytestmark = pytest.mark.usefixtures("warm")
# The recipe's options stay, but the model is one that a CPU trains in seconds.
TINY = ("--arch", "transformer_tiny", "--max-epoch", "2", "--warmup-updates", "4", "--keep-last-epochs", "2")


def train(folder: Path, config: str, data: Path) -> Path:
    """Two epochs; returns where the checkpoints are, in a folder whose name has spaces."""
    save = folder / f"checkpoints of {config}"
    succeed("train.sh", config, data, "--save-dir", save, "--", *TINY, cwd=folder)
    assert {"checkpoint1.pt", "checkpoint2.pt"} <= {path.name for path in save.iterdir()}
    return save


def test_iwslt14(tmp_path):
    mirror = tmp_path / "the mirror"
    small_corpora.iwslt_archive(mirror, count=240)  # 12 sentences of valid: fairseq skips a batch below 8
    files = {"fairseq/data/iwslt14/de-en.tgz": (mirror / "de-en.tgz").read_bytes()}
    with serving(Site(files=files, plan=["cut"], cut_after=1000)) as site:
        words = ("de", "en", "--data", tmp_path / "my data", "--bpe-operations", 100, "--workers", 2)
        data = Path(succeed("prepare_iwslt14.sh", *words, cwd=tmp_path, DATA_MIRROR=site.url).strip())
        assert [wanted for _, wanted in site.requests] == [None, "bytes=1000-"]
    assert data == tmp_path / "my data/iwslt14.de-en/bin"
    assert (data.parent / "code").is_file()
    assert json.loads((data.parent / "manifest.json").read_text())["complete"] is True
    results = []
    for config in ("iwslt14_de_en_baseline", "iwslt14_de_en_rdrop"):
        save = train(tmp_path, config, data)
        averaged = save / "averaged.pt"
        succeed("average.sh", save, "--last", 2, "--output", averaged)
        results.append(tmp_path / f"{config} scores")
        scores = json.loads(succeed("score_bleu.sh", data, averaged, "--output", results[-1], "--json"))
        assert scores["benchmark"] == "iwslt14.de-en"
        assert scores["sentences"] == 25
    assert json.loads(succeed("compare.sh", *results, "--json"))["sentences"] == 25


def test_wmt14(tmp_path):
    mirror = tmp_path / "the mirror"
    small_corpora.wmt14_archives(mirror)
    words = ("--data", tmp_path / "my data", "--bpe-operations", 150, "--workers", 2)
    data = Path(succeed("prepare_wmt14_en_de.sh", *words, cwd=tmp_path, DATA_MIRROR=mirror.as_uri()).strip())
    assert data == tmp_path / "my data/wmt14.en-de/bin"
    results = []
    for config in ("wmt14_en_de_base_baseline", "wmt14_en_de_base_rdrop"):
        save = train(tmp_path, config, data)
        results.append(tmp_path / f"{config} scores")
        averaging = ("--average-last", 2, "--output", results[-1])
        scores = json.loads(succeed("score_bleu.sh", data, save, *averaging, "--json"))
        assert scores["benchmark"] == "wmt14.en-de"
        assert scores["made"]["plain_reference"].endswith("newstest2014-deen-ref.de.sgm")
    assert json.loads(succeed("compare.sh", *results, "--json"))["comparisons"]


def test_a_missing_archive_is_one_sentence(tmp_path):
    mirror = f"file://{tmp_path}/nothing"
    done = run_script("prepare_wmt14_en_fr.sh", "--data", tmp_path / "data", DATA_MIRROR=mirror)
    assert done.returncode == 1
    said = done.stderr.strip().split("\n")
    assert said[-1].startswith("error: training-parallel-europarl-v7.tgz could not be fetched (file://")
    assert "Traceback" not in done.stderr
