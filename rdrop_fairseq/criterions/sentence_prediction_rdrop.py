"""`--criterion sentence_prediction_rdrop`: R-Drop for sentence classification and regression."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Optional

import numpy as np
import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from torch import Tensor, nn

from rdrop_fairseq.criterions import sentence_metrics
from rdrop_fairseq.criterions.logged import log_divergence, total
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
    """L = CE_1 + CE_2 + alpha/2 [KL(p1||p2) + KL(p2||p1)], summed over the sentences of a batch; for regression
    |y - y1|^2 + |y - y2|^2 + alpha |y1 - y2|^2 (Liang et al. 2021, A.4). Labels have no padding: class 1 is a class as
    any other. In eval mode it is fairseq's sentence_prediction, bit for bit.

    The sample size is the number of sentences of one view, so that the loss per sentence is the paper's.
    """

    def __init__(self, cfg: SentencePredictionRDropConfig, task: Any) -> None:
        super().__init__(task)
        self.set_rdrop(task, cfg)
        self.cfg, self.task = cfg, task
        self.positive = positive_class(task)

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """fairseq's (loss, sample size, logging outputs): sums in nats, or of squared distances, over the sentences of
        one view."""
        if not model.training:
            return self._evaluate(model, sample)
        loss, sample_size, log = super().forward(model, sample, reduce)
        if self.cfg.regression_target:
            log["mse"], distance = log.pop("nll_loss"), log.pop("rdrop_kl")
            if log.pop("rdrop_ntokens"):  # several views
                log["rdrop_distance"] = distance
        return loss, sample_size, log

    def check_model(self, model: nn.Module) -> None:
        """Raises UserError for a model without the classification head."""
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
        """Sentences; with n numbers each, n times as many, as in fairseq."""
        sentences = sample["target"].numel()
        return Sizes(sample["ntokens"], sentences, sentences, sentences)

    def objective(
        self, rows: Rows, target: Tensor, weights: ViewWeights, positions: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, nll, kl), sums in nats; for regression (loss, squared error, squared distance of the views), sums."""
        if not self.cfg.regression_target:
            return super().objective(rows, target, weights, positions)
        loss, error, distance = rdrop_regression_loss(
            rows.tensor.reshape(-1), target, weights.kl_total, weights.views
        )
        return (loss if weights.views > 1 else loss * weights.ce[0]), error, distance

    def further_log(self, rows: Rows, target: Tensor, count: int, positions: int) -> dict[str, Any]:
        """The number of correct predictions, mean over views."""
        if self.cfg.regression_target:
            return {}
        return {"ncorrect": rows.tensor.detach().argmax(-1).view(count, -1).eq(target).sum() / count}

    def _evaluate(self, model: nn.Module, sample: dict[str, Any]) -> tuple[Tensor, int, dict[str, Any]]:
        """fairseq's loss, and counts or values for the metrics of the whole set."""
        output = self.rows(self.bind(model), sample, 1).tensor
        target, sizes = self.targets(sample), self.sizes(sample)
        log: dict[str, Any] = dict(ntokens=sizes.ntokens, nsentences=sizes.nsentences, sample_size=sizes.sample_size)
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
        """An upper bound on sentence ids, the same for all batches and workers of a validation. The train set counts:
        --valid-subset may name it."""
        return max(map(len, getattr(self.task, "datasets", {}).values()), default=int(ids.max()) + 1)

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """Logs loss (base 2 and per sentence, as fairseq does), accuracy, mcc, f1, pearson and spearman in percent."""
        size = total(logging_outputs, "sample_size")
        if not size:
            return
        metrics.log_scalar("loss", total(logging_outputs, "loss") / size / math.log(2), size, round=3)
        for key, unit in (("nll_loss", math.log(2)), ("mse", 1.0), ("rdrop_distance", 1.0)):
            if any(key in log for log in logging_outputs):
                metrics.log_scalar(key, total(logging_outputs, key) / size / unit, size, round=4)
        log_divergence(logging_outputs)
        if any("ncorrect" in log for log in logging_outputs):
            metrics.log_scalar("accuracy", 100 * total(logging_outputs, "ncorrect") / size, size, round=3)
        log_metrics(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """True: counts, sums, and tables with one column per sentence."""
        return True


def check_head(model: Any, name: str) -> None:
    """Raises UserError for a model without this classification head, or with fairseq's penalties for pruning."""
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
    """The number of the label "1", whose F1 GLUE reports, if there are two classes; else None. (Classes are numbered by
    frequency.)"""
    labels = getattr(task, "class_names", ())
    return labels.index("1") if len(labels) == 2 and "1" in labels else None


def counts(predicted: Tensor, target: Tensor, classes: int, positive: Optional[int]) -> dict[str, Tensor]:
    """What Matthews correlation and F1 need of classes [B], in float64: how many sentences of each class (rows) were
    predicted as which [C, C]; and the numbers of hits, predictions and members of the positive class [3]."""
    table = torch.bincount(target * classes + predicted, minlength=classes**2).view(classes, classes).double()
    if positive is None:
        return {"_classes": table}
    of_positive = torch.stack([table[positive, positive], table[:, positive].sum(), table[positive].sum()])
    return {"_classes": table, "_positive": of_positive}


def placed(values: Tensor, target: Tensor, ids: Tensor, sentences: int) -> Tensor:
    """Values for correlations: a float64 table [3, sentences * n] whose rows hold, in the n columns of each sentence of
    the batch, its values, its targets and 1, and 0 elsewhere. Unlike ranks, such tables can be summed over batches and
    workers."""
    each = target.numel() // ids.numel()
    index = (ids.view(-1, 1) * each + torch.arange(each, device=ids.device)).view(-1)
    table = torch.zeros(3, sentences * each, dtype=torch.float64, device=values.device)
    table[:, index] = torch.stack([values.detach().double(), target.double(), torch.ones_like(target.double())])
    return table


def log_metrics(logging_outputs: list[dict[str, Any]]) -> None:
    """Logs metrics of the whole validation set, derived from sums in the meters."""
    for key, derived in METRICS.items():
        if any(key in log for log in logging_outputs):
            table = sum(log.get(key, 0) for log in logging_outputs)
            _forget_other_sizes(key, table)
            metrics.log_scalar(key, table)
            for name, metric in derived.items():
                metrics.log_derived(name, metric)


def _forget_other_sizes(key: str, table: Any) -> None:
    """Resets meters whose sum has another shape than `table`. fairseq never empties its meters "default" and "valid",
    which nobody reads: the next set of fairseq-validate, or one added at a restart, may be larger."""
    for meters in metrics.get_active_aggregators():
        if key in meters and getattr(meters[key].sum, "shape", table.shape) != table.shape:
            meters[key].reset()


def _matthews(meters: Any) -> float:
    table = meters["_classes"].sum
    return _percent(sentence_metrics.matthews(table.trace().item(), table.sum(0).tolist(), table.sum(1).tolist()))


def _f1(meters: Any) -> float:
    return sentence_metrics.f1(*meters["_positive"].sum.tolist())


def _correlation(of: Callable[[np.ndarray, np.ndarray], float], meters: Any) -> float:
    values, target, there = meters["_placed"].sum.cpu().numpy()
    return _percent(of(values[there > 0], target[there > 0]))


def _percent(share: float) -> float:
    return round(100 * float(share), 3)


_pearson, _spearman = (partial(_correlation, of) for of in (sentence_metrics.pearson, sentence_metrics.spearman))
# Sum that a validation step logs -> what is derived from it.
METRICS: dict[str, dict[str, Callable[[Any], float]]] = {
    "_classes": {"mcc": _matthews},
    "_positive": {
        "f1": lambda meters: _percent(_f1(meters)),
        "acc_and_f1": lambda meters: _percent((meters["accuracy"].avg / 100 + _f1(meters)) / 2),
    },
    "_placed": {
        "pearson": _pearson,
        "spearman": _spearman,
        "pearson_and_spearman": lambda meters: (_pearson(meters) + _spearman(meters)) / 2,
    },
}
