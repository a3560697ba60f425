"""Finds what would make the host wait for a GPU, by the operations alone: a run on CPU tensors shows it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fairseq
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import rdrop_fairseq

# Their result, or the size of it, is a value on the device; or they copy a tensor made of Python's numbers to it.
READS = {
    "_local_scalar_dense", "is_nonzero", "item", "equal", "nonzero", "argwhere", "masked_select", "bincount",
    "unique_dim", "_unique", "_unique2", "unique_consecutive", "lift_fresh",
}  # fmt: skip
PYTHON_READS = {"tolist", "numpy", "cpu"}  # not seen below Python
PACKAGES = {
    Path(package.__file__).parent: package.__name__ for package in (fairseq, rdrop_fairseq) if package.__file__
}


class HostWaits(TorchDispatchMode):
    """While this is open: `found` collects (operation, where) of all that reads values, forward and backward.

    where: "PACKAGE/FILE:FUNCTION" of the innermost caller in fairseq or in this package, "" if there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self._python = _PythonReads(self)

    def __enter__(self) -> HostWaits:
        self._python.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        self._python.__exit__(*details)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(_is_mask(index) for index in _flat(args[1:2]))
        by_count = name == "repeat_interleave" and "output_size" not in (kwargs or {})
        if name in READS or by_mask or by_count:
            self.note(name)
        return func(*args, **(kwargs or {}))

    def note(self, name: str) -> None:
        """This operation waits."""
        self.found.add((name, _caller()))


class _PythonReads(TorchFunctionMode):
    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in PYTHON_READS or (name == "to" and "cpu" in map(str, args[1:])):
            self.waits.note(name)
        return func(*args, **(kwargs or {}))


def _flat(values: Any) -> list[Any]:
    return [item for value in values for item in (value if isinstance(value, (list, tuple)) else [value])]


def _is_mask(index: Any) -> bool:
    return torch.is_tensor(index) and index.dtype in (torch.bool, torch.uint8)


def _caller() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        for folder, package in PACKAGES.items():
            if folder in path.parents:
                return f"{package}/{path.relative_to(folder)}:{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""
