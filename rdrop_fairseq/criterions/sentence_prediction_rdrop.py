"""`--criterion sentence_prediction_rdrop`: R-Drop for sentence classification and regression."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
import math
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from torch import Tensor, nn

from rdrop_fairseq.criterions import sentence_metrics
from rdrop_fairseq.criterions.logged import log_divergence
from rdrop_fairseq.criterions.multi_view import MultiView, Sizes
from rdrop_fairseq.criterions.rdrop import RDrop, RDropConfig
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import ViewWeights
from rdrop_fairseq.loss.regression import rdrop_regression_loss
from rdrop_fairseq.views import ModelViews
from rdrop_fairseq.views.models import Rows, unwrap


@dataclass
class SentencePredictionRDropConfig(RDropConfig):
    """Options of R-Drop on a classification head."""

    classification_head_name: str = field(
        default="sentence_classification_head", metadata={"help": "name of the classification head to train"}
    )
    regression_target: bool = field(
        default=False, metadata={"help": "labels are numbers: squared distances in place of cross entropy and KL"}
    )
    rdrop_alpha: float = field(
        default=1.0,
        metadata={
            "help": "weight of the divergence of views (paper: 0.5 or 1 by task of GLUE); 0: plain fine-tuning",
            "argparse_alias": "--reg-alpha",
        },
    )


@register_criterion("sentence_prediction_rdrop", dataclass=SentencePredictionRDropConfig)
class SentencePredictionRDropCriterion(RDrop, MultiView, FairseqCriterion):
    """L = CE_1 + CE_2 + alpha/2 [KL(p1||p2) + KL(p2||p1)], summed over the sentences of a batch; for numbers
    |y - y1|^2 + |y - y2|^2 + alpha |y1 - y2|^2 (Liang et al. 2021, A.4). Every class counts, 1 as well: there is no
    padding among labels. In eval mode it is fairseq's sentence_prediction, to the bit.

    The sample size is the number of sentences of one view, so the loss per sentence is the paper's.
    """

    def __init__(self, cfg: SentencePredictionRDropConfig, task: Any) -> None:
        super().__init__(task)
        self.set_rdrop(task, cfg)
        self.cfg, self.task = cfg, task
        self.positive = positive_class(task)

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """(loss, sample size, logging outputs): sums in nats, or squared distances, over the sentences of one view."""
        if not model.training:
            return self._evaluate(model, sample)
        loss, sample_size, log = super().forward(model, sample, reduce)
        if self.cfg.regression_target:
            log["mse"], distance = log.pop("nll_loss"), log.pop("rdrop_kl")
            if log.pop("rdrop_ntokens"):  # there were views to compare
                log["rdrop_distance"] = distance
        return loss, sample_size, log

    def check_model(self, model: nn.Module) -> None:
        """Raises UserError for a model without the head."""
        check_head(unwrap(model), self.cfg.classification_head_name)

    def rows(self, bound: ModelViews, sample: dict[str, Any], count: int) -> Rows:
        """The head's output for all views, stacked: [m*B, C]."""
        head: dict[str, Any] = {"features_only": True, "classification_head_name": self.cfg.classification_head_name}
        return Rows(bound.run(sample["net_input"], len(sample["id"]), count, **head)[0])

    def targets(self, sample: dict[str, Any]) -> Tensor:
        """Classes [B], or numbers [B * n]."""
        target: Tensor = sample["target"].view(-1)
        return target

    def sizes(self, sample: dict[str, Any]) -> Sizes:
        """Sentences (of n numbers each, as fairseq counts them)."""
        sentences = sample["target"].numel()
        return Sizes(sample["ntokens"], sentences, sentences, sentences)

    def objective(self, rows: Rows, target: Tensor, weights: ViewWeights) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, nll, kl) of classes; for numbers (loss, squared error, squared distance of the views)."""
        if not self.cfg.regression_target:
            return super().objective(rows, target, weights)
        loss, error, distance = rdrop_regression_loss(
            rows.tensor.reshape(-1), target, weights.kl_total, weights.views
        )
        return (loss if weights.views > 1 else loss * weights.ce[0]), error, distance

    def further_log(self, rows: Rows, target: Tensor, count: int) -> dict[str, Any]:
        """Right predictions, mean over views."""
        if self.cfg.regression_target:
            return {}
        return {"ncorrect": rows.tensor.detach().argmax(-1).view(count, -1).eq(target).sum() / count}

    def _evaluate(self, model: nn.Module, sample: dict[str, Any]) -> tuple[Tensor, int, dict[str, Any]]:
        """fairseq's loss, and what the metrics of the whole set are made of."""
        output = self.rows(self.bind(model), sample, 1).tensor
        target, sizes = self.targets(sample), self.sizes(sample)
        log: dict[str, Any] = {"ntokens": sizes.ntokens, "nsentences": sizes.nsentences}
        log["sample_size"] = sizes.sample_size
        if self.cfg.regression_target:
            values = output.reshape(-1)
            values = values.to(torch.promote_types(values.dtype, torch.float32))
            loss = torch.nn.functional.mse_loss(values, target.to(values.dtype), reduction="sum")
            log["_placed"] = placed(values, target, sample["id"], self._sentences(sample["id"]))
        else:
            loss = torch.nn.functional.nll_loss(
                torch.log_softmax(output, dim=-1, dtype=torch.float32), target, reduction="sum"
            )
            predicted = output.argmax(-1)
            log["ncorrect"] = predicted.eq(target).sum()
            log.update(counts(predicted, target, output.size(-1), self.positive))
        return loss, sizes.sample_size, {"loss": loss.detach(), **log}

    def _sentences(self, ids: Tensor) -> int:
        """A number of sentences that is the same for all batches and workers of a validation."""
        sets = getattr(self.task, "datasets", {})
        held_out = [len(dataset) for split, dataset in sets.items() if split != "train"] or [*map(len, sets.values())]
        return max(held_out, default=int(ids.max()) + 1)

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """Logs loss (base 2 and per sentence, as fairseq does), accuracy, mcc, f1, pearson and spearman in percent."""
        size = _total(logging_outputs, "sample_size")
        if not size:
            return
        metrics.log_scalar("loss", _total(logging_outputs, "loss") / size / math.log(2), size, round=3)
        for key, unit in (("nll_loss", math.log(2)), ("mse", 1.0), ("rdrop_distance", 1.0)):
            if any(key in log for log in logging_outputs):
                metrics.log_scalar(key, _total(logging_outputs, key) / size / unit, size, round=4)
        log_divergence(logging_outputs)
        if any("ncorrect" in log for log in logging_outputs):
            metrics.log_scalar("accuracy", 100 * _total(logging_outputs, "ncorrect") / size, size, round=3)
        log_metrics(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """True: counts, sums and tables with a place for each sentence."""
        return True


def check_head(model: Any, name: str) -> None:
    """UserError for a model without such a classification head, or with fairseq's penalties for adaptive pruning."""
    if name not in getattr(model, "classification_heads", {}):
        raise UserError(
            f"{type(model).__name__} has no classification head {name}: use RoBERTa or BART "
            "with --task sentence_prediction_rdrop"
        )
    options = getattr(model, "args", None)
    penalties = [key for key in ("mha_reg_scale_factor", "ffn_reg_scale_factor") if getattr(options, key, 0)]
    if penalties:
        raise UserError(f"this criterion has no penalty for pruning: leave out {' and '.join(penalties)}")


def positive_class(task: Any) -> Optional[int]:
    """The class of the label "1" among two, for which GLUE wants F1; None where there is none. (Classes are numbered by
    how often they occur.)"""
    labels = getattr(task, "class_names", ())
    return labels.index("1") if len(labels) == 2 and "1" in labels else None


def counts(predicted: Tensor, target: Tensor, classes: int, positive: Optional[int]) -> dict[str, Any]:
    """What accuracy, Matthews' correlation and F1 are made of; predicted and target: [B]."""
    found, true = (torch.bincount(of, minlength=classes).tolist() for of in (predicted, target))
    log = {"_correct": int(predicted.eq(target).sum())}
    log.update({f"_predicted_{k}": found[k] for k in range(classes)})
    log.update({f"_true_{k}": true[k] for k in range(classes)})
    if positive is not None:
        hits = int((predicted.eq(positive) & target.eq(positive)).sum())
        log.update({"_hits": hits, "_predicted": found[positive], "_true": true[positive]})
    return log


def placed(values: Tensor, target: Tensor, ids: Tensor, sentences: int) -> Tensor:
    """What correlations are made of: [3, sentences * n], zero but at the n places of each sentence of the batch, where
    the rows hold its values, its targets, and 1. Such tables add up over batches and workers, as ranks do not."""
    each = target.numel() // ids.numel()
    index = (ids.view(-1, 1) * each + torch.arange(each, device=ids.device)).view(-1)
    table = torch.zeros(3, sentences * each, dtype=torch.float64, device=values.device)
    table[:, index] = torch.stack([values.detach().double(), target.double(), torch.ones_like(target.double())])
    return table


def log_metrics(logging_outputs: list[dict[str, Any]]) -> None:
    """Metrics over the whole validation set: the meters sum what they are derived from."""
    keys = sorted({key for log in logging_outputs for key in log if key.startswith("_")})
    for key in keys:
        metrics.log_scalar(key, sum(log.get(key, 0) for log in logging_outputs))
    if "_correct" in keys:
        classes = sum(key.startswith("_true_") for key in keys)
        metrics.log_derived("mcc", lambda meters: _percent(sentence_metrics.matthews(
            meters["_correct"].sum,
            [meters[f"_predicted_{k}"].sum for k in range(classes)],
            [meters[f"_true_{k}"].sum for k in range(classes)],
        )))  # fmt: skip
    if "_hits" in keys:
        metrics.log_derived("f1", lambda meters: _percent(sentence_metrics.f1(
            meters["_hits"].sum, meters["_predicted"].sum, meters["_true"].sum
        )))  # fmt: skip
        metrics.log_derived("acc_and_f1", _accuracy_and_f1)
    if "_placed" in keys:
        metrics.log_derived("pearson", _pearson)
        metrics.log_derived("spearman", _spearman)
        metrics.log_derived("pearson_and_spearman", lambda meters: (_pearson(meters) + _spearman(meters)) / 2)


def _accuracy_and_f1(meters: Any) -> float:
    f1 = sentence_metrics.f1(meters["_hits"].sum, meters["_predicted"].sum, meters["_true"].sum)
    return _percent((meters["accuracy"].avg / 100 + f1) / 2)


def _pearson(meters: Any) -> float:
    return _percent(sentence_metrics.pearson(*_points(meters)))


def _spearman(meters: Any) -> float:
    return _percent(sentence_metrics.spearman(*_points(meters)))


def _points(meters: Any) -> tuple[np.ndarray, np.ndarray]:
    values, target, there = meters["_placed"].sum.cpu().numpy()
    return values[there > 0], target[there > 0]


def _percent(share: float) -> float:
    return round(100 * float(share), 3)


def _total(logging_outputs: list[dict[str, Any]], key: str) -> float:
    return float(sum(log.get(key, 0) for log in logging_outputs))
