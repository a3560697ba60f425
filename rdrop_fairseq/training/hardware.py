"""What this machine can train on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import torch

from rdrop_fairseq.errors import UserError

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
# Asked in a process of its own: looking at a GPU opens a CUDA context, some hundred MB that the training would miss.
PROBE = "import torch; print(*min(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())))"


@dataclass(frozen=True)
class Hardware:
    """Devices of one machine: `gpus` of them (0: the CPU), the weakest of compute capability `capability`."""

    gpus: int
    capability: tuple[int, int] = (0, 0)

    def precision(self, wanted: str = "auto") -> str:
        """fp32, fp16 or bf16. Raises UserError where the device is not made for what is wanted.

        auto takes fp16, the precision of the published recipes, where the GPU has fp16 matrix units (compute capability
        7.0), and fp32 elsewhere: a CPU computes half precision more slowly than single. bf16 (8.0) is there on request.
        """
        able = {"fp32": True, "fp16": self.gpus > 0 and self.capability >= (5, 3), "bf16": self.capability >= (8, 0)}
        if wanted == "auto":
            return "fp16" if self.gpus and self.capability >= (7, 0) else "fp32"
        if not able[wanted]:
            what = f"a GPU of compute capability {'.'.join(map(str, self.capability))}" if self.gpus else "a CPU"
            raise UserError(f"{what} does not train in {wanted}: leave --precision out, or give --precision fp32")
        return wanted


def detect(cpu: bool = False) -> Hardware:
    """The devices that CUDA_VISIBLE_DEVICES leaves, or the CPU where there is none or `cpu` is asked for."""
    gpus = 0 if cpu else torch.cuda.device_count()
    if gpus == 0:
        return Hardware(0)
    answer = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    words = answer.stdout.split()
    if answer.returncode or len(words) != 2:
        last = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"CUDA does not work with the {gpus} GPU(s) here ({last}): CUDA_VISIBLE_DEVICES= uses the CPU")
    return Hardware(gpus, (int(words[0]), int(words[1])))
