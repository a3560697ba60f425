"""What every criterion on several views of a batch shares: run the views, take the loss, log it."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from torch import Tensor, nn

from rdrop_fairseq.criterions.logged import log_divergence, logged_divergence
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import IMPLEMENTATIONS, ViewWeights, linear_rdrop_loss, rdrop_loss
from rdrop_fairseq.views import MODES, ModelViews, Views
from rdrop_fairseq.views.models import Rows


@dataclass
class MultiViewConfig(FairseqDataclass):
    """How the views are run and the loss is computed."""

    rdrop_impl: ChoiceEnum(IMPLEMENTATIONS) = field(  # type: ignore[valid-type]
        default="auto",
        metadata={
            "help": "fused: chunked, closed-form gradient, no [tokens, vocabulary] tensor is kept; "
            "eager: plain torch, the definition; auto: fused on CPU and CUDA, eager on other devices"
        },
    )
    rdrop_forward: ChoiceEnum(MODES) = field(  # type: ignore[valid-type]
        default="auto",
        metadata={
            "help": "stacked: all views in one forward; separate: one forward per view; shared-encoder: the encoder "
            "once, the decoder for all views; auto: separate with LayerDrop (a stack would lose the same layers), "
            "with different dropout rates and for LSTMs, else stacked",
            "argparse_alias": "--rdrop-mode",
        },
    )


@dataclass(frozen=True)
class Sizes:
    """How much a batch is, in numbers that the host knows.

    positions: what the objective of one view is summed over (tokens, or sentences); sample_size: what fairseq divides
    the gradient by.
    """

    ntokens: int
    nsentences: int
    positions: int
    sample_size: int


class MultiView(ABC):
    """Mixin for a fairseq criterion, before its base class: in training the objective of `view_weights` on the views of
    a batch, in eval mode whatever the base class does.

    It knows neither padding nor label smoothing by itself: a subclass sets `views`, and `impl`, `eps`, `ignore_index`
    where they differ from these; it overrides `rows` and `sizes`, and what else is different.
    """

    views: Views
    impl: str = "auto"
    eps: float = 0.0
    ignore_index: int = -100
    _bound: Optional[ModelViews] = None

    @abstractmethod
    def view_weights(self) -> ViewWeights:
        """The objective of this update."""

    @abstractmethod
    def rows(self, bound: ModelViews, sample: dict[str, Any], count: int) -> Rows:
        """What the model gives for `count` views of the batch."""

    @abstractmethod
    def sizes(self, sample: dict[str, Any]) -> Sizes:
        """How much the batch is; the sample size is that of one view, so that learning rates carry over."""

    def check_model(self, model: nn.Module) -> None:  # noqa: B027  (most have nothing to check)
        """Called once per model: raises UserError where the criterion cannot train it."""

    def targets(self, sample: dict[str, Any]) -> Tensor:
        """The references, int64; what equals `ignore_index` does not count."""
        target: Tensor = sample["target"]
        return target

    def objective(self, rows: Rows, target: Tensor, weights: ViewWeights) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, nll, kl), sums in nats (see loss/)."""
        kwargs: dict[str, Any] = {"weights": weights, "label_smoothing": self.eps, "impl": self.impl}
        kwargs["ignore_index"] = self.ignore_index
        if rows.projection is None:
            return rdrop_loss(rows.tensor, target, **kwargs)
        return linear_rdrop_loss(rows.tensor, rows.projection.weight, target, rows.projection.bias, **kwargs)

    def further_log(self, rows: Rows, target: Tensor, count: int) -> dict[str, Any]:
        """What else is logged of a training step."""
        return {}

    def bind(self, model: nn.Module) -> ModelViews:
        """The views of this model, found out when it is first seen."""
        if self._bound is None or self._bound.model is not model:
            self.check_model(model)
            self._bound = self.views.of(model)
        return self._bound

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """(loss, sample size, logging outputs) as fairseq wants them; sums in nats over the positions of one view."""
        if not model.training:
            return super().forward(model, sample, reduce)  # type: ignore[misc]
        if not reduce:
            raise UserError("this criterion trains on the sum over a batch: call it with reduce=True")
        bound, weights, sizes = self.bind(model), self.view_weights(), self.sizes(sample)
        target = self.targets(sample)
        rows = self.rows(bound, sample, weights.views)
        loss, nll, kl = self.objective(rows, target, weights)
        log: dict[str, Any] = {
            "loss": loss.detach(),
            "nll_loss": nll.detach(),
            "ntokens": sizes.ntokens,
            "nsentences": sizes.nsentences,
            "sample_size": sizes.sample_size,
            **logged_divergence(kl.detach(), weights, sizes.positions),
            **self.further_log(rows, target, weights.views),
        }
        return loss, sizes.sample_size, log

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """fairseq's quantities and ours (logged.py), summed over workers."""
        super().reduce_metrics(logging_outputs)  # type: ignore[misc]
        log_divergence(logging_outputs)
