"""Label-smoothed cross entropy on several views of a batch of sentences: padding, prefixes, accuracy."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from torch import Tensor, nn

from rdrop_fairseq.criterions.multi_view import MultiView, MultiViewConfig, Sizes
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import ViewWeights
from rdrop_fairseq.views import ModelViews
from rdrop_fairseq.views.models import DecoderOutput, Rows


@dataclass
class LabelSmoothedMultiViewConfig(MultiViewConfig, LabelSmoothedCrossEntropyCriterionConfig):
    """fairseq's options of label-smoothed cross entropy, those of the views, and how much of a view is cut."""

    rdrop_cutoff_rate: float = field(
        default=0.05, metadata={"help": "share of tokens (token, span) or of dimensions (feature) that is zeroed"}
    )


class LabelSmoothedMultiView(MultiView, LabelSmoothedCrossEntropyCriterion):
    """Base of the criterions on sentences. In eval mode it is fairseq's label-smoothed cross entropy, to the bit.

    The sample size is the number of target tokens of one view (sentences with --sentence-avg), as in the code of the
    R-Drop paper, so that its alpha and learning rates carry over.
    """

    def __init__(self, task: Any, cfg: LabelSmoothedMultiViewConfig) -> None:
        """Raises UserError for a smoothing outside [0, 1) or a negative prefix."""
        super().__init__(task, cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size, cfg.report_accuracy)
        if not 0 <= cfg.label_smoothing < 1:
            raise UserError(f"--label-smoothing must be in [0, 1), got {cfg.label_smoothing}")
        if cfg.ignore_prefix_size < 0:
            raise UserError(f"--ignore-prefix-size must be >= 0, got {cfg.ignore_prefix_size}")
        self.impl = str(cfg.rdrop_impl)
        self.ignore_index = self.padding_idx
        self._output: Optional[DecoderOutput] = None

    def check_model(self, model: nn.Module) -> None:
        """Finds out how the rows of its output are had. Raises UserError for an adaptive softmax."""
        self._output = DecoderOutput(model)

    def rows(self, bound: ModelViews, sample: dict[str, Any], count: int) -> Rows:
        """Features [m*B, T, d] if the loss projects them, else logits [m*B, T, V]."""
        assert self._output is not None
        return self._output.rows(
            bound.run(sample["net_input"], sample["target"].size(0), count, **self._output.kwargs)
        )

    def sizes(self, sample: dict[str, Any]) -> Sizes:
        """Target tokens as the batch counts them: an ignored prefix counts, as in fairseq."""
        tokens, sentences = sample["ntokens"], sample["target"].size(0)
        return Sizes(tokens, sentences, tokens, sentences if self.sentence_avg else tokens)

    def targets(self, sample: dict[str, Any]) -> Tensor:
        """Targets [B, T] with the ignored prefix as padding. Raises UserError if the batch has no target at all."""
        target: Tensor = sample["target"]
        # on a GPU the batch's own count is taken: looking at the targets would stop the host
        counted = sample["ntokens"] if target.device.type == "cuda" else target.ne(self.padding_idx).any()
        if not target.numel() or not counted:
            raise UserError(f"a batch of {target.size(0)} sentences has no target token: check the data set")
        if not self.ignore_prefix_size:
            return target
        target = target.clone()
        target[:, : self.ignore_prefix_size] = self.padding_idx
        return target

    def objective(self, rows: Rows, target: Tensor, weights: ViewWeights) -> tuple[Tensor, Tensor, Tensor]:
        """As in MultiView; 0 where --ignore-prefix-size leaves nothing of the batch's short sentences."""
        if self.ignore_prefix_size and not target.ne(self.padding_idx).any():
            zero = _zero(rows)
            return zero, zero, zero
        return super().objective(rows, target, weights)

    def further_log(self, rows: Rows, target: Tensor, count: int) -> dict[str, Any]:
        """With --report-accuracy: correct and counted predictions of all views."""
        return self._accuracy(rows, target, count) if self.report_accuracy else {}

    @torch.no_grad()
    def _accuracy(self, rows: Rows, target: Tensor, views: int) -> dict[str, int]:
        counted = target.ne(self.padding_idx)
        correct = 0
        for view in rows.tensor.detach().chunk(views):
            for part, classes in zip(view[counted].split(1024), target[counted].split(1024)):
                logits = part if rows.projection is None else rows.projection(part)
                correct += int(logits.argmax(-1).eq(classes).sum())
        return {"n_correct": correct, "total": int(counted.sum()) * views}


def _zero(rows: Rows) -> Tensor:
    """0 with a gradient of 0 for every parameter: distributed workers wait for the gradient of each."""
    tensors = [rows.tensor, *(rows.projection.parameters() if rows.projection is not None else ())]
    return torch.stack([tensor.float().sum() * 0.0 for tensor in tensors]).sum()
