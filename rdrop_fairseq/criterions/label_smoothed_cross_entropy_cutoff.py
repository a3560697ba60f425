"""`--criterion label_smoothed_cross_entropy_cutoff`: Cutoff (Shen et al. 2020, arXiv 2009.13818)."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass, field
from typing import Any

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum

from rdrop_fairseq.criterions.label_smoothed import LabelSmoothedMultiView, LabelSmoothedMultiViewConfig
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import cutoff_weights
from rdrop_fairseq.views import Views
from rdrop_fairseq.views.cutoff import KINDS, Cutoff


@dataclass
class CutoffCriterionConfig(LabelSmoothedMultiViewConfig):
    """Options of Cutoff."""

    rdrop_cutoff: ChoiceEnum(KINDS) = field(  # type: ignore[valid-type]
        default="token", metadata={"help": "part of the input embeddings to zero: tokens, a span of them, dimensions"}
    )
    rdrop_cutoff_number: int = field(default=1, metadata={"help": "number of cut views, in addition to the whole one"})
    rdrop_cutoff_ce: float = field(default=1.0, metadata={"help": "weight of the cross entropy of each cut view"})
    rdrop_cutoff_js: float = field(
        default=5.0, metadata={"help": "weight of the Jensen-Shannon divergence of all views"}
    )


@register_criterion("label_smoothed_cross_entropy_cutoff", dataclass=CutoffCriterionConfig)
class CutoffCriterion(LabelSmoothedMultiView):
    """L = CE(x) + a sum_i CE(x_cut_i) + b JS(p, p_cut_1, ..., p_cut_n).

    This is the paper's JS. In its place the authors' code for translation has the mean of KL(q || p_i), with q the
    softmax of the mean logits: the same to second order in the difference of the logits, so b = 5 means the same.
    """

    def __init__(self, task: Any, cfg: CutoffCriterionConfig) -> None:
        number = cfg.rdrop_cutoff_number
        if number < 1:
            raise UserError(f"--rdrop-cutoff-number must be at least 1, got {number}")
        cut_views = tuple(range(1, number + 1))
        super().__init__(task, cfg)
        cutoff = Cutoff.of_task(task, str(cfg.rdrop_cutoff), cfg.rdrop_cutoff_rate, cut_views)
        self.views = Views(1 + number, str(cfg.rdrop_forward), cutoff)
        self.weights = cutoff_weights((cfg.rdrop_cutoff_ce,) * number, cfg.rdrop_cutoff_js)
