"""`--criterion adaptive_loss_rdrop`: R-Drop for language models with an adaptive softmax."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
import math
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from fairseq import utils
from fairseq.criterions import register_criterion
from fairseq.criterions.adaptive_loss import AdaptiveLoss, AdaptiveLossConfig
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from fairseq.modules.adaptive_softmax import TiedHeadModule, TiedLinear
from torch import Tensor, nn

from rdrop_fairseq.criterions.logged import log_divergence
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import IMPLEMENTATIONS, plain_weights, rdrop_weights
from rdrop_fairseq.loss.adaptive import Cluster, adaptive_rdrop_loss
from rdrop_fairseq.views import choose_forward, run_views
from rdrop_fairseq.views.models import wrappers

MODES = ("auto", "stacked", "separate")


@dataclass
class AdaptiveLossRDropConfig(AdaptiveLossConfig):
    """Options of R-Drop under an adaptive softmax."""

    rdrop_alpha: float = field(
        default=1.0,
        metadata={
            "help": "weight of the divergence of views (paper: 1 for language modelling); 0: plain training",
            "argparse_alias": "--reg-alpha",
        },
    )
    rdrop_passes: int = field(default=2, metadata={"help": "number of views of each batch, m >= 2"})
    rdrop_impl: ChoiceEnum(IMPLEMENTATIONS) = field(  # type: ignore[valid-type]
        default="auto", metadata={"help": "eager: plain torch, the definition; fused: closed-form gradient"}
    )
    rdrop_mode: ChoiceEnum(MODES) = field(  # type: ignore[valid-type]
        default="auto",
        metadata={
            "help": "stacked: all views in one forward; separate: one forward per view; auto: separate with "
            "LayerDrop (a stack would lose the same layers), else stacked"
        },
    )


@register_criterion("adaptive_loss_rdrop", dataclass=AdaptiveLossRDropConfig)
class AdaptiveLossRDropCriterion(AdaptiveLoss):
    """L = CE_1 + CE_2 + alpha/2 [KL(p1||p2) + KL(p2||p1)] with the divergences of loss/adaptive.py.

    In eval mode it is fairseq's adaptive_loss, one pass, to the bit. In training every word counts, where fairseq's
    leaves out one of each tail: the word whose number in the tail is that of padding in the dictionary.
    """

    def __init__(self, task: Any, cfg: AdaptiveLossRDropConfig) -> None:
        super().__init__(task, cfg.sentence_avg)
        if cfg.rdrop_passes < 2:
            raise UserError(f"--rdrop-passes must be at least 2, got {cfg.rdrop_passes}")
        self.cfg = cfg
        self.weights = rdrop_weights(cfg.rdrop_alpha, cfg.rdrop_passes) if cfg.rdrop_alpha else plain_weights()
        self._mode: Optional[tuple[nn.Module, str]] = None

    @classmethod
    def build_criterion(cls, cfg: AdaptiveLossRDropConfig, task: Any) -> "AdaptiveLossRDropCriterion":
        """Raises UserError for a backend under which the weights of the softmax cannot be used outside of the model."""
        if cfg.ddp_backend not in ("no_c10d", "legacy_ddp"):
            raise UserError(f"an adaptive softmax does not train under --ddp-backend {cfg.ddp_backend}: use legacy_ddp")
        return cls(task, cfg)

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """(loss, sample size, logging outputs): sums in nats over the tokens of one view."""
        mode = self._mode_for(model)
        if not model.training:
            return super().forward(model, sample, reduce)
        if not reduce:
            raise UserError("this criterion trains on the sum over a batch: call it with reduce=True")
        target, views = sample["target"], self.weights.views
        features = run_views(model, sample["net_input"], target.size(0), views, mode)[0]
        inner: Any = wrappers(model)[-1]
        parts = clusters(inner.decoder.adaptive_softmax, features, target, views)
        impl = str(self.cfg.rdrop_impl) if target.device.type in ("cpu", "cuda") else "eager"
        loss, nll, kl = adaptive_rdrop_loss(parts, self.weights, self.padding_idx, impl)
        ntokens = int(target.ne(self.padding_idx).sum())
        log = {
            "loss": loss.detach(),
            "nll_loss": nll.detach(),
            "ntokens": ntokens,
            "nsentences": target.size(0),
            "sample_size": target.size(0) if self.sentence_avg else ntokens,
            "rdrop_kl": kl.detach(),
            "rdrop_ntokens": ntokens if views > 1 else 0,
            "rdrop_alpha": self.weights.kl_total * ntokens,
            "rdrop_trained_ntokens": ntokens,
        }
        return loss, log["sample_size"], log

    def _mode_for(self, model: nn.Module) -> str:
        if self._mode is None or self._mode[0] is not model:
            inner: Any = wrappers(model)[-1]
            if getattr(getattr(inner, "decoder", None), "adaptive_softmax", None) is None:
                raise UserError(
                    f"{type(inner).__name__} has no adaptive softmax: give --adaptive-softmax-cutoff, or use "
                    "--criterion label_smoothed_cross_entropy_rdrop"
                )
            self._mode = (model, choose_forward(model, str(self.cfg.rdrop_mode)))
        return self._mode[1]

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Validation as fairseq logs it; in training the perplexity is of the true negative log-likelihood."""
        if not any("nll_loss" in log for log in logging_outputs):
            super().reduce_metrics(logging_outputs)
            return
        total = {
            key: utils.item(sum(log.get(key, 0) for log in logging_outputs))
            for key in ("loss", "nll_loss", "ntokens", "sample_size")
        }
        bits = 1 / math.log(2)
        metrics.log_scalar("loss", total["loss"] / total["sample_size"] * bits, total["sample_size"], round=3)
        metrics.log_scalar("nll_loss", total["nll_loss"] / total["ntokens"] * bits, total["ntokens"], round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))
        log_divergence(logging_outputs)


def clusters(softmax: Any, features: Tensor, target: Tensor, views: int) -> list[Cluster]:
    """What the loss takes from fairseq's AdaptiveSoftmax for features [m*B, T, d] and targets [B, T]."""
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
    """The matrix [C, d] that makes the head's logits, tied to the input embeddings or not; None if there is none."""
    head = softmax.head
    if not isinstance(head, TiedHeadModule):
        return head.weight if is_plain(softmax, head) else None
    if not is_plain(softmax, head.word_proj):
        return None
    return torch.cat([head.word_proj.weight, head.class_proj.weight])


def is_plain(softmax: Any, layer: nn.Module) -> bool:
    """True if the layer's logits are rows @ weight.T and nothing else."""
    return softmax.q_noise == 0 and (type(layer) is nn.Linear or (type(layer) is TiedLinear and not layer.transpose))
