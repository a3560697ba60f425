"""The memory table of BART on a tiny one; the figures themselves are no test."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import tiny_bart
import torch

from rdrop_fairseq.benchmark import memory


def test_a_step_of_each_method(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [word for name, value in tiny_bart.OPTIONS.items() if "coder-" in name for word in (f"--{name}", value)]
    monkeypatch.setattr(memory, "CLASSES", 4000)
    monkeypatch.setattr(memory, "BATCHES", {"b": (1, 100, 600)})
    methods = {name: (criterion, [*model, *sizes]) for name, (criterion, model) in memory.METHODS.items()}
    monkeypatch.setattr(memory, "METHODS", methods)
    file = tmp_path / "table.csv"
    memory.main(["--models", "base", "--steps", "1", "--threads", "1", "--csv", str(file)], "benchmark memory")
    with file.open(encoding="utf-8") as lines:
        found = {row["method"]: row for row in csv.DictReader(lines)}
    gib = {method: float(row["GiB"]) for method, row in found.items()}
    logits = 600 * 4000 * 4 / 2**30
    assert gib["fairseq's R-Drop"] > 2 * 4 * logits  # [2N, V] several times over
    assert gib["ours"] < gib["fairseq's R-Drop"] / 3
    assert gib["ours, activation checkpoints"] <= gib["ours"]
    assert float(found["plain"]["memory of plain"]) == 1
    assert "| base  | b     | ours  " in capsys.readouterr().out


def test_a_cell_that_runs_out_of_memory_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def out_of_memory(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(memory, "peak_bytes", out_of_memory)
    monkeypatch.setattr(memory, "BATCHES", {"b": (1, 100, 600)})
    memory.main(["--models", "base", "--csv", str(tmp_path / "t.csv")], "benchmark memory")
    with (tmp_path / "t.csv").open(encoding="utf-8") as lines:
        assert [row["GiB"] for row in csv.DictReader(lines)] == ["OOM"] * 4
