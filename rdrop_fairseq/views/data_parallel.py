"""Checks for combinations that torch's DistributedDataParallel cannot train: its own error, in the first backward, does
not say what to do.

It requires that every parameter gets a gradient, and gets it exactly once in a backward. Each case below was tried with
torch 2.13. --ddp-backend legacy_ddp reduces gradients after the backward and trains all of them.
"""

from __future__ import annotations

from torch import nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.models import data_parallel, has_layerdrop


def check_data_parallel(model: nn.Module, mode: str) -> None:
    """Raises UserError if --ddp-backend pytorch_ddp is used and cannot train the model in this mode."""
    if (ddp := data_parallel(model)) is None:
        return
    separate, finding = mode == "separate", ddp.find_unused_parameters
    each = "one forward per view" if separate else "--find-unused-parameters"
    recomputed = any(hasattr(module, "precheckpoint_forward") for module in model.modules())
    if recomputed and (separate or finding):
        _refuse(f"--checkpoint-activations with {each}", " or leave out --checkpoint-activations")
    if separate and finding:
        _refuse("one forward per view with --find-unused-parameters")
    if not finding and has_layerdrop(model):
        _refuse("LayerDrop, which leaves layers without a gradient,")


def _refuse(what: str, further: str = "") -> None:
    raise UserError(
        f"{what} does not work under --ddp-backend pytorch_ddp (the default): use --ddp-backend legacy_ddp{further}"
    )
