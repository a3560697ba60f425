"""benchmark/text.py: it runs, its text has the shape it says, and its table follows from what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdrop_fairseq.benchmark import text


def test_generated_text_is_zipfian_and_repeatable() -> None:
    lines = text.generated(400)
    assert lines == text.generated(400)
    assert all(len(line.replace(" (", "(").replace(' "', '"').replace(" –", "").split()) == 25 for line in lines)
    words = [word for line in lines for word in line.split()]
    assert 0.2 < len(set(words)) / len(words) < 0.6


def test_input_is_regrouped(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a b c\n" * 20)
    lines = text.regrouped(tmp_path / "in")
    assert [len(line.split()) for line in lines] == [25, 25]
    assert lines[0].startswith("a b c a")


def test_report_projects_from_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "steps", lambda lang, lines: {"normalize": 9000.0, "lower": 5000.0})
    monkeypatch.setattr(text, "sacremoses_steps", lambda lang, lines: {"normalize": 3000.0})
    monkeypatch.setattr(text, "whole", lambda lang, lines, workers: (1.0, 10_000.0, 1e9))
    table = text.report("de", ["x"], 2)
    assert "| normalize | 9,000 | 3,000 | 3.0 |" in table
    assert "| WMT14 En-Fr | 35,800,000 | 448 s |" in table  # 71.6e6 / (16 * 10,000) seconds


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text("Das ist ein „Satz“, der 5 Wörter hat. Und so weiter.\n" * 60, encoding="utf-8")
    text.main(["--input", str(tmp_path / "in"), "--lang", "de", "--workers", "1"], "benchmark text")
    out = capsys.readouterr().out
    assert out.count("| tokenize -a |") == 1
    assert "WMT14 En-De" in out
