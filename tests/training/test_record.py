"""A second training with other settings, or at the same time, is kept out of a directory; the same one resumes."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import hardware, launch, record, resume
from rdrop_fairseq.training.hardware import Hardware

ROOT = Path(__file__).parents[2]


@pytest.fixture
def start(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """start(extra, gpus): the job for IWSLT14 in `tmp_path`, checked as before a training."""
    monkeypatch.chdir(ROOT)

    def make(*extra: str, gpus: int = 1, words: str = "") -> launch.Job:
        monkeypatch.setattr(hardware, "detect", lambda cpu=False: Hardware(0 if cpu else gpus, (8, 0)))
        argv = ["iwslt14_de_en_rdrop", str(tiny_data), "--save-dir", str(tmp_path), *words.split()]
        return launch.prepare(launch.argument_parser("train").parse_args(argv), list(extra))

    return make


def test_what_may_change_and_what_may_not(start, tmp_path: Path) -> None:
    record.write(tmp_path, start().settings)
    start(gpus=4)
    start("--max-tokens", "1024")  # the same effective batch
    start("--cpu", "--num-workers", "0", "--max-update", "5", "--patience", "3", "--log-interval", "1")
    start("--bf16", "--save-interval-updates", "7", "--checkpoint-activations", "--adam-betas", "(0.9,0.98)")
    changes = (("dropout", "0.1", "0.3"), ("rdrop-alpha", "1", "5.0"), ("lr", "1e-3", r"\[0.0005\]"))
    for option, value, before in changes:
        name = option.replace("-", "_")
        with pytest.raises(UserError, match=rf"holds a training with other settings \({name} {before}, now .*\): give"):
            start(f"--{option}", value)
    with pytest.raises(UserError, match="batch 4096 tokens, now 8192 tokens"):
        start(words="--update-freq 2")
    (tmp_path / record.NAME).unlink()
    start("--dropout", "0.1")  # the way out that is named; directories of older versions have no record either


def test_options_of_another_version_are_no_difference(start, tmp_path: Path) -> None:
    known = {**start().settings, "gone": 1}
    del known["dropout"]
    (tmp_path / record.NAME).write_text(json.dumps(known))
    start()


def test_a_finished_training_is_not_trained_on(start, tmp_path: Path) -> None:
    assert start("--max-update", "16").finished == ""
    state = {"model": {"weight": torch.zeros(1)}, "optimizer_history": [{"num_updates": 16}]}
    torch.save(state, tmp_path / "checkpoint_last.pt")
    assert start("--max-update", "16").finished == "finished: 16 updates of 16"
    assert start("--max-update", "17").finished == ""
    assert start("--max-update", "16", "--reset-optimizer").finished == ""


def test_two_launches_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """The first becomes a program that waits; a process that it leaves behind holds the lock as well."""
    monkeypatch.setattr(resume, "PATIENCE", 0.3)
    code = f"""
import sys
sys.argv[0] = "-m"  # as under `python -m`: the package does not import fairseq
from pathlib import Path
from rdrop_fairseq.training.launch import Job, become
save = Path({str(tmp_path)!r})
become(Job(["/bin/sh", "-c", "echo ready; read line; sleep 1 & exit 0"], save, save / "train.log", "a job"))
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        while first.stdout.readline() != "ready\n":
            assert first.poll() is None
        running = rf"still running there \(process {first.pid}\)"
        with pytest.raises(UserError, match=running), resume.only_one(tmp_path / "lock"):
            pass
        first.stdin.write("\n")
        first.stdin.flush()
        first.wait()
        with pytest.raises(UserError, match="still running"), resume.only_one(tmp_path / "lock"):
            pass
        first.stdout.read()  # until what was left behind has ended
    monkeypatch.setattr(resume, "PATIENCE", 10.0)
    with resume.only_one(tmp_path / "lock"):
        pass


def test_the_machines_of_one_training_share_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "PATIENCE", 0.3)
    path = tmp_path / "lock"
    with resume.only_one(path, "first:29500"), resume.only_one(path, "first:29500"):
        for other in ("", "first:29501"):
            with pytest.raises(UserError, match="still running there"), resume.only_one(path, other):
                pass
    with resume.only_one(path), pytest.raises(UserError, match="still running"), resume.only_one(path, "first:29500"):
        pass
    with resume.only_one(path, "first:29501"):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(resume.fcntl, "flock", refuse)
    with resume.only_one(tmp_path / "lock"):
        pass
    assert "start no second training there" in capsys.readouterr().err
