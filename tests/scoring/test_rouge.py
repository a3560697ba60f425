"""The bootstrap over documents, and the report of ROUGE."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import rouge

PTB_STEM = rouge.CONVENTIONS[-1]


def test_intervals_cover_the_mean_and_know_certainty() -> None:
    scores = np.linspace(0, 1, 200).reshape(200, 1)
    mean, low, high = rouge.intervals(scores)[:, 0]
    # standard error of the mean: sqrt(1/12 / 200) = 2.04 %, so about 46.0 to 54.0
    assert mean == pytest.approx(50)
    assert (low, high) == (pytest.approx(46.0, abs=0.5), pytest.approx(54.0, abs=0.5))
    assert rouge.intervals(np.full((5, 1), 0.25)).ravel().tolist() == [25, 25, 25]
    assert (rouge.intervals(scores, seed=1) == rouge.intervals(scores, seed=1)).all()
    assert (rouge.intervals(scores, seed=1) != rouge.intervals(scores, seed=2)).any()


def test_same_for_any_number_of_workers() -> None:
    hypotheses, references = ["A b c.", "D e. F g.", ""] * 20, ["A b.", "F g. D e.", "h"] * 20
    one = rouge.score_all(hypotheses, references, PTB_STEM)
    assert one.shape == (60, 4, 3)
    assert (one == rouge.score_all(hypotheses, references, PTB_STEM, workers=2)).all()


def test_command_prints_and_writes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hypotheses, references = tmp_path / "a b.hyp", tmp_path / "ref"
    hypotheses.write_text("police kill the gunman today\n\n", encoding="utf-8")
    references.write_text("police killed the gunman\nx y\n", encoding="utf-8")
    rouge.main(["--hyp", str(hypotheses), "--ref", str(references), "--published", "cnndm"], prog="rouge")
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "a b.hyp.rouge.json").read_text(encoding="utf-8"))
    mean = result["conventions"]["rouge-score"]["rouge1"]["f1"]["mean"]
    assert mean == pytest.approx(100 / 3)
    assert f"{mean:.2f} [" in printed
    assert result["empty_summaries"] == 1
    assert "1 summaries are empty" in printed
    assert result["versions"]["rouge-score"]
    published = printed[printed.index("published elsewhere, not measured here") :]
    assert "41.24" in published
    assert "as rouge-1.5.5-ptb+stem:" in published  # the row to compare: files2rouge stems
    assert [row["score"] for row in result["published"]] == ["44.16/21.28/40.90", "44.51/21.58/41.24"]


def test_files_of_different_length_are_refused(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("a\nb\n")
    (tmp_path / "r").write_text("a\n")
    with pytest.raises(UserError, match="2 summaries for 1 references"):
        rouge.main(["--hyp", str(tmp_path / "h"), "--ref", str(tmp_path / "r")], prog="rouge")
    assert not list(tmp_path.glob("*.json"))


HIGHLIGHTS = ("Police killed the gunman", "Two people were hurt", "The mayor praised the officers")


def test_references_without_sentence_ends_lower_only_lsum_and_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three highlights, found in another order, with periods and without: of 13 words, 9 are in order."""
    found = (HIGHLIGHTS[1], HIGHLIGHTS[2], HIGHLIGHTS[0])
    scores = {}
    for name, end in (("with", "."), ("without", "")):
        (tmp_path / "hyp").write_text(" ".join(line + end for line in found) + "\n")
        (tmp_path / name).write_text(" ".join(line + end for line in HIGHLIGHTS) + "\n")
        rouge.main(["--hyp", str(tmp_path / "hyp"), "--ref", str(tmp_path / name), "--workers", "1"], prog="rouge")
        err = capsys.readouterr().err
        assert ("1 of 1 references have no sentence end" in err) == (name == "without")
        result = json.loads((tmp_path / "hyp.rouge.json").read_text())["conventions"]["rouge-1.5.5-ptb"]
        scores[name] = {kind: result[kind]["f1"]["mean"] for kind in ("rouge1", "rouge2", "rougeLsum")}
    assert scores["with"].pop("rougeLsum") == pytest.approx(100)
    assert scores["without"].pop("rougeLsum") == pytest.approx(100 * 9 / 13)
    assert scores["with"] == scores["without"]
