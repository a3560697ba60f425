"""timm and torchvision, imported where they are used; what is wrong with them in one sentence."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch

from rdrop_fairseq.errors import UserError

INSTALL = 'pip install "rdrop-fairseq[vision]"'
# torchvision's wheel on PyPI is built for CUDA. Beside a CPU build of torch its extension does not load, and its import
# then stops at these two detection operators, which neither data sets, transforms nor timm's ViT ever call.
UNLOADED = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []  # a library that is freed takes its operators with it


def package(name: str) -> ModuleType:
    """`timm`, `torchvision.datasets` and so on. Raises UserError where it is missing or does not fit torch."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"image classification needs {name.partition('.')[0]} ({error}): {INSTALL}") from error
    except RuntimeError as error:
        if "operator torchvision::" not in str(error) or _declared:
            raise UserError(
                f"{name} does not import beside torch {torch.__version__} ({error}): install the torchvision that was "
                f"released with it"
            ) from error
    declare_unloaded()
    return package(name)


def declare_unloaded() -> None:
    """Declare torchvision's operators whose extension did not load; calling one still fails."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in UNLOADED:
        library.define(operator + SCHEMA)
    _declared.append(library)
