"""What every criterion on several views of a batch shares: run the views, take the loss, log it."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from fairseq.dataclass import ChoiceEnum
from torch import Tensor, nn

from rdrop_fairseq.criterions.logged import log_divergence
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import IMPLEMENTATIONS, ViewWeights, linear_rdrop_loss, rdrop_loss
from rdrop_fairseq.views import FORWARDS, check_forward, choose_forward, run_views
from rdrop_fairseq.views.cutoff import Cutoff
from rdrop_fairseq.views.models import check_softmax, find_projection, has_plain_probabilities

logger = logging.getLogger(__name__)


@dataclass
class MultiViewCriterionConfig(LabelSmoothedCrossEntropyCriterionConfig):
    """fairseq's options of label-smoothed cross entropy, and how the views are computed."""

    rdrop_impl: ChoiceEnum(IMPLEMENTATIONS) = field(  # type: ignore[valid-type]
        default="auto",
        metadata={
            "help": "fused: chunked, closed-form gradient, no [tokens, vocabulary] tensor is kept; "
            "eager: plain torch, the definition; auto: fused on CPU and CUDA, eager on other devices"
        },
    )
    rdrop_forward: ChoiceEnum(FORWARDS) = field(  # type: ignore[valid-type]
        default="auto",
        metadata={
            "help": "stacked: all views in one forward; separate: one forward per view; shared-encoder: the encoder "
            "once, the decoder for all views; auto: separate with LayerDrop (a stack would lose the same layers), "
            "with different dropout rates and for LSTMs, else stacked"
        },
    )


@dataclass
class Plan:
    """How the views of one model are computed; found once per model."""

    model: nn.Module
    projection: Optional[nn.Linear]
    forward: str


