"""A Vision Transformer of timm for so many classes, from a checkpoint or from nothing."""

from __future__ import annotations

import contextlib
import difflib
import json
from pathlib import Path
from typing import Any

from torch import nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.vision.options import Options
from rdrop_fairseq.vision.packages import package


def build(options: Options) -> nn.Module:
    """The model of the options, fp32, on the CPU. Position embeddings of a checkpoint are resized to the image size; a
    checkpoint's head is replaced by one of zeros, as in the ViT paper.

    Raises UserError for a name that timm does not have, one that is no ViT, and weights that cannot be had.
    """
    timm = package("timm")
    settings(options.model)
    file = None if options.init in ("pretrained", "random") else Path(options.init)
    if file and not file.is_file():
        raise UserError(f"init must be pretrained, random or a file; there is no file {file}")
    arguments: dict[str, Any] = {
        "num_classes": options.classes,
        "img_size": options.image_size,
        "in_chans": 1 if options.dataset == "digits" else 3,
        "pos_drop_rate": options.dropout,
        "proj_drop_rate": options.dropout,
        **json.loads(options.model_args),
    }
    try:
        model: nn.Module = timm.create_model(options.model, pretrained=options.init == "pretrained", **arguments)
        if file:
            load_file(timm, model, file)
    except Exception as error:  # network, hub, archive, shape: each library raises its own
        reason = " ".join(str(error).split())[:200]
        given = f"--model-args {options.model_args} and --init {options.init}"
        raise UserError(f"{options.model} cannot be built with {given} ({reason}); --init also takes a file") from error
    if options.init != "random":
        for parameter in model.get_submodule("head").parameters():
            nn.init.zeros_(parameter)
    return model


def settings(name: str) -> Any:
    """What timm knows of a model, such as the mean and std of its pixels. Raises UserError for one it does not have."""
    timm = package("timm")
    with contextlib.suppress(RuntimeError):  # of another tag behind the dot
        if (found := timm.get_pretrained_cfg(name)) is not None:
            return found
    near = ", ".join(difflib.get_close_matches(name, timm.list_models("vit_*"), n=3)) or "none"
    raise UserError(f"timm {timm.__version__} has no model {name!r}; near it are {near}")


def load_file(timm: Any, model: nn.Module, path: Path) -> None:
    """All weights but the head's. Raises whatever the file's reader raises; ValueError where weights are missing."""
    if path.suffix == ".npz":
        model.load_pretrained(str(path))  # type: ignore[operator]
        return
    state = timm.models.load_state_dict(str(path), device="cpu", weights_only=True)
    state = timm.models.vision_transformer.checkpoint_filter_fn(state, model)
    body = {name: value for name, value in state.items() if not name.startswith("head.")}
    missing = [name for name in model.load_state_dict(body, strict=False).missing_keys if not name.startswith("head.")]
    if missing:
        raise ValueError(f"it has no {', '.join(missing[:3])}")
