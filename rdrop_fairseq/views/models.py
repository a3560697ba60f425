"""Is the model's output a plain linear projection that the loss may do itself, and if not, why not?"""

from __future__ import annotations

import inspect
from typing import Any, Optional

from fairseq.models import BaseFairseqModel, FairseqDecoder
from fairseq.models.transformer import TransformerDecoderBase, TransformerModelBase
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rdrop_fairseq.errors import UserError

# The methods that say: the distribution is softmax(output_projection(features)), nothing else.
PLAIN_OUTPUT_LAYERS = {TransformerDecoderBase.output_layer}
PLAIN_PROBABILITIES = {
    BaseFairseqModel.get_normalized_probs,
    TransformerModelBase.get_normalized_probs,
    FairseqDecoder.get_normalized_probs,
}


def wrappers(model: nn.Module) -> list[nn.Module]:
    """The model and what it wraps, outermost first; the last one is the model itself."""
    chain = [model]
    while isinstance(getattr(chain[-1], "module", None), nn.Module):
        chain.append(chain[-1].module)  # type: ignore[arg-type]
    return chain


def check_softmax(model: nn.Module) -> None:
    """UserError for an adaptive softmax: it never has the whole distribution that the views are compared by."""
    decoder = getattr(wrappers(model)[-1], "decoder", None)
    if getattr(decoder, "adaptive_softmax", None) is not None:
        raise UserError(
            "this criterion compares whole output distributions and an adaptive softmax has none: "
            "remove --adaptive-softmax-cutoff (and --criterion adaptive_loss)"
        )


def has_plain_probabilities(model: nn.Module) -> bool:
    """True if the model's probabilities are the softmax of its output, by fairseq's own methods."""
    inner: Any = wrappers(model)[-1]
    methods = [type(inner).get_normalized_probs]
    if hasattr(inner, "decoder"):
        methods.append(type(inner.decoder).get_normalized_probs)
    return all(method in PLAIN_PROBABILITIES for method in methods)


def find_projection(model: nn.Module) -> tuple[Optional[nn.Linear], str]:
    """(the decoder's output projection, "") if the loss may apply it itself, else (None, the reason)."""
    chain = wrappers(model)
    inner: Any = chain[-1]
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in (*chain, *inner.modules())):
        return None, "parameters are sharded: the projection's weight is whole only inside the model's forward"
    decoder: Any = getattr(inner, "decoder", None)
    projection = getattr(decoder, "output_projection", None)
    if type(projection) is not nn.Linear or type(decoder).output_layer not in PLAIN_OUTPUT_LAYERS:
        return None, "the decoder's output layer is not a plain linear projection"
    if projection._forward_hooks or projection._forward_pre_hooks:
        return None, "the output projection has hooks that only a call of it would run"
    if not has_plain_probabilities(model):
        return None, "the model makes its probabilities in a way of its own"
    if "features_only" not in inspect.signature(inner.forward).parameters:
        return None, "the model's forward has no features_only"
    finds_unused = any(isinstance(w, DistributedDataParallel) and w.find_unused_parameters for w in chain)
    if finds_unused and not _is_tied(inner, projection):
        # That wrapper would take a weight that model.forward does not touch for unused, and reduce it too early.
        return None, "--find-unused-parameters looks for the projection's weight inside the model's forward"
    return projection, ""


def _is_tied(model: nn.Module, projection: nn.Linear) -> bool:
    return any(m is not projection and getattr(m, "weight", None) is projection.weight for m in model.modules())
