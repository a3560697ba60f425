"""The benchmark of language models: the naive loss and ours are the same thing, and the table has a row for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rdrop_fairseq.benchmark import language_models


@pytest.mark.parametrize("softmax", language_models.SOFTMAXES)
def test_contestants_have_one_gradient(softmax: str) -> None:
    runs = language_models.contestants(softmax, 60_100, 16, 24)
    naive, ours = (runs[name]()[0] for name in (language_models.NAIVE, language_models.OURS))
    assert (naive - ours).abs().max() < 1e-5
    assert naive.abs().max() > 1e-3


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_models, "SOFTMAXES", ("adaptive",))
    words = ["--classes", "60100", "--width", "16", "--tokens", "24", "--rounds", "1", "--threads", "1"]
    language_models.main([*words, "--out", str(tmp_path)], "benchmark lm")
    assert capsys.readouterr().out.count("| adaptive | ") == 4
    rows = json.loads((tmp_path / "lm.json").read_text())
    assert [row["loss"] for row in rows] == ["plain", "naive R-Drop", "R-Drop here", "R-Drop here, exact divergence"]
    assert all(row["MB above inputs"] > 0 for row in rows)
    with pytest.raises(SystemExit):
        language_models.main(["--classes", "60000"], "benchmark lm")
