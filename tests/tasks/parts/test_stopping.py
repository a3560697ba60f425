"""A training that is asked to stop saves at once, and resumes as if it had never stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils
from tiny_fairseq import PLUGIN, RDROP, arguments, train

pytestmark = pytest.mark.usefixtures("warm")

OPTIONS = ["--task", "translation_rdrop", *RDROP, "--patience", "50", "--validate-interval-updates", "6"]


def stopped_by_signal(corpus: Path, save: Path, *words: object) -> tuple[int, str]:
    """fairseq-train as a process of its own. It and its data loaders get SIGUSR1 in its second update or a little
    later."""
    command = [sys.executable, "-m", "fairseq_cli.train", *arguments(corpus, *OPTIONS, *words)]
    command += ["--save-dir", str(save), "--user-dir", str(PLUGIN)]
    log = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            log += line
            if re.search(r"train_inner .*num_updates=2\b", line):
                os.killpg(run.pid, signal.SIGUSR1)
    return run.returncode, log


def checkpoint(folder: Path) -> dict:
    return checkpoint_utils.load_checkpoint_to_cpu(str(folder / "checkpoint_last.pt"))


def test_it_saves_at_the_signal_and_resumes_to_the_bit(corpus: Path, tmp_path: Path) -> None:
    """An epoch has two updates, so that the next one needs its data loader after the signal."""
    words = ["--update-freq", 6, "--validate-interval", 1000]
    status, log = stopped_by_signal(corpus, tmp_path / "parts", *words, "--max-update", 100_000, "--num-workers", 1)
    assert status == 0, log
    assert log.count("asked to stop: saving after this update") == 1
    first = checkpoint(tmp_path / "parts")
    done = first["optimizer_history"][-1]["num_updates"]
    last = max(map(int, re.findall(r"num_updates=(\d+)", log)))
    assert done == last >= 2
    assert log.count("begin validation") == done // 6  # none but its own
    end = done + 7
    train(corpus, tmp_path / "parts", *OPTIONS, *words, "--max-update", end)
    train(corpus, tmp_path / "whole", *OPTIONS, *words, "--max-update", end)
    parts, whole = checkpoint(tmp_path / "parts"), checkpoint(tmp_path / "whole")
    assert all(torch.equal(value, parts["model"][name]) for name, value in whole["model"].items())
    moments, later = (state["last_optimizer_state"]["state"] for state in (whole, parts))
    assert all(torch.equal(moments[n]["exp_avg_sq"], later[n]["exp_avg_sq"]) for n in moments)
    for name in ("train_iterator", "TranslationRDropTask", "best"):
        assert parts["extra_state"][name] == whole["extra_state"][name]


@pytest.fixture
def command_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function of fairseq that is replaced, back in its place afterwards."""
    from fairseq_cli import train as command

    monkeypatch.setattr(command, "should_stop_early", command.should_stop_early)


def test_a_file_asks_too_and_a_validation_that_is_due_is_made(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_as_it_was: None
) -> None:
    """Every update validates: the one that is stopped after counts for --patience and for the best checkpoint."""
    monkeypatch.setenv("RDROP_STOP_FILE", str(tmp_path / "stop"))
    due = [*OPTIONS, "--validate-interval-updates", "1"]
    train(corpus, tmp_path / "run", *due, "--max-update", 1)
    (tmp_path / "stop").touch()
    train(corpus, tmp_path / "run", *due, "--max-update", 100)
    state = checkpoint(tmp_path / "run")
    assert state["optimizer_history"][-1]["num_updates"] == 2
    assert state["extra_state"]["val_loss"] == state["extra_state"]["best"]
    assert state["extra_state"]["TranslationRDropTask"]["patience_best"] == state["extra_state"]["best"]
    assert (tmp_path / "run" / "checkpoint_best.pt").is_file()
