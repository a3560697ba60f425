"""Compiles the kernel for GPUs that are not here; prints JSON lines: registers, spills, resident warps."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rdrop_fairseq.loss.rows_triton import FEW_WARPS, MANY_WARPS, sweep_rows

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
ELEMENT = {"bf16": 2, "fp16": 2, "fp32": 4}
COUNTS = ("classes", "width", "view_stride", "row_stride", "terms_stride")
ALIGNED = ("logits", "target", "terms", "width", "view_stride", "row_stride")


def compiled(target: int, dtype: str, views: int, warps: int) -> bytes:
    """The cubin of one specialization: rows aligned, gradient wanted, as training launches it."""
    names = sweep_rows.arg_names
    constants = {"VIEWS": views, "GRAD": True, "LANES": 32 * warps, "VEC": 16 // ELEMENT[dtype]}
    signature = {name: "constexpr" if name in constants else "i32" if name in COUNTS else "fp32" for name in names}
    signature.update(logits=f"*{dtype}", target="*i64", terms="*fp32")
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in ALIGNED}
    source = ASTSource(fn=sweep_rows, signature=signature, constexprs=constants, attrs=attributes)
    result = triton.compile(source, target=GPUTarget("cuda", target, 32), options={"num_warps": warps})
    cubin: bytes = result.asm["cubin"]
    return cubin


def resources(cubin: bytes) -> tuple[int, int]:
    """(registers per thread, bytes of stack and local memory)."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(TOOLS / "cuobjdump"), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{key}:(\d+)", text)[1]) for key in ("REG", "STACK", "LOCAL"))
    return registers, stack + local


if __name__ == "__main__":
    for target in (80, 90):
        for dtype in ELEMENT:
            for views in (1, 2):
                for warps in (FEW_WARPS, MANY_WARPS):
                    registers, spilled = resources(compiled(target, dtype, views, warps))
                    blocks = min(65536 // (-(-registers * 32 // 256) * 256 * warps), 64 // warps)
                    row = {"sm": target, "dtype": dtype, "views": views, "warps": warps, "registers": registers}
                    print(json.dumps({**row, "spilled bytes": spilled, "resident warps": blocks * warps}), flush=True)
