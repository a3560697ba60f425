"""Base of the label-smoothed criterions on several views: padding, ignored prefixes, accuracy."""

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
from rdrop_fairseq.loss import positions as places
from rdrop_fairseq.views import ModelViews
from rdrop_fairseq.views.models import DecoderOutput, Rows


@dataclass
class LabelSmoothedMultiViewConfig(MultiViewConfig, LabelSmoothedCrossEntropyCriterionConfig):
    """Options of fairseq's label-smoothed cross entropy and of the views, and the rate of cutoff."""

    rdrop_cutoff_rate: float = field(
        default=0.05, metadata={"help": "share of tokens (token, span) or of dimensions (feature) that is zeroed"}
    )


class LabelSmoothedMultiView(MultiView, LabelSmoothedCrossEntropyCriterion):
    """Base of the label-smoothed criterions. In eval mode it is fairseq's label-smoothed cross entropy, bit for bit.

    The sample size is the number of target tokens of one view (of sentences with --sentence-avg), as in the R-Drop
    paper's code, so its alpha and learning rates apply unchanged.
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
        """Determines how to get features or logits from the model. Raises UserError for an adaptive softmax."""
        self._output = DecoderOutput(model)

    def rows(self, bound: ModelViews, sample: dict[str, Any], count: int) -> Rows:
        """Features [m*B, T, d] and their projection, or logits [m*B, T, V]."""
        assert self._output is not None
        return self._output.rows(
            bound.run(sample["net_input"], sample["target"].size(0), count, **self._output.kwargs)
        )

    def sizes(self, sample: dict[str, Any]) -> Sizes:
        """Target tokens as the batch counts them. They include an ignored prefix, as in fairseq."""
        tokens, sentences = sample["ntokens"], sample["target"].size(0)
        return Sizes(tokens, sentences, tokens, sentences if self.sentence_avg else tokens)

    def targets(self, sample: dict[str, Any]) -> Tensor:
        """Targets [B, T], int64, an ignored prefix replaced by padding. Raises UserError if the batch has none."""
        target: Tensor = sample["target"]
        # on a GPU the host would wait for a look at the targets, so the batch's own count must do
        counted = sample["ntokens"] if places.waits(target) else target.ne(self.padding_idx).any()
        if not target.numel() or not counted:
            raise UserError(f"a batch of {target.size(0)} sentences has no target token: check the data set")
        if not self.ignore_prefix_size:
            return target
        target = target.clone()
        target[:, : self.ignore_prefix_size].fill_(self.padding_idx)
        return target

    @torch.no_grad()
    def further_log(self, rows: Rows, target: Tensor, count: int, positions: int) -> dict[str, Any]:
        """With --report-accuracy, the numbers of correct and of all predictions in all views."""
        if not self.report_accuracy:
            return {}
        found = places.find_positions(target.reshape(-1), self.padding_idx, positions)
        stacked = rows.tensor.detach().reshape(count, target.numel(), -1)  # m x N x d, or V
        correct = target.new_zeros(())
        for index, classes in zip(found.index.split(1024), found.target.split(1024)):
            for view in stacked:
                part = view.index_select(0, index)
                logits = part if rows.projection is None else rows.projection(part)
                correct += logits.argmax(-1).eq(classes).sum()  # never where a place is dead
        return {"n_correct": correct, "total": found.target.ne(places.DEAD).sum() * count}
