"""`--criterion label_smoothed_cross_entropy_simcut`: SimCut (Gao et al. 2022, "Bi-SimCut")."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass, field
from typing import Any

from fairseq.criterions import register_criterion

from rdrop_fairseq.criterions.label_smoothed import LabelSmoothedMultiView, LabelSmoothedMultiViewConfig
from rdrop_fairseq.loss import simcut_weights
from rdrop_fairseq.views import Views
from rdrop_fairseq.views.cutoff import Cutoff


@dataclass
class SimCutCriterionConfig(LabelSmoothedMultiViewConfig):
    """Options of SimCut."""

    rdrop_alpha: float = field(default=3.0, metadata={"help": "weight of the divergence of whole and cut view"})


@register_criterion("label_smoothed_cross_entropy_simcut", dataclass=SimCutCriterionConfig)
class SimCutCriterion(LabelSmoothedMultiView):
    """L = CE(f(x, y)) + alpha KL(f(x, y) || f(x_cut, y_cut)), with a gradient through both sides.

    Both passes have dropout, with different masks.
    """

    def __init__(self, task: Any, cfg: SimCutCriterionConfig) -> None:
        super().__init__(task, cfg)
        cutoff = Cutoff.of_task(task, "token", cfg.rdrop_cutoff_rate, views=(1,))
        self.views = Views(2, str(cfg.rdrop_forward), cutoff)
        self.weights = simcut_weights(cfg.rdrop_alpha)
