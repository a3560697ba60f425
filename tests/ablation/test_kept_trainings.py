"""The trainings that scripts/experiment/runs.tar.xz keeps: their scores are those of their translations."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import sacrebleu

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    subprocess.run(["tar", "-xJf", "scripts/experiment/runs.tar.xz", "-C", str(folder)], cwd=ROOT, check=True)
    return folder / "experiment"


def bleu(folder: Path) -> float:
    """BLEU of a translation's tokens, by sacreBLEU itself."""
    texts = [(folder / name).read_text().rstrip("\n").split("\n") for name in ("hyp.tok", "ref.tok.0")]
    return float(sacrebleu.corpus_bleu(texts[0], texts[1:], tokenize="none", smooth_method="none", force=True).score)


def test_the_report_has_the_scores_of_the_translations(kept: Path) -> None:
    report = json.loads((kept / "report.json").read_text())
    assert len(report["systems"]) >= 2
    for row in report["systems"]:
        for seed, score in zip(row["seeds"], row["scores"]["seeds"]):
            assert bleu(kept / "runs" / f"{row['system']}.seed{seed}" / "test") == pytest.approx(score, abs=1e-9)


def test_the_document_has_them_rounded(kept: Path) -> None:
    text = (ROOT / "scripts" / "experiment" / "README.md").read_text()
    for folder in sorted(kept.glob("**/runs/*/test")):
        assert f"| {bleu(folder):.2f} |" in text, folder


def test_its_paths_are_of_no_machine(kept: Path) -> None:
    """Roots were renamed, by words of the same length: the CPU clock counts the bytes of a log."""
    texts = [path.read_text() for path in kept.rglob("*") if path.is_file()]
    roots = {root for text in texts for root in re.findall(r"(?<![\w.\-<>/:])/(\w+)/\w", text)}
    assert roots == {"path", "dir"}
