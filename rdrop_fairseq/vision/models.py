"""A Vision Transformer of timm for so many classes, from a checkpoint or from nothing."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from torch import nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.vision.options import Options
from rdrop_fairseq.vision.packages import package


def build(options: Options, channels: int) -> nn.Module:
    """The model of the options, fp32, on the CPU. Position embeddings of a checkpoint are resized to the image size; a
    checkpoint's head is replaced by one of zeros, as in the ViT paper.

    Raises UserError for a name that timm does not have, one that is no ViT, and weights that cannot be had.
    """
    timm = package("timm")
    check_name(timm, options.model)
    arguments: dict[str, Any] = {
        "num_classes": options.classes,
        "img_size": options.image_size,
        "in_chans": channels,
        "pos_drop_rate": options.dropout,
        "proj_drop_rate": options.dropout,
        **options.model_arguments(),
    }
    if options.init == "random":
        return create(timm, options, arguments)
    if options.init != "pretrained" and not Path(options.init).is_file():
        raise UserError(f"init must be pretrained, random or a file; there is no file {options.init}")
    model = create(timm, options, arguments)
    for parameter in model.get_submodule("head").parameters():
        nn.init.zeros_(parameter)
    return model


def check_name(timm: Any, name: str) -> None:
    """UserError, with names that are alike, where timm has no such model."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models("vit_*"), n=3)
        raise UserError(f"timm {timm.__version__} has no model {name!r}; near it are {', '.join(near) or 'none'}")


def create(timm: Any, options: Options, arguments: dict[str, Any]) -> nn.Module:
    """timm.create_model, whose many kinds of failure become one."""
    source = "timm's weights" if options.init == "pretrained" else options.init
    try:
        model: nn.Module = timm.create_model(options.model, pretrained=options.init == "pretrained", **arguments)
        if options.init not in ("pretrained", "random"):
            load_file(timm, model, Path(options.init))
    except (TypeError, AssertionError, ZeroDivisionError) as error:
        raise UserError(f"{options.model} cannot be built with these options ({one_line(error)})") from error
    except Exception as error:  # network, hub, archive, shape: each library raises its own
        if options.init == "random":
            raise
        raise UserError(
            f"{source} cannot be loaded into {options.model} ({one_line(error)}); --init takes a file that holds them"
        ) from error
    return model


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


def one_line(error: BaseException) -> str:
    """The beginning of an error's message."""
    words = " ".join(str(error).split())
    return words if len(words) <= 200 else f"{words[:200]} ..."


def describe(model: nn.Module) -> str:
    """Its size, for the log."""
    return f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f}M parameters"
