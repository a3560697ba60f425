"""Running the m views of a batch through the model: one stacked forward, or one forward per view."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.modules import LayerDropModuleList
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.projection import wrappers
from rdrop_fairseq.views import stack_views


def needs_separate(model: nn.Module) -> bool:
    """True if dropout is not all that differs between views: LayerDrop draws once per forward, for the whole stack."""
    return any(isinstance(m, LayerDropModuleList) and m.p > 0 for m in model.modules())


def check_separate(model: nn.Module) -> None:
    """UserError where several forwards before one backward give wrong gradients or an error deep inside torch."""
    if any(isinstance(w, DistributedDataParallel) and w.find_unused_parameters for w in wrappers(model)):
        raise UserError(
            "one forward per view does not go with --ddp-backend pytorch_ddp --find-unused-parameters: "
            "use --ddp-backend legacy_ddp"
        )


def run_views(
    model: nn.Module, net_input: dict[str, Any], sentences: int, views: int, separate: bool, **kwargs: Any
) -> Any:
    """The model's output for `views` views of a batch, stacked along the batch dimension: (tensor [m*B, T, _], extra).

    `extra` is that of the only, or of the last forward.
    """
    if views == 1:
        return model(**net_input, **kwargs)
    if not separate:
        return model(**stack_views(net_input, sentences, views), **kwargs)
    outputs = [model(**net_input, **kwargs) for _ in range(views)]
    stacked: Tensor = torch.cat([output[0] for output in outputs], dim=0)
    return (stacked, *outputs[-1][1:])
