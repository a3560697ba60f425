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


@dataclass(frozen=True)
class Hardware:
    """Devices of one machine: `gpus` of them (0: the CPU), the weakest of compute capability `capability`.

    failed: the precisions in which some GPU could not multiply, each with CUDA's message.
    """

    gpus: int
    capability: tuple[int, int] = (0, 0)
    failed: dict[str, str] = field(default_factory=dict)

    def precision(self, wanted: str = "auto") -> str:
        """fp32, fp16 or bf16. Raises UserError for a precision that the device does not support.

        auto is fp16, the precision of the published recipes, on GPUs with fp16 units (compute capability 7.0), and
        fp32 elsewhere: a CPU is slower in half precision. bf16 (8.0) is used on request only.
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
    """The visible GPUs, each tested by a computation; or the CPU if there is none or `cpu` is set.

    Raises UserError if a GPU fails in fp32. Warns on stderr about GPUs that torch does not see.
    """
    gpus = 0 if cpu else torch.cuda.device_count()
    if gpus == 0:
        if not cpu and (reason := why_unseen()):
            print(f"warning: training on the CPU: {reason}", file=sys.stderr)
        return Hardware(0)
    found = probe(gpus)
    for number, gpu in enumerate(found):
        if "fp32" in gpu["failed"]:
            reason = gpu["failed"]["fp32"]
            way = other_builds() if "no kernel image" in reason else "perhaps another process uses it"
            others = ",".join(name for place, name in enumerate(visible()) if place != number)
            raise UserError(
                f"GPU {number} ({gpu['name']}) does not compute ({reason}): {way}; "
                f"CUDA_VISIBLE_DEVICES={others} {'leaves it out' if others else 'takes the CPU'}"
            )
    capability = min(tuple(gpu["capability"]) for gpu in found)
    failed = {name: reason for gpu in found for name, reason in gpu["failed"].items()}
    return Hardware(len(found), (capability[0], capability[1]), failed)


def visible() -> list[str]:
    """The GPUs that torch sees, by their names for CUDA_VISIBLE_DEVICES."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return listed.split(",")[:count] if listed else [str(number) for number in range(count)]


def probe(gpus: int) -> list[dict[str, Any]]:
    """What gpu_probe.py reports, one entry per GPU. Raises UserError if CUDA does not work at all."""
    answer = subprocess.run([sys.executable, "-c", PROBE.read_text(encoding="utf-8")], capture_output=True, text=True)
    try:
        found: list[dict[str, Any]] = json.loads(answer.stdout.strip().splitlines()[-1])
        if answer.returncode == 0 and found:
            return found
    except (ValueError, IndexError):
        pass
    last = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise UserError(f"CUDA does not work with the {gpus} GPU(s) here ({last}): CUDA_VISIBLE_DEVICES= uses the CPU")


def why_unseen() -> str:
    """Why torch sees no GPU although the machine has some, and the way out; empty if the machine has none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # hidden on purpose
        return ""
    gpus = listed_gpus()
    if not gpus:
        return ""
    if torch.version.cuda is None:
        problem = f"this torch ({torch.__version__}) has no CUDA"
    else:
        build = f"torch {torch.__version__} for CUDA {torch.version.cuda}"
        problem = f"{build} sees none: the driver is probably too old for it"
    return f"nvidia-smi lists {len(gpus)} GPU(s), but {problem}; {other_builds()}"


def listed_gpus() -> list[str]:
    """The lines of `nvidia-smi --list-gpus`; none without it."""
    try:
        answer = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    return [line for line in lines if line.startswith("GPU ")]


def other_builds() -> str:
    """How to install this version of torch for another CUDA.

    PyPI has one build of each torch version, today for CUDA 13; PyTorch's own index has one per version of CUDA. Naming
    the build makes pip replace the installed one together with its CUDA libraries.
    """
    version = torch.__version__.partition("+")[0]
    return (
        f"install another build of torch: pip install torch=={version}+cu126 --extra-index-url "
        "https://download.pytorch.org/whl/cu126 (CUDA 12: V100 and older GPUs, older drivers), or the same with cu130"
    )
