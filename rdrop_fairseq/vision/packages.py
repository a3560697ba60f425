"""timm and torchvision, imported where they are used; what is wrong with them in one sentence."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

from rdrop_fairseq.errors import UserError, install

# torchvision's wheel on PyPI is built for CUDA. Beside a CPU build of torch its extension does not load, and its import
# then stops at detection operators, which neither data sets, transforms nor timm's ViT ever call: declared, they let it
# pass. A library that is freed takes its operators with it.
SCHEMA = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []


def package(name: str) -> ModuleType:
    """`timm`, `torchvision.datasets` and so on. Raises UserError where it is missing or does not fit torch."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = f"image classification needs {name.partition('.')[0]} ({error})"
        raise UserError(f"{missing}: {install('vision')}") from error
    except RuntimeError as error:
        if "operator torchvision::" not in str(error) or _declared:
            message = f"{name} does not import beside torch {torch.__version__} ({error}): install the torchvision "
            raise UserError(f"{message}that was released with it") from error
    _declared.append(torch.library.Library("torchvision", "FRAGMENT"))
    for operator in ("nms", "qnms"):
        _declared[0].define(SCHEMA.format(operator))
    return package(name)
