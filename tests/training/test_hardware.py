"""Looking for GPUs, on a machine that may have none."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import gpu_probe, hardware
from rdrop_fairseq.training.hardware import Hardware, detect

ROOT = Path(__file__).parents[2]
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"


def gpu(*capability: int, **failed: str) -> dict[str, Any]:
    return {"name": "a card", "capability": capability, "failed": failed}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """machine(gpus, answer, status, listed): torch sees so many GPUs; what the probe and nvidia-smi print."""

    def make(gpus: int, answer: Any = None, status: int = 0, listed: int = 0) -> None:
        def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            if words[0] == "nvidia-smi":
                lines = "".join(f"GPU {n}: NVIDIA H100 (UUID: GPU-{n})\n" for n in range(listed))
                return subprocess.CompletedProcess(words, 0, lines, "")
            printed = "" if answer is None else json.dumps(answer)
            complaint = "Traceback\nRuntimeError: CUDA error: no driver\n"
            return subprocess.CompletedProcess(words, status, printed, complaint)

        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(hardware.subprocess, "run", run)

    return make


def test_what_is_there(machine) -> None:
    machine(0)
    assert detect() == Hardware(0)
    machine(2, [gpu(9, 0), gpu(8, 0)])
    assert detect() == Hardware(2, (8, 0))
    assert detect().precision() == "fp16"
    assert detect(cpu=True) == Hardware(0)


def test_gpus_that_do_not_work_are_told(machine) -> None:
    machine(2, status=1)
    with pytest.raises(UserError, match=r"the 2 GPU\(s\) here \(RuntimeError: CUDA error: no driver\): CUDA_VISIBLE"):
        detect()
    machine(2, [gpu(8, 0), gpu(7, 0, fp32=NO_KERNEL, fp16=NO_KERNEL)])
    with pytest.raises(UserError, match=r"GPU 1 \(a card\) does not compute \(CUDA error: no kernel.*whl/cu126"):
        detect()


def test_a_precision_without_kernels_is_not_chosen(machine) -> None:
    machine(1, [gpu(8, 0, fp16="no kernel", bf16="no kernel")])
    assert detect().precision() == "fp32"
    for precision in ("fp16", "bf16"):
        with pytest.raises(UserError, match=rf"8\.0 does not train in {precision} \(no kernel\): leave --precision"):
            detect().precision(precision)


def test_gpus_that_torch_cannot_see_are_a_warning(machine, monkeypatch, capsys) -> None:
    machine(0, listed=2)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert detect() == Hardware(0)
    said = capsys.readouterr().err
    assert "warning: training on the CPU: nvidia-smi lists 2 GPU(s), but this torch (" in said
    assert "has no CUDA; install torch from its own index: pip install -c constraints.txt" in said
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    detect()
    assert "for CUDA 13.0 sees none: the driver is too old" in capsys.readouterr().err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the CPU was asked for
    detect()
    detect(cpu=True)
    assert capsys.readouterr().err == ""


def test_the_probe_computes_in_each_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_probe.probe("cpu") == {}
    monkeypatch.setitem(gpu_probe.DTYPES, "bf16", torch.bool)  # which has no product of matrices
    assert list(gpu_probe.probe("cpu")) == ["bf16"]
    assert set(gpu_probe.probe("cuda:99")) == {"fp32", "fp16", "bf16"}


def test_the_probe_as_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    exec(compile(hardware.PROBE.read_text(encoding="utf-8"), "<string>", "exec"), {"__name__": "__main__"})
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["capability"]) == ("a card", [9, 0])


def test_the_pins_take_torch_for_any_cuda() -> None:
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (pin,) = (Requirement(line) for line in lines if line.startswith("torch=="))
    version = str(pin.specifier).removeprefix("==")
    for build in (version, f"{version}+cu126", f"{version}+cu130", f"{version}+cpu"):
        assert pin.specifier.contains(build)
    # nothing that belongs to one version of CUDA is pinned beside it
    # CUDA builds of this torch want this very triton
    assert "triton==3.7.1" in lines
    assert not [line for line in lines if line.startswith(("nvidia", "cuda"))]
