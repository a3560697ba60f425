"""One training of image classification: options of the command line, or keys of a YAML of configs/vit."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss.weights import check_alpha
from rdrop_fairseq.training.config import find_config, read_config
from rdrop_fairseq.training.hardware import PRECISIONS

FOLDER = "vit"  # of configs/


def option(default: Any, text: str, **more: Any) -> Any:
    """A field with its help text. more: choices, least (value), or free: no other training if it changes."""
    return field(default=default, metadata={"help": text, **more})


@dataclass(frozen=True)
class Options:
    """Everything that a training depends on. Each field is an option: `--rdrop-alpha 0.6` or `rdrop-alpha: 0.6`."""

    dataset: str = option(
        "", "cifar100, imagefolder (DATA/{train,val}/CLASS/*) or digits", choices=("cifar100", "imagefolder", "digits")
    )
    classes: int = option(0, "number of classes; the data must have as many", least=1)
    data: str = option("", "directory of the images; CIFAR-100 is downloaded there", free=True)
    train_images: int = option(0, "take this many training images, the same for every seed; 0: all", least=0)
    holdout: int = option(0, "training images held out for validation; 0: validate on the test set", least=0)
    image_size: int = option(384, "pixels of each side", least=1)
    model: str = option("vit_base_patch16_224.orig_in21k", "a Vision Transformer by its name in timm")
    model_args: str = option("{}", "further arguments of timm.create_model, as JSON")
    init: str = option("pretrained", "pretrained (timm's weights), random, or a file (.npz, .safetensors, .pt)")
    dropout: float = option(0.1, "after position embeddings, attention and MLP layers, as in the ViT paper", least=0)
    rdrop_alpha: Optional[float] = option(None, "weight of the KL divergence; leave it out for plain training")
    rdrop_alpha_schedule: str = option(
        "constant", "constant, or lr: alpha falls in proportion to the learning rate (C.4)", choices=("constant", "lr")
    )
    optimizer: str = option("sgd", "sgd or adamw", choices=("sgd", "adamw"))
    momentum: float = option(0.9, "of sgd", least=0)
    weight_decay: float = option(0.0, "of the optimizer", least=0)
    lr: float = option(0.01, "learning rate after the warm-up; falls to 0 along half a cosine", least=1e-12)
    warmup_updates: int = option(500, "updates in which the learning rate grows linearly", least=0)
    updates: int = option(10000, "length of the training", least=1)
    clip_norm: float = option(1.0, "largest norm of the gradient; 0: no limit", least=0)
    batch: int = option(512, "images per update, over all devices, each counted once", least=1)
    micro_batch: int = option(32, "images per forward and device, before they are stacked twice", least=1, free=True)
    eval_every: int = option(500, "updates between validations; each one also saves", least=1)
    precision: str = option("auto", "auto, fp32, fp16 or bf16", choices=PRECISIONS, free=True)
    seed: int = option(1, "random seed")
    workers: int = option(8, "processes per device that read images; 0: none", least=0, free=True)
    save_dir: str = option("", "default: outputs/vit/NAME or NAME.seedN", free=True)

    def __post_init__(self) -> None:
        """Raises UserError for a value that cannot be trained with."""
        for each in fields(self):
            value, choices, least = getattr(self, each.name), each.metadata.get("choices"), each.metadata.get("least")
            if choices and value not in choices:
                raise UserError(f"{dashed(each.name)} must be one of {', '.join(choices)}, got {value!r}")
            if least is not None and not least <= value < math.inf:
                raise UserError(f"{dashed(each.name)} must be at least {least:g} and finite, got {value}")
        if self.dropout >= 1:
            raise UserError(f"dropout must be below 1, got {self.dropout}")
        if self.rdrop_alpha is not None:
            check_alpha(self.rdrop_alpha)
            if self.dropout == 0:
                raise UserError("R-Drop needs dropout above 0: without it the two views are the same")
        if self.dataset != "digits" and not self.data:
            raise UserError(f"{self.dataset} needs a directory: --data data/{self.dataset}")
        if self.warmup_updates >= self.updates:
            raise UserError(f"warmup-updates {self.warmup_updates} must be less than updates {self.updates}")
        try:
            dict(**json.loads(self.model_args))
        except (TypeError, ValueError):
            raise UserError(f'model-args must be a JSON object as {{"depth": 4}} is, got {self.model_args}') from None

    def key(self) -> dict[str, Any]:
        """What makes it another training if it changes; device, precision and directory do not."""
        return {each.name: getattr(self, each.name) for each in fields(self) if not each.metadata.get("free")}


def parse(argv: list[str], prog: str, description: str = "") -> tuple[Options, int]:
    """Options of the config, overridden by those of the command line; and --processes (0: one per GPU)."""
    parser = argparse.ArgumentParser(
        prog=prog, usage=f"{prog} [CONFIG] [options]", description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="name of a config in configs/vit, or a path")
    parser.add_argument("--processes", type=int, default=0, help="processes on this machine (default: one per GPU)")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)  # where configs/ and outputs/ are
    for each in fields(Options):
        parser.add_argument(
            f"--{dashed(each.name)}", default=each.default, metavar=dashed(each.name).upper(),
            type=float if each.default is None else type(each.default), choices=each.metadata.get("choices"),
            help=each.metadata["help"] + (" (default: %(default)s)" if each.default not in ("", None) else ""),
        )  # fmt: skip
    given = parser.parse_args(argv)
    name = "vit"
    if given.config:
        name, values = read(given.config, given.root)
        parser.set_defaults(**values)
    if any(word.partition("=")[0] == "--seed" for word in argv):
        name = f"{name}.seed{given.seed}"
    merged = vars(parser.parse_args(argv))
    merged["save_dir"] = merged["save_dir"] or str(given.root / "outputs" / "vit" / name)
    return Options(**{each.name: merged[each.name] for each in fields(Options)}), given.processes


def read(name: str, root: Path) -> tuple[str, dict[str, str]]:
    """A config's name (the last part of it) and its options, as written. Raises UserError."""
    name = name if "/" in name or Path(name).is_file() else f"{FOLDER}/{name}"
    try:
        path = find_config(name, root)
    except UserError:
        found = ", ".join(sorted(each.name for each in (root / "configs" / FOLDER).glob("*.yaml")))
        raise UserError(f"no config {name!r}: configs/{FOLDER} has {found}, whose heads say the names") from None
    experiment = read_config(path, name)
    values = {"data": str(root / experiment.own["data"])} if "data" in experiment.own else {}
    for entry in experiment.options:
        if entry.key not in {dashed(each.name) for each in fields(Options)}:
            raise UserError(f"{path}, line {entry.line}: there is no option {entry.key}; see --help")
        values[entry.key.replace("-", "_")] = entry.value
    return Path(experiment.name).stem, values


def dashed(name: str) -> str:
    """A field's name as an option."""
    return name.replace("_", "-")
