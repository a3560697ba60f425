"""A program: multiplies matrices on each GPU in each precision and prints the results as JSON.

It is a separate process, since a CUDA context takes some hundred MB that the training needs. Reading the capability is
not enough: torch's build for CUDA 13 lists a V100 but has no kernels for it.
"""

from __future__ import annotations

import json
from typing import Any

import torch

SIZE = 64
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def failure(device: str, dtype: torch.dtype) -> str:
    """Why a product of ones does not work on `device`; empty if it does."""
    try:
        ones = torch.ones(SIZE, SIZE, dtype=dtype, device=device)
        mean = float((ones @ ones).float().mean())
    except Exception as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "" if mean == SIZE else f"a product of ones came out as {mean}"


def probe(device: str) -> dict[str, str]:
    """The precisions that fail on `device`, each with the reason."""
    tried = {name: failure(device, dtype) for name, dtype in DTYPES.items()}
    return {name: reason for name, reason in tried.items() if reason}


def report() -> list[dict[str, Any]]:
    """Name, compute capability and failures of each GPU."""
    return [
        {
            "name": torch.cuda.get_device_name(index),
            "capability": torch.cuda.get_device_capability(index),
            "failed": probe(f"cuda:{index}"),
        }
        for index in range(torch.cuda.device_count())
    ]


if __name__ == "__main__":
    print(json.dumps(report()))
