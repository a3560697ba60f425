"""Cores of a job, and downloads of two preparations at once."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from rdrop_fairseq.corpus import download, processes
from rdrop_fairseq.corpus.processes import Lock, add_workers


def test_workers_are_the_cores_of_the_job_not_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    parser = argparse.ArgumentParser()
    add_workers(parser)
    assert parser.parse_args([]).workers == 2


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"cpu.max": "750000 100000\n"}, 8),
        ({"cpu.max": "max 100000\n"}, 128),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 128),
        ({}, 128),
    ],
)
def test_a_container_has_no_more_than_its_share_of_the_cores(
    limits: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(128)), raising=False)
    monkeypatch.setattr(processes, "CGROUP", tmp_path)
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processes.cores() == expected


def test_what_another_preparation_fetches_meanwhile_is_taken(tmp_path: Path) -> None:
    """No address answers: the file is there only for who waited."""
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        with closing(Lock(tmp_path / ".downloads.lock")):
            os.write(begun, b"x")
            time.sleep(0.3)
            (tmp_path / "all.txt").write_text("content")
            download.record(tmp_path / "downloads.json", "all.txt", "http://x.invalid/all.txt", tmp_path / "all.txt")
        os._exit(0)
    os.read(ready, 1)
    assert download.fetch(["http://x.invalid/all.txt"], tmp_path / "all.txt").read_text() == "content"
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.txt", "downloads.json"]
