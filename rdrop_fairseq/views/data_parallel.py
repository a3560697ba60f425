"""What torch's DistributedDataParallel does not do, asked before the first backward, whose error names no way out.

It counts on each parameter's gradient being ready exactly once in a backward, and on every parameter having one.
Each case below was tried with it (torch 2.13); --ddp-backend legacy_ddp reduces after the backward and does them all.
"""

from __future__ import annotations

from fairseq.modules import LayerDropModuleList
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.models import wrappers


def check_data_parallel(model: nn.Module, mode: str) -> None:
    """Raises UserError where the model cannot be trained in this mode under --ddp-backend pytorch_ddp."""
    ddp = next((w for w in wrappers(model) if isinstance(w, DistributedDataParallel)), None)
    if ddp is None:
        return
    separate, finding = mode == "separate", ddp.find_unused_parameters
    each = "one forward per view" if separate else "--find-unused-parameters"
    recomputed = any(hasattr(module, "precheckpoint_forward") for module in model.modules())
    if recomputed and (separate or finding):
        _refuse(f"--checkpoint-activations with {each}", " or leave out --checkpoint-activations")
    if separate and finding:
        _refuse("one forward per view with --find-unused-parameters")
    if not finding and any(isinstance(m, LayerDropModuleList) and m.p > 0 for m in model.modules()):
        _refuse("LayerDrop, which leaves layers without a gradient,")


def _refuse(what: str, further: str = "") -> None:
    raise UserError(
        f"{what} does not work under --ddp-backend pytorch_ddp (the default): use --ddp-backend legacy_ddp{further}"
    )
