"""What this machine can train on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rdrop_fairseq.errors import UserError

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
PROBE = Path(__file__).with_name("gpu_probe.py")
# PyPI has one build per version of torch, today for CUDA 13; its own index has one per version of CUDA. The pin
# torch==X of constraints.txt takes any of them: X+cu126 is an X.
BUILDS = (
    "install torch from its own index: pip install -c constraints.txt torch --force-reinstall --no-deps --index-url "
    "https://download.pytorch.org/whl/cu126 (CUDA 12: V100 and older GPUs, older drivers) or .../whl/cu130 (CUDA 13)"
)


@dataclass(frozen=True)
class Hardware:
    """Devices of one machine: `gpus` of them (0: the CPU), the weakest of compute capability `capability`.

    failed: the precisions in which some GPU could not multiply, each with what CUDA said.
    """

    gpus: int
    capability: tuple[int, int] = (0, 0)
    failed: dict[str, str] = field(default_factory=dict)

    def precision(self, wanted: str = "auto") -> str:
        """fp32, fp16 or bf16. Raises UserError where the device is not made for what is wanted.

        auto takes fp16, the precision of the published recipes, where the GPU has fp16 matrix units (compute capability
        7.0), and fp32 elsewhere: a CPU computes half precision more slowly than single. bf16 (8.0) is there on request.
        """
        able = {"fp32": True, "fp16": self.gpus > 0 and self.capability >= (5, 3), "bf16": self.capability >= (8, 0)}
        if wanted == "auto":
            return "fp16" if self.gpus and self.capability >= (7, 0) and "fp16" not in self.failed else "fp32"
        if not able[wanted] or wanted in self.failed:
            what = f"a GPU of compute capability {'.'.join(map(str, self.capability))}" if self.gpus else "a CPU"
            reason = f" ({self.failed[wanted]})" if wanted in self.failed else ""
            raise UserError(
                f"{what} does not train in {wanted}{reason}: leave --precision out, or give --precision fp32"
            )
        return wanted


def detect(cpu: bool = False) -> Hardware:
    """The devices that CUDA_VISIBLE_DEVICES leaves, or the CPU where there is none or `cpu` is asked for.

    Every GPU has to compute something. Raises UserError where one cannot even in fp32, and warns on stderr where there
    are GPUs that torch does not see.
    """
    gpus = 0 if cpu else torch.cuda.device_count()
    if gpus == 0:
        if not cpu and (reason := why_unseen()):
            print(f"warning: training on the CPU: {reason}", file=sys.stderr)
        return Hardware(0)
    found = probe(gpus)
    for number, gpu in enumerate(found):
        if "fp32" in gpu["failed"]:
            raise UserError(
                f"GPU {number} ({gpu['name']}) does not compute ({gpu['failed']['fp32']}): {BUILDS}; "
                "CUDA_VISIBLE_DEVICES= uses the CPU"
            )
    capability = min(tuple(gpu["capability"]) for gpu in found)
    failed = {name: reason for gpu in found for name, reason in gpu["failed"].items()}
    return Hardware(len(found), (capability[0], capability[1]), failed)


def probe(gpus: int) -> list[dict[str, Any]]:
    """What gpu_probe.py reports, one entry per GPU; UserError where CUDA does not work at all."""
    answer = subprocess.run(
        [sys.executable, "-c", PROBE.read_text(encoding="utf-8")], capture_output=True, text=True
    )
    try:
        found: list[dict[str, Any]] = json.loads(answer.stdout.strip().splitlines()[-1])
        if answer.returncode == 0 and found:
            return found
    except (ValueError, IndexError):
        pass
    last = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise UserError(f"CUDA does not work with the {gpus} GPU(s) here ({last}): CUDA_VISIBLE_DEVICES= uses the CPU")


def why_unseen() -> str:
    """Why torch sees no GPU although the machine has some, and the way out; empty where there is none to see."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # the user wants it so
        return ""
    gpus = listed_gpus()
    if not gpus:
        return ""
    if torch.version.cuda is None:
        return f"nvidia-smi lists {len(gpus)} GPU(s), but this torch ({torch.__version__}) has no CUDA; {BUILDS}"
    return (
        f"nvidia-smi lists {len(gpus)} GPU(s), but torch {torch.__version__} for CUDA {torch.version.cuda} sees none: "
        f"the driver is too old for it, most likely; {BUILDS}"
    )


def listed_gpus() -> list[str]:
    """The lines of `nvidia-smi --list-gpus`; none without it."""
    try:
        answer = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    return [line for line in lines if line.startswith("GPU ")]
