"""What the doctor looks at for a Vision Transformer: the config, packages, published weights, images, disk."""

from __future__ import annotations

import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from rdrop_fairseq.vision.data import WAYS
from rdrop_fairseq.vision.models import settings
from rdrop_fairseq.vision.options import parse
from rdrop_fairseq.vision.packages import package

CIFAR = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"  # torchvision's
CHECKPOINTS = 7  # GB: last.pt and best.pt of L/16, and a new last.pt that is written beside the old one


def find(name: str, data: Path, root: Path) -> Iterator[tuple[str, str, str]]:
    """The doctor's findings for `scripts/train_vit.sh NAME_b16_rdrop`. Raises UserError without a package."""
    options, _ = parse([f"{name}_b16_rdrop", "--root", str(root), "--data", str(data / name)], "doctor")
    yield "config", "", f"{name}_b16_rdrop is what train_vit.sh takes"
    free = shutil.disk_usage(root).free / 1e9
    yield "disk", f"{free:.0f} GB are free, {CHECKPOINTS} needed" if free < CHECKPOINTS else "", f"{free:.0f} GB free"
    yield images(name, Path(options.data), options.classes)
    yield from ((each, "", str(package(each).__version__)) for each in ("timm", "torchvision"))
    hub, source = package("huggingface_hub"), settings(options.model).hf_hub_id
    there = isinstance(hub.try_to_load_from_cache(source, "model.safetensors"), str)
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    problem = "" if there else unreachable(f"{host}/{source}/resolve/main/model.safetensors")
    yield "weights", problem and f"{problem}: give train_vit.sh --init FILE", "there" if there else "can be fetched"


def images(name: str, folder: Path, classes: int) -> tuple[str, str, str]:
    """CIFAR-100 is there or can be fetched (torchvision looks whether it is whole); ImageNet has its folders."""
    if name == "cifar100":
        there = any((folder / each).exists() for each in ("cifar-100-python", Path(CIFAR).name))
        problem = "" if there else unreachable(CIFAR)
        return "images", problem and f"{problem}: {WAYS[name]}", "there" if there else "can be fetched"
    train, val = (sum(each.is_dir() for each in (folder / part).glob("*")) for part in ("train", "val"))
    problem = f"{folder} has {train} and {val} classes, not {classes}: {WAYS['imagefolder']}"
    return "images", "" if train == val == classes else problem, f"{folder} has {classes} classes"


def unreachable(url: str) -> str:
    """Why an address does not answer; empty if it does."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except OSError as error:
        return f"{url} does not answer ({error})"
    return ""
