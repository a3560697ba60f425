"""From the raw archive to the comparison, by the shell scripts themselves, on miniature archives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
import small_corpora  # noqa: E402  (importmode=importlib puts no folder on the path)
from flaky_server import Site, serving  # noqa: E402

# The recipe's options stay, but the model is one that a CPU trains in seconds.
TINY = ("--arch", "transformer_tiny", "--max-epoch", "2", "--warmup-updates", "4", "--keep-last-epochs", "2")


class Scripts:
    """Runs the scripts in folders whose names have spaces, with the Python that runs the tests."""

    def __init__(self, folder: Path, mirror: str) -> None:
        self.folder = folder
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
        self.environment = {**keep, "PYTHON": sys.executable, "DATA_MIRROR": mirror, "OMP_NUM_THREADS": "1"}

    def __call__(self, script: str, *words: object) -> str:
        command = [str(ROOT / "scripts" / script), *map(str, words)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, f"{script}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def train(self, config: str, data: Path) -> Path:
        """Two epochs; returns where the checkpoints are."""
        save = self.folder / f"checkpoints of {config}"
        self("train.sh", config, data, "--save-dir", save, "--", *TINY)
        assert {"checkpoint1.pt", "checkpoint2.pt"} <= {path.name for path in save.iterdir()}
        return save

    def compare(self, results: list[Path]) -> dict:
        """What compare.sh prints as JSON."""
        return json.loads(self("compare.sh", *results, "--json"))


def test_iwslt14(tmp_path):
    mirror = tmp_path / "the mirror"
    small_corpora.iwslt_archive(mirror, count=240)  # 12 sentences of valid: fairseq skips a batch below 8
    files = {"fairseq/data/iwslt14/de-en.tgz": (mirror / "de-en.tgz").read_bytes()}
    with serving(Site(files=files, plan=["cut"], cut_after=1000)) as site:
        scripts = Scripts(tmp_path, site.url)
        words = ("--data", tmp_path / "my data", "--bpe-operations", 100, "--workers", 2)
        data = Path(scripts("prepare_iwslt14.sh", "de", "en", *words).strip())
        assert [wanted for _, wanted in site.requests] == [None, "bytes=1000-"]
    assert data == tmp_path / "my data/iwslt14.de-en/bin"
    assert (data.parent / "code").is_file()
    assert json.loads((data.parent / "manifest.json").read_text())["complete"] is True
    results = []
    for config in ("iwslt14_de_en_baseline", "iwslt14_de_en_rdrop"):
        save = scripts.train(config, data)
        averaged = save / "averaged.pt"
        scripts("average.sh", save, "--last", 2, "--output", averaged)
        results.append(tmp_path / f"{config} scores")
        scores = json.loads(scripts("score_bleu.sh", data, averaged, "--output", results[-1], "--json"))
        assert scores["benchmark"] == "iwslt14.de-en"
        assert scores["sentences"] == 25
    assert scripts.compare(results)


def test_wmt14(tmp_path):
    mirror = tmp_path / "the mirror"
    small_corpora.wmt14_archives(mirror)
    scripts = Scripts(tmp_path, f"file://{str(mirror).replace(' ', '%20')}")
    words = ("--data", tmp_path / "my data", "--bpe-operations", 150, "--workers", 2)
    data = Path(scripts("prepare_wmt14_en_de.sh", *words).strip())
    assert data == tmp_path / "my data/wmt14.en-de/bin"
    results = []
    for config in ("wmt14_en_de_base_baseline", "wmt14_en_de_base_rdrop"):
        save = scripts.train(config, data)
        results.append(tmp_path / f"{config} scores")
        averaging = ("--average-last", 2, "--output", results[-1])
        scores = json.loads(scripts("score_bleu.sh", data, save, *averaging, "--json"))
        assert scores["benchmark"] == "wmt14.en-de"
        assert scores["made"]["plain_reference"].endswith("newstest2014-deen-ref.de.sgm")
    assert scripts.compare(results)


def test_a_missing_archive_is_one_sentence(tmp_path):
    scripts = Scripts(tmp_path, f"file://{tmp_path}/nothing")
    command = [str(ROOT / "scripts/prepare_wmt14_en_fr.sh"), "--data", str(tmp_path / "data")]
    done = subprocess.run(command, env=scripts.environment, capture_output=True, text=True)
    assert done.returncode == 1
    said = done.stderr.strip().split("\n")
    assert said[-1].startswith("error: training-parallel-europarl-v7.tgz could not be fetched (file://")
    assert "Traceback" not in done.stderr
