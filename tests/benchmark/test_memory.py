"""The memory table: what is counted, and how it is shown; the figures themselves are no test."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_bart
import torch

from rdrop_fairseq.benchmark import memory
from rdrop_fairseq.benchmark.memory import Cell


def test_every_storage_is_counted_once_while_it_lives() -> None:
    with memory._tensor_bytes() as counter:
        first = torch.zeros(1000)
        view = first.view(10, 100)[2:]
        assert counter.now == 4000
        second = view + 1  # 8 x 100
        assert counter.now == 4000 + 3200
        del first, second
        assert counter.now == 4000  # the view keeps its storage
        del view
        assert (counter.now, counter.peak) == (0, 7200)


def test_what_a_backward_allocates_is_counted() -> None:
    weight = torch.zeros(300, 300, requires_grad=True)
    with memory._tensor_bytes() as counter:
        (weight.exp() + 1).sum().backward()
    assert counter.peak >= 2 * 300 * 300 * 4
    assert counter.now == pytest.approx(300 * 300 * 4, abs=64)  # the gradient stays


def test_a_step_of_each_method(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [word for name, value in tiny_bart.OPTIONS.items() if "coder-" in name for word in (f"--{name}", value)]
    monkeypatch.setattr(memory, "ENTRIES", 4000)
    monkeypatch.setattr(memory, "BATCHES", {"b": (1, 100, 600)})
    monkeypatch.setattr(memory, "METHODS", {name: [*words, *sizes] for name, words in memory.METHODS.items()})
    found = {method: memory.measure(Cell("base", "b", method), steps=1) for method in memory.METHODS}
    logits = 600 * 4004 * 4
    assert found["fairseq's R-Drop"]["tensors"] > 2 * 4 * logits  # [2N, V] several times over
    assert found["ours"]["tensors"] < found["fairseq's R-Drop"]["tensors"] / 3
    assert found["ours, activation checkpoints"]["tensors"] <= found["ours"]["tensors"]
    for row in found.values():
        assert row["rss"] > row["tensors"]
        assert row["seconds"] > 0


def test_table_and_a_killed_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(cells: list[Cell], steps: int, threads: int) -> list[dict]:
        rows = [{**cell._asdict(), "tensors": 2.0**30, "rss": 1.5 * 2**30, "seconds": 3.0} for cell in cells]
        rows[1] = {**cells[1]._asdict(), "killed": True}
        rows[2]["tensors"] = 1.25 * 2**30
        return rows

    monkeypatch.setattr(memory, "run", run)
    memory.main(["--models", "base", "--csv", str(tmp_path / "table.csv")], prog="benchmark memory")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(memory.BATCHES) * len(memory.METHODS)
    assert lines[2].endswith("| plain | 1.00 | 1.50 | 3.0 | 1.00 | 1.00 |")
    assert "killed" in lines[3]
    assert lines[4].endswith("| ours | 1.25 | 1.50 | 3.0 | 1.25 | 1.00 |")
    assert len((tmp_path / "table.csv").read_text().splitlines()) == len(lines) - 1
