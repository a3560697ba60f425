"""Properties of a model: its wrappers, whether its views can be stacked, and how its output is projected."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from typing import Any, Optional

from fairseq.models import BaseFairseqModel, FairseqDecoder, FairseqLanguageModel
from fairseq.models.lstm import LSTMEncoder
from fairseq.models.transformer import TransformerDecoderBase, TransformerModelBase
from fairseq.modules import LayerDropModuleList
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rdrop_fairseq.errors import UserError

logger = logging.getLogger(__name__)

# Methods under which the distribution is softmax(output_projection(features)).
PLAIN_OUTPUT_LAYERS = {TransformerDecoderBase.output_layer}
PLAIN_PROBABILITIES = {
    BaseFairseqModel.get_normalized_probs,
    TransformerModelBase.get_normalized_probs,
    FairseqDecoder.get_normalized_probs,
}


def unwrap(model: nn.Module) -> nn.Module:
    """The model without its wrappers (for data parallelism)."""
    return wrappers(model)[-1]


def wrappers(model: nn.Module) -> list[nn.Module]:
    """The wrappers of the model, outermost first, and the model itself as the last one."""
    chain = [model]
    while isinstance(getattr(chain[-1], "module", None), nn.Module):
        chain.append(chain[-1].module)  # type: ignore[arg-type]
    return chain


def data_parallel(model: nn.Module) -> Optional[DistributedDataParallel]:
    """The wrapper of --ddp-backend pytorch_ddp, if there is one."""
    return next((w for w in wrappers(model) if isinstance(w, DistributedDataParallel)), None)


def needs_separate(model: nn.Module) -> bool:
    """True if views cannot be stacked: LayerDrop drops the same layers for the whole stack, and the encoder of an LSTM
    needs sentences sorted from long to short, which a stack of batches is not."""
    return has_layerdrop(model) or any(isinstance(m, LSTMEncoder) for m in model.modules())


def has_layerdrop(model: nn.Module) -> bool:
    """True if layers of the model are left out at random in training."""
    return any(isinstance(m, LayerDropModuleList) and m.p > 0 for m in model.modules())


def check_softmax(model: nn.Module) -> None:
    """Raises UserError for an adaptive softmax, which does not compute the whole distribution."""
    decoder = getattr(unwrap(model), "decoder", None)
    if getattr(decoder, "adaptive_softmax", None) is not None:
        raise UserError(
            "this criterion compares whole output distributions, which an adaptive softmax does not compute: "
            "use --criterion adaptive_loss_rdrop, or leave out --adaptive-softmax-cutoff"
        )


def has_plain_probabilities(model: nn.Module) -> bool:
    """True if the model's probabilities are the softmax of its output, by fairseq's own methods."""
    inner: Any = unwrap(model)
    methods = [type(inner).get_normalized_probs]
    if hasattr(inner, "decoder"):
        methods.append(type(inner.decoder).get_normalized_probs)
    return all(method in PLAIN_PROBABILITIES for method in methods)


def find_projection(model: nn.Module) -> tuple[Optional[nn.Linear], str]:
    """(the decoder's output projection, "") if the loss may apply it, else (None, the reason)."""
    chain = wrappers(model)
    inner: Any = chain[-1]
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in (*chain, *inner.modules())):
        return None, "parameters are sharded: the projection's weight is whole only inside the model's forward"
    decoder: Any = getattr(inner, "decoder", None)
    projection = getattr(decoder, "output_projection", None)
    if type(projection) is not nn.Linear or type(decoder).output_layer not in PLAIN_OUTPUT_LAYERS:
        return None, "the decoder's output layer is not a plain linear projection"
    if projection._forward_hooks or projection._forward_pre_hooks:
        return None, "the output projection has hooks, which only a call of the module runs"
    if not has_plain_probabilities(model):
        return None, "the model has its own way to compute probabilities"
    if not _takes_features_only(inner):
        return None, "the model's forward has no features_only"
    if getattr(data_parallel(model), "find_unused_parameters", False) and not _is_tied(inner, projection):
        # That wrapper would treat a weight that model.forward does not use as unused, and reduce it too early.
        return None, "--find-unused-parameters looks for the projection's weight inside the model's forward"
    return projection, ""


def _takes_features_only(model: Any) -> bool:
    """True if the model's forward has features_only. A language model passes its arguments on to its decoder."""
    handed_on = isinstance(model, FairseqLanguageModel) and type(model).forward is FairseqLanguageModel.forward
    forward = model.decoder.forward if handed_on else model.forward
    return "features_only" in inspect.signature(forward).parameters


def _is_tied(model: nn.Module, projection: nn.Linear) -> bool:
    return any(m is not projection and getattr(m, "weight", None) is projection.weight for m in model.modules())


@dataclass(frozen=True)
class Rows:
    """A model's output for every position of every view.

    tensor: features [m*B, T, d] for the loss to project, or logits [m*B, ..., V] if `projection` is None.
    """

    tensor: Tensor
    projection: Optional[nn.Linear] = None


class DecoderOutput:
    """How to get features or logits from a model's output, determined once per model.

    Raises UserError for an adaptive softmax. Logs the reason if the loss has to work on logits.
    """

    def __init__(self, model: nn.Module) -> None:
        check_softmax(model)
        self.model: Any = unwrap(model)
        self.projection, reason = find_projection(model)
        if self.projection is None:
            logger.info("the loss works on logits, which takes more memory: %s", reason)
        self.plain = has_plain_probabilities(model)

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments for the model's forward."""
        return {"features_only": True} if self.projection is not None else {}

    def rows(self, net_output: Any) -> Rows:
        """Features or logits of the model's output."""
        if self.projection is not None or self.plain:
            return Rows(net_output[0], self.projection)
        # log-probabilities are valid logits: softmax(log p) = p
        return Rows(self.model.get_normalized_probs(net_output, log_probs=True))
