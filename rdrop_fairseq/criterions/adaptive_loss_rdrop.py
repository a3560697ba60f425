"""`--criterion adaptive_loss_rdrop`: R-Drop for language models with an adaptive softmax."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
import math
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from fairseq import utils
from fairseq.criterions import register_criterion
from fairseq.criterions.adaptive_loss import AdaptiveLoss, AdaptiveLossConfig
from fairseq.logging import metrics
from fairseq.modules.adaptive_softmax import TiedHeadModule, TiedLinear
from torch import Tensor, nn

from rdrop_fairseq.criterions.logged import log_divergence, total
from rdrop_fairseq.criterions.multi_view import MultiView, Sizes
from rdrop_fairseq.criterions.rdrop import RDrop, RDropConfig
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import ViewWeights, plain_weights
from rdrop_fairseq.loss.adaptive import Cluster, adaptive_rdrop_loss
from rdrop_fairseq.loss.adaptive_exact import exact_adaptive_loss
from rdrop_fairseq.views import ModelViews
from rdrop_fairseq.views.models import Rows, unwrap


@dataclass
class AdaptiveLossRDropConfig(RDropConfig, AdaptiveLossConfig):
    """Options of R-Drop under an adaptive softmax."""

    rdrop_alpha: float = field(
        default=1.0,
        metadata={
            "help": "weight of the divergence of views (paper: 1 for language modelling); 0: plain training",
            "argparse_alias": "--reg-alpha",
        },
    )
    rdrop_exact_divergence: bool = field(
        default=False,
        metadata={
            "help": "divergence of the whole distributions: every tail at every position, weighted by its probability "
            "in the head, at over three times the cost (default: each tail where the next word lies in it, as in the "
            "paper's code)"
        },
    )


@register_criterion("adaptive_loss_rdrop", dataclass=AdaptiveLossRDropConfig)
class AdaptiveLossRDropCriterion(RDrop, MultiView, AdaptiveLoss):
    """L = CE_1 + CE_2 + alpha/2 [KL(p1||p2) + KL(p2||p1)] with the divergences of loss/adaptive.py.

    In eval mode it is fairseq's adaptive_loss with one pass, bit for bit, except for a model in half precision, where
    sums are in fp32. In training, and for such a model, it includes every word, while fairseq's omits one word per
    tail, whose number in the tail equals that of padding in the dictionary.

    On a GPU the host waits once per batch and cluster: the number of targets in a tail is known from the targets only.
    """

    def __init__(self, task: Any, cfg: AdaptiveLossRDropConfig) -> None:
        super().__init__(task, cfg.sentence_avg)
        self.set_rdrop(task, cfg)
        self.exact = cfg.rdrop_exact_divergence
        self._softmax: Any = None

    @classmethod
    def build_criterion(cls, cfg: AdaptiveLossRDropConfig, task: Any) -> "AdaptiveLossRDropCriterion":
        """Raises UserError for a backend that does not allow the softmax's weights to be used outside the model."""
        if cfg.ddp_backend not in ("no_c10d", "legacy_ddp"):
            raise UserError(f"an adaptive softmax does not train under --ddp-backend {cfg.ddp_backend}: use legacy_ddp")
        return cls(task, cfg)

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """(loss, sample size, logging outputs): sums in nats over the tokens of one view."""
        bound = self.bind(model)  # checks the model before validation, too
        half = next(model.parameters()).dtype in (torch.float16, torch.bfloat16)
        if model.training or not half or not reduce:
            return super().forward(model, sample, reduce)
        return self.validate_in_half(bound, sample)

    def validate_in_half(self, bound: ModelViews, sample: dict[str, Any]) -> tuple[Tensor, int, dict[str, Any]]:
        """fairseq adds up the whole batch in the model's dtype: fp16 ends at 65,504, which 7,000 words of WikiText-103
        reach in the first epochs and 23,000 in the last, and bf16 has steps of 64 at one block's 9,000 nats."""
        sizes = self.sizes(sample)
        loss, *_ = self.objective(self.rows(bound, sample, 1), sample["target"], plain_weights(), sizes.positions)
        log = {"loss": loss, "ntokens": sizes.ntokens, "nsentences": sizes.nsentences, "sample_size": sizes.sample_size}
        return loss, sizes.sample_size, log

    def check_model(self, model: nn.Module) -> None:
        """Raises UserError for a model without an adaptive softmax."""
        inner: Any = unwrap(model)
        softmax = getattr(getattr(inner, "decoder", None), "adaptive_softmax", None)
        if softmax is None:
            raise UserError(
                f"{type(inner).__name__} has no adaptive softmax: give --adaptive-softmax-cutoff, or use "
                "--criterion label_smoothed_cross_entropy_rdrop"
            )
        self._softmax = [softmax]  # in a list: it is the model's module, not this one's

    def rows(self, bound: ModelViews, sample: dict[str, Any], count: int) -> Rows:
        """Features [m*B, T, d], which fairseq's decoder returns if it has an adaptive softmax."""
        return Rows(bound.run(sample["net_input"], sample["target"].size(0), count)[0])

    def sizes(self, sample: dict[str, Any]) -> Sizes:
        """Target tokens without padding, as fairseq's adaptive_loss counts them."""
        target = sample["target"]
        ntokens = int(target.ne(self.padding_idx).sum())
        return Sizes(ntokens, target.size(0), ntokens, target.size(0) if self.sentence_avg else ntokens)

    def objective(
        self, rows: Rows, target: Tensor, weights: ViewWeights, positions: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, nll, kl), sums in nats over clusters (see loss/adaptive.py and loss/adaptive_exact.py)."""
        softmax = self._softmax[0]
        if self.exact and weights.views > 1:
            features = softmax.dropout_module(rows.tensor.reshape(-1, rows.tensor.size(-1)))
            further = softmax.head, softmax.tail, softmax.cutoff, weights, self.padding_idx
            return exact_adaptive_loss(features, target.reshape(-1), *further)
        parts = clusters(softmax, rows.tensor, target, weights.views)
        return adaptive_rdrop_loss(parts, weights, self.padding_idx, self.impl)

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Logs a validation as fairseq does; in training, the perplexity of the negative log-likelihood."""
        if not any("nll_loss" in log for log in logging_outputs):
            AdaptiveLoss.reduce_metrics(logging_outputs)
            return
        names = ("loss", "nll_loss", "ntokens", "sample_size")
        loss, nll, tokens, size = (total(logging_outputs, name) for name in names)
        bits = 1 / math.log(2)
        metrics.log_scalar("loss", loss / size * bits, size, round=3)
        metrics.log_scalar("nll_loss", nll / tokens * bits, tokens, round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))
        log_divergence(logging_outputs)


