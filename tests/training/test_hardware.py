"""Looking for GPUs, on a machine that may have none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from packages import make_wheel
from tiny_training import ROOT, succeed

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import gpu_probe, hardware
from rdrop_fairseq.training.hardware import Hardware, detect

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
    message = r"GPU 1 \(a card\) does not compute \(CUDA error: no kernel.*whl/cu126.*DEVICES=0 leaves it out$"
    with pytest.raises(UserError, match=message):
        detect()
    machine(1, [gpu(9, 0, fp32="CUDA out of memory")])
    busy = r"compute \(CUDA out of memory\): perhaps another process uses it; CUDA_VISIBLE_DEVICES= takes the CPU$"
    with pytest.raises(UserError, match=busy):
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
    assert "has no CUDA; install another build of torch: pip install torch==" in said
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    detect()
    assert "for CUDA 13.0 sees none: the driver is probably too old" in capsys.readouterr().err
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


@pytest.mark.parametrize("cuda", ["cu126", "cu130"])
@pytest.mark.parametrize("pinned", [True, False])
def test_the_command_for_another_cuda_is_resolved(tmp_path: Path, cuda: str, pinned: bool) -> None:
    """As other_builds() prints it, where another build of the same version is installed; by pip, from an index
    of stand-ins with PyTorch's names and dependencies. The build comes with its libraries, and the pins accept it."""
    platform = f"nvidia_cublas_{cuda[:4]}"
    wheels = {"torch": f"2.13.0+{cuda}", "triton": "3.7.1", platform: "12.6.4.1"}
    requires = {"torch": ("triton==3.7.1", f"{platform.replace('_', '-')}==12.6.4.1")}
    for name, version in wheels.items():
        folder = tmp_path / name.replace("_", "-")
        folder.mkdir()
        make_wheel(folder, name, {}, version, requires.get(name, ()))
        [path] = folder.iterdir()
        address = path.name.replace("+", "%2B")
        (folder / "index.html").write_text(f'<a href="{address}">{path.name}</a>', encoding="utf-8")
    printed = re.search(r"pip (install .*) https://download\.pytorch\.org/whl/cu126", hardware.other_builds())
    assert printed is not None
    words = [*printed[1].replace("cu126", cuda).split(), tmp_path.as_uri()]
    words += ["-c", "constraints.txt"] if pinned else []
    words += ["--dry-run", "--disable-pip-version-check"]
    printed = succeed(sys.executable, "-m", "pip", *words, PIP_INDEX_URL=tmp_path.as_uri())
    for wanted in (f"torch-2.13.0+{cuda}", f"{platform.replace('_', '-')}-12.6.4.1"):
        assert wanted in printed.splitlines()[-1].replace("_", "-")