class MultiViewCriterion(LabelSmoothedCrossEntropyCriterion, ABC):
    """Base of the criterions here. In eval mode it is fairseq's label-smoothed cross entropy, one pass, to the bit."""

    def __init__(
        self,
        task: Any,
        cfg: MultiViewCriterionConfig,
        cutoff: Optional[Cutoff] = None,
        rates: tuple[float, ...] = (),
    ) -> None:
        """cutoff: what is cut of which view; rates: a dropout rate for each view, none for the model's own."""
        super().__init__(task, cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size, cfg.report_accuracy)
        if not 0 <= cfg.label_smoothing < 1:
            raise UserError(f"--label-smoothing must be in [0, 1), got {cfg.label_smoothing}")
        if cfg.ignore_prefix_size < 0:
            raise UserError(f"--ignore-prefix-size must be >= 0, got {cfg.ignore_prefix_size}")
        check_forward(str(cfg.rdrop_forward), cutoff, rates)
        self.cfg = cfg
        self.cutoff, self.rates = cutoff, rates
        self._plan: Optional[Plan] = None

    @abstractmethod
    def view_weights(self) -> ViewWeights:
        """The objective of this update."""

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """(loss, sample size, logging outputs) as fairseq wants them; sums in nats over the tokens of one view.

        The sample size is the number of target tokens of one view (sentences with --sentence-avg), as in the code of
        the R-Drop paper, so that its alpha and learning rates carry over.
        """
        if not model.training:
            return super().forward(model, sample, reduce)
        if not reduce:
            raise UserError("this criterion trains on the sum over a batch: call it with reduce=True")
        plan = self._plan_for(model)
        weights = self.view_weights()
        target = self._scored_targets(sample["target"])
        impl = self._impl(target.device)
        output = self._run(model, sample, weights.views, plan)
        if not target.ne(self.padding_idx).any():  # --ignore-prefix-size left nothing of these short sentences
            loss = nll = kl = _zero(output, plan.projection)
        else:
            kwargs: dict[str, Any] = {"weights": weights, "label_smoothing": self.eps, "impl": impl}
            kwargs["ignore_index"] = self.padding_idx
            if plan.projection is not None:
                loss, nll, kl = linear_rdrop_loss(
                    output, plan.projection.weight, target, plan.projection.bias, **kwargs
                )
            else:
                loss, nll, kl = rdrop_loss(output, target, **kwargs)
        return loss, *self._logging(sample, target, output, plan, weights, loss.detach(), nll.detach(), kl.detach())

    def _plan_for(self, model: nn.Module) -> Plan:
        if self._plan is None or self._plan.model is not model:
            check_softmax(model)
            projection, reason = find_projection(model)
            if projection is None:
                logger.info("the loss works on logits, which takes more memory: %s", reason)
            self._plan = Plan(model, projection, choose_forward(model, str(self.cfg.rdrop_forward), self.rates))
        return self._plan

    def _impl(self, device: torch.device) -> str:
        impl = str(self.cfg.rdrop_impl)
        return ("fused" if device.type in ("cpu", "cuda") else "eager") if impl == "auto" else impl

    def _run(self, model: nn.Module, sample: dict[str, Any], views: int, plan: Plan) -> Tensor:
        """Features [m*B, T, d] if the loss projects them, else logits [m*B, T, V]."""
        how = (sample["net_input"], sample["target"].size(0), views, plan.forward, self.cutoff, self.rates)
        if plan.projection is not None:
            return run_views(model, *how, features_only=True)[0]
        net_output = run_views(model, *how)
        if has_plain_probabilities(model):
            return net_output[0]
        probabilities: Any = model.get_normalized_probs
        return probabilities(net_output, log_probs=True)  # their softmax is what they are the log of

    def _scored_targets(self, target: Tensor) -> Tensor:
        """Targets [B, T] with the ignored prefix as padding; UserError if the batch has no target at all."""
        if not target.numel() or not target.ne(self.padding_idx).any():
            raise UserError(f"a batch of {target.size(0)} sentences has no target token: check the data set")
        if not self.ignore_prefix_size:
            return target
        target = target.clone()
        target[:, : self.ignore_prefix_size] = self.padding_idx
        return target

    def _logging(
        self,
        sample: dict[str, Any],
        target: Tensor,
        output: Tensor,
        plan: Plan,
        weights: ViewWeights,
        loss: Tensor,
        nll: Tensor,
        kl: Tensor,
    ) -> tuple[int, dict[str, Any]]:
        ntokens, nsentences = sample["ntokens"], sample["target"].size(0)
        sample_size = nsentences if self.sentence_avg else ntokens
        log: dict[str, Any] = {
            "loss": loss,
            "nll_loss": nll,
            "ntokens": ntokens,
            "nsentences": nsentences,
            "sample_size": sample_size,
            "rdrop_kl": kl,
            "rdrop_ntokens": ntokens if weights.views > 1 else 0,
            "rdrop_alpha": weights.kl_total * ntokens,
            "rdrop_trained_ntokens": ntokens,
        }
        if self.report_accuracy:
            log["n_correct"], log["total"] = self._accuracy(output.detach(), target, plan, weights.views)
        return sample_size, log

    @torch.no_grad()
    def _accuracy(self, output: Tensor, target: Tensor, plan: Plan, views: int) -> tuple[int, int]:
        """(correct, counted) predictions of all views."""
        counted = target.ne(self.padding_idx)
        correct = 0
        for view in output.chunk(views):
            for rows, classes in zip(view[counted].split(1024), target[counted].split(1024)):
                logits = rows if plan.projection is None else plan.projection(rows)
                correct += int(logits.argmax(-1).eq(classes).sum())
        return correct, int(counted.sum()) * views

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """fairseq's quantities and ours (metrics.py), summed over workers."""
        super().reduce_metrics(logging_outputs)
        log_divergence(logging_outputs)


def _zero(output: Tensor, projection: Optional[nn.Linear]) -> Tensor:
    """0 with a gradient of 0 for every parameter: distributed workers wait for the gradient of each."""
    tensors = [output, *(projection.parameters() if projection is not None else ())]
    return torch.stack([tensor.float().sum() * 0.0 for tensor in tensors]).sum()
