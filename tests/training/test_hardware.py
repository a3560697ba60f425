"""Looking for GPUs, on a machine that may have none."""

from __future__ import annotations

import subprocess

import pytest
import torch

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import hardware
from rdrop_fairseq.training.hardware import Hardware, detect


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """machine(gpus, answer, status): torch sees so many GPUs; the probing process prints that."""

    def make(gpus: int, answer: str = "", status: int = 0) -> None:
        probed = subprocess.CompletedProcess([], status, answer, "Traceback ...\nRuntimeError: CUDA error: no driver\n")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(hardware.subprocess, "run", lambda *_, **__: probed)

    return make


def test_what_is_there(machine) -> None:
    machine(0)
    assert detect() == Hardware(0)
    machine(2, "8 0\n")
    assert detect() == Hardware(2, (8, 0))
    assert detect(cpu=True) == Hardware(0)


def test_gpus_that_do_not_work_are_told(machine) -> None:
    machine(2, "", 1)
    with pytest.raises(UserError, match=r"the 2 GPU\(s\) here \(RuntimeError: CUDA error: no driver\): CUDA_VISIBLE"):
        detect()


def test_the_probe_asks_for_the_weakest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: [(8, 0), (7, 5), (9, 0)][index])
    exec(hardware.PROBE)
    assert capsys.readouterr().out == "7 5\n"
