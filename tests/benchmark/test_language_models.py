"""The benchmark of language models: the naive loss and ours are the same thing, and the table has a row for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdrop_fairseq.benchmark import language_models


@pytest.mark.parametrize("softmax", language_models.SOFTMAXES)
def test_contestants_have_one_gradient(softmax: str) -> None:
    gradients = []
    for system in ("naive R-Drop", "R-Drop here"):
        run = language_models.work(softmax, system, 60_100, 16, 24, "cpu")
        run()
        features = next(cell.cell_contents for cell in run.__closure__ if getattr(cell.cell_contents, "ndim", 0) == 3)
        gradients.append(features.grad)
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5
    assert gradients[0].abs().max() > 1e-3


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_models, "SOFTMAXES", ("adaptive",))
    words = ["--classes", "60100", "--width", "16", "--tokens", "24", "--rounds", "1", "--threads", "1"]
    assert language_models.main([*words, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("| adaptive | ") == 3
    assert len((tmp_path / "lm.csv").read_text().splitlines()) == 4
    with pytest.raises(SystemExit):
        language_models.main(["--classes", "60000"])
