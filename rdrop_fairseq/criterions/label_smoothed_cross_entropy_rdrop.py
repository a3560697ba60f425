"""`--criterion label_smoothed_cross_entropy_rdrop`: R-Drop (Liang et al. 2021)."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass, field
from typing import Any

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum

from rdrop_fairseq.criterions.label_smoothed import LabelSmoothedMultiView, LabelSmoothedMultiViewConfig
from rdrop_fairseq.criterions.rdrop import RDrop, RDropConfig
from rdrop_fairseq.views.cutoff import KINDS, Cutoff, parse_views


@dataclass
class RDropCriterionConfig(RDropConfig, LabelSmoothedMultiViewConfig):
    """Options of R-Drop and of its combination with cutoff."""

    rdrop_cutoff: ChoiceEnum(["none", *KINDS]) = field(  # type: ignore[valid-type]
        default="none", metadata={"help": "zero part of the input embeddings of some views (R-Drop + Cutoff)"}
    )
    rdrop_cutoff_views: str = field(
        default="rest", metadata={"help": "views that are cut: all, rest (all but the first), or numbers such as 0,1"}
    )


@register_criterion("label_smoothed_cross_entropy_rdrop", dataclass=RDropCriterionConfig)
class RDropCriterion(RDrop, LabelSmoothedMultiView):
    """L = CE_1 + CE_2 + alpha/2 [KL(p1||p2) + KL(p2||p1)], and its form for m views (Liang et al. 2021).

    With --rdrop-cutoff this is R-Drop + Cutoff. Which views were cut for the published result is not known. By default
    the first view stays whole, as in Cutoff and SimCut, so that training still sees inputs as decoding has them.
    """

    def __init__(self, task: Any, cfg: RDropCriterionConfig) -> None:
        super().__init__(task, cfg)
        cut_views = parse_views(cfg.rdrop_cutoff_views, cfg.rdrop_passes)
        self.set_rdrop(task, cfg, Cutoff.of_task(task, str(cfg.rdrop_cutoff), cfg.rdrop_cutoff_rate, cut_views))
