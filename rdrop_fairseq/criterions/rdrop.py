"""R-Drop's options and its weights at each update, for every criterion on several views."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass, field
from typing import Any, Optional

from rdrop_fairseq.criterions.multi_view import MultiViewConfig
from rdrop_fairseq.criterions.schedule import Schedule
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import ViewWeights, plain_weights, rdrop_weights
from rdrop_fairseq.views import Views
from rdrop_fairseq.views.cutoff import Cutoff
from rdrop_fairseq.views.dropout_rates import parse_rates


@dataclass
class RDropConfig(MultiViewConfig):
    """Options of R-Drop."""

    rdrop_alpha: float = field(
        default=5.0,
        metadata={
            "help": "weight of the divergence of views (paper: 5 for translation, 0.7 for BART); 0: plain training",
            "argparse_alias": "--reg-alpha",
        },
    )
    rdrop_passes: int = field(default=2, metadata={"help": "number of views of each batch, m >= 2"})
    rdrop_start_updates: int = field(
        default=0, metadata={"help": "first train without R-Drop for this many updates (with a task of this plugin)"}
    )
    rdrop_warmup_updates: int = field(
        default=0, metadata={"help": "then raise alpha linearly over this many updates (with such a task)"}
    )
    rdrop_every: int = field(
        default=1, metadata={"help": "R-Drop on every k-th update only, the others are plain (with such a task)"}
    )
    rdrop_dropout_rates: str = field(
        default="", metadata={"help": "a dropout rate for each view, such as 0.3,0.1 (default: the model's own)"}
    )


class RDrop:
    """Mixin, listed before MultiView: R-Drop's weights, following the schedule of its options.

    An update whose effective alpha is 0 runs one view, at the cost of plain training. Within a schedule its cross
    entropy is multiplied by m, the number of views, so that Adam's moments, gradient clipping and the logged loss keep
    their scale when R-Drop starts. With --rdrop-alpha 0 nothing is multiplied: that is exactly plain training.
    """

    views: Views
    impl: str
    schedule: Schedule
    num_updates: Optional[int] = None

    def set_rdrop(self, task: Any, cfg: Any, cutoff: Optional[Cutoff] = None) -> None:
        """Sets the attributes from the options `cfg`, an RDropConfig. Raises UserError for values out of range, and for
        a schedule with a task that does not pass on the update number."""
        if cfg.rdrop_passes < 2:
            raise UserError(f"--rdrop-passes must be at least 2, got {cfg.rdrop_passes}")
        rates = parse_rates(cfg.rdrop_dropout_rates, cfg.rdrop_passes)
        self.views = Views(cfg.rdrop_passes, str(cfg.rdrop_forward), cutoff, rates)
        self.impl = str(cfg.rdrop_impl)
        self.schedule = Schedule(cfg.rdrop_alpha, cfg.rdrop_start_updates, cfg.rdrop_warmup_updates, cfg.rdrop_every)
        if not self.schedule.constant and not getattr(task, "hands_over_num_updates", False):
            raise UserError(
                "--rdrop-start-updates, --rdrop-warmup-updates and --rdrop-every need a task that passes the update "
                f"number to the criterion, and {type(task).__name__} does not: use --task translation_rdrop, "
                "language_modeling_rdrop or sentence_prediction_rdrop"
            )

    def set_num_updates(self, num_updates: int) -> None:
        """Called by the task before each training step with the number of finished updates."""
        self.num_updates = num_updates

    def view_weights(self) -> ViewWeights:
        """R-Drop's weights at the effective alpha of this update."""
        passes = self.views.count
        if self.schedule.constant:
            return rdrop_weights(self.schedule.alpha, passes) if self.schedule.alpha else plain_weights()
        if self.num_updates is None:
            raise UserError("the task did not pass on the update number: call set_num_updates before each update")
        alpha = self.schedule.alpha_at(self.num_updates)
        return rdrop_weights(alpha, passes) if alpha else plain_weights(float(passes))
