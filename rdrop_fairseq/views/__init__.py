"""Running the m views of a batch through the model: one stacked forward, one per view, or one encoder for all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Optional

import torch
from fairseq.models.lstm import LSTMEncoder
from fairseq.modules import LayerDropModuleList
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.cutoff import Cutoff, cutting
from rdrop_fairseq.views.dropout_rates import dropout_rate
from rdrop_fairseq.views.models import wrappers
from rdrop_fairseq.views.shared_encoder import check_shared_encoder, repeated_encoder_output, shared_input
from rdrop_fairseq.views.stack import stack_views

FORWARDS = ("auto", "stacked", "separate", "shared-encoder")


def check_forward(forward: str, cutoff: Optional[Cutoff], rates: Sequence[float]) -> None:
    """UserError where the way of running the views contradicts how they are to differ."""
    if rates and forward in ("stacked", "shared-encoder"):
        raise UserError(
            f"--rdrop-dropout-rates needs one forward per view: leave --rdrop-forward {forward} away or use separate"
        )
    if cutoff is not None and forward == "shared-encoder":
        raise UserError("cutoff makes the views' sources differ, so they cannot share an encoder run: use stacked")


def choose_forward(model: nn.Module, forward: str, rates: Sequence[float] = ()) -> str:
    """One of FORWARDS without "auto"; UserError where this model cannot be run that way."""
    if forward == "auto":
        forward = "separate" if rates or needs_separate(model) else "stacked"
    if forward == "separate":
        check_separate(model)
    if forward == "shared-encoder":
        check_shared_encoder(model)
    return forward


def needs_separate(model: nn.Module) -> bool:
    """True if views cannot be stacked: LayerDrop draws once per forward, for the whole stack, and the encoder of an
    LSTM wants its sentences from long to short, which a stack of batches is not."""
    return any(isinstance(m, LSTMEncoder) or (isinstance(m, LayerDropModuleList) and m.p > 0) for m in model.modules())


def check_separate(model: nn.Module) -> None:
    """UserError where several forwards before one backward give wrong gradients or an error deep inside torch."""
    if any(isinstance(w, DistributedDataParallel) and w.find_unused_parameters for w in wrappers(model)):
        raise UserError(
            "one forward per view does not go with --ddp-backend pytorch_ddp --find-unused-parameters: "
            "use --ddp-backend legacy_ddp"
        )


def run_views(
    model: nn.Module,
    net_input: dict[str, Any],
    sentences: int,
    views: int,
    forward: str,
    cutoff: Optional[Cutoff] = None,
    rates: Sequence[float] = (),
    **kwargs: Any,
) -> Any:
    """The model's output for `views` views of a batch, stacked along the batch dimension: (tensor [m*B, T, _], extra).

    forward: from `choose_forward`; cutoff: what is cut of which view; rates: a dropout rate for each view, none for the
    model's own. A single view is plain training: nothing is cut and the model's own rates apply. `extra` is that of
    the only, or of the last forward.
    """
    if views == 1:
        return model(**net_input, **kwargs)
    if forward == "shared-encoder":
        with repeated_encoder_output(model, sentences, views):
            return model(**shared_input(model, net_input, sentences, views), **kwargs)
    if forward == "stacked":
        with cutting(model, cutoff, range(views)):
            return model(**stack_views(net_input, sentences, views), **kwargs)
    outputs = []
    for view in range(views):
        with cutting(model, cutoff, [view]), dropout_rate(model, rates[view]) if rates else nullcontext():
            outputs.append(model(**net_input, **kwargs))
    stacked: Tensor = torch.cat([output[0] for output in outputs], dim=0)
    return (stacked, *outputs[-1][1:])
