"""One training of image classification: options of the command line, or keys of a YAML of configs/vit."""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss.weights import check_alpha
from rdrop_fairseq.training.config import find_config, read_config

FOLDER = "vit"  # of configs/
DATASETS = ("cifar100", "imagefolder", "digits")


def option(default: Any, text: str, **more: Any) -> Any:
    """A field with its help text."""
    return field(default=default, metadata={"help": text, **more})


@dataclass(frozen=True)
class Options:
    """Everything that a training depends on. Each field is an option: `--rdrop-alpha 0.6` or `rdrop-alpha: 0.6`."""

    dataset: str = option("", "cifar100, imagefolder (DATA/{train,val}/CLASS/*) or digits", choices=DATASETS)
    classes: int = option(0, "number of classes; the data must have as many")
    data: str = option("", "directory of the images; CIFAR-100 is downloaded there")
    train_images: int = option(0, "take this many training images, the same for every seed; 0: all")
    holdout: int = option(0, "training images held out for validation; 0: validate on the test set")
    image_size: int = option(384, "pixels of each side")
    model: str = option("vit_base_patch16_224.orig_in21k", "a Vision Transformer by its name in timm")
    model_args: str = option("{}", "further arguments of timm.create_model, as JSON")
    init: str = option("pretrained", "pretrained (timm's weights), random, or a file (.npz, .safetensors, .pt)")
    dropout: float = option(0.1, "after position embeddings, attention and each MLP layer, as in the ViT paper")
    rdrop_alpha: Optional[float] = option(None, "weight of the KL divergence; leave it out for plain training")
    rdrop_alpha_schedule: str = option(
        "constant", "constant, or lr: alpha falls in proportion to the learning rate (C.4)", choices=("constant", "lr")
    )
    optimizer: str = option("sgd", "sgd or adamw", choices=("sgd", "adamw"))
    momentum: float = option(0.9, "of sgd")
    weight_decay: float = option(0.0, "of the optimizer")
    lr: float = option(0.01, "learning rate after the warm-up; falls to 0 along half a cosine")
    warmup_updates: int = option(500, "updates in which the learning rate grows linearly")
    updates: int = option(10000, "length of the training")
    clip_norm: float = option(1.0, "largest norm of the gradient; 0: no limit")
    batch: int = option(512, "images per update, over all devices, each counted once")
    micro_batch: int = option(32, "images per forward and device, before they are stacked twice", free=True)
    eval_every: int = option(500, "updates between validations; each one also saves")
    precision: str = option("auto", "auto, fp32, fp16 or bf16", free=True)
    seed: int = option(1, "random seed")
    workers: int = option(8, "processes per device that read images; 0: none", free=True)
    save_dir: str = option("", "default: outputs/vit/NAME or NAME.seedN", free=True)

    def __post_init__(self) -> None:
        """Raises UserError for a value that cannot be trained with."""
        if self.dataset not in DATASETS:
            raise UserError(f"dataset must be one of {', '.join(DATASETS)}, got {self.dataset!r}")
        for name in ("classes", "image_size", "updates", "batch", "micro_batch", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{dashed(name)} must be a whole number above 0, got {getattr(self, name)}")
        for name in ("train_images", "holdout", "warmup_updates", "clip_norm", "weight_decay", "workers"):
            if getattr(self, name) < 0:
                raise UserError(f"{dashed(name)} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.rdrop_alpha is not None:
            check_alpha(self.rdrop_alpha)
            if self.dropout == 0:
                raise UserError("R-Drop needs dropout above 0: without it the two views are the same")
        if self.warmup_updates >= self.updates:
            raise UserError(f"warmup-updates {self.warmup_updates} must be less than updates {self.updates}")
        self.model_arguments()

    def model_arguments(self) -> dict[str, Any]:
        """`model_args` as a dictionary."""
        try:
            found = json.loads(self.model_args)
        except json.JSONDecodeError as error:
            found = error
        if not isinstance(found, dict):
            raise UserError(f'model-args must be a JSON object such as {{"depth": 4}}, got {self.model_args}')
        return found

    def key(self) -> dict[str, Any]:
        """What makes it another training if it changes; device, precision and directory do not."""
        named = {each.name: each for each in dataclasses.fields(self)}
        return {name: getattr(self, name) for name, each in named.items() if not each.metadata.get("free")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Every field of Options, as an option without a default, so that what is given can be told from what is not."""
    for each in dataclasses.fields(Options):
        kind = {"int": int, "float": float, "Optional[float]": float}.get(str(each.type), str)
        shown = f"{each.metadata['help']} (default: {each.default})" if each.default not in ("", None) else None
        parser.add_argument(
            f"--{dashed(each.name)}", type=kind, default=argparse.SUPPRESS, choices=each.metadata.get("choices"),
            metavar=dashed(each.name).upper(), help=shown or each.metadata["help"],
        )  # fmt: skip


def read_words(name: str, root: Path) -> tuple[str, list[str]]:
    """A config's name (the last part of it) and its options as words of the command line. Raises UserError."""
    inside = (root / "configs" / name).parent != root / "configs" or Path(name).is_file()
    name = name if inside else f"{FOLDER}/{name}"
    try:
        path = find_config(name, root)
    except UserError:
        found = ", ".join(sorted(each.name for each in (root / "configs" / FOLDER).glob("*.yaml")))
        raise UserError(f"no config {name!r}: configs/{FOLDER} has {found}, whose heads say the names") from None
    experiment = read_config(path, name)
    known = {dashed(each.name) for each in dataclasses.fields(Options)}
    for entry in experiment.options:
        if entry.key not in known:
            raise UserError(f"{path}, line {entry.line}: there is no option {entry.key}; see --help")
    words = [f"--{entry.key}={entry.value}" for entry in experiment.options]
    if "data" in experiment.own:
        words.append(f"--data={experiment.own['data']}")
    return Path(experiment.name).stem, words


def dashed(name: str) -> str:
    """A field's name as an option."""
    return name.replace("_", "-")