def clusters(softmax: Any, features: Tensor, target: Tensor, views: int) -> list[Cluster]:
    """The clusters of fairseq's AdaptiveSoftmax for features [m*B, T, d] and targets [B, T], the head first."""
    rows = softmax.dropout_module(features.reshape(-1, features.size(-1)))
    adapted, positions = softmax.adapt_target(target)
    head = head_weight(softmax)
    found: list[Cluster] = [(rows if head is not None else softmax.head(rows), head, adapted[0])]
    stacked = rows.view(views, -1, rows.size(-1))
    for tail, index, classes in zip(softmax.tail, positions, adapted[1:]):
        if index is not None:
            inside = stacked.index_select(1, index).flatten(0, 1)
            if is_plain(softmax, tail[2]):
                found.append((tail[1](tail[0](inside)), tail[2].weight, classes))
            else:
                found.append((tail(inside), None, classes))
    return found


def head_weight(softmax: Any) -> Optional[Tensor]:
    """The head's weight [C, d], tied to the input embeddings or not; None if the head is not a plain projection."""
    head = softmax.head
    if not isinstance(head, TiedHeadModule):
        return head.weight if is_plain(softmax, head) else None
    if not is_plain(softmax, head.word_proj):
        return None
    return torch.cat([head.word_proj.weight, head.class_proj.weight])


def is_plain(softmax: Any, layer: nn.Module) -> bool:
    """True if the layer's logits are exactly rows @ weight.T."""
    return softmax.q_noise == 0 and (type(layer) is nn.Linear or (type(layer) is TiedLinear and not layer.transpose))
