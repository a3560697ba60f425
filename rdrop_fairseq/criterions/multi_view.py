"""The training step of every criterion on several views of a batch: run the views, compute the loss, log."""

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
    """Options of running the views and computing the loss."""

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
    """Sizes of a batch, known to the host.

    ntokens, nsentences: as fairseq logs them. positions: an upper bound on the number of tokens (or sentences) that the
    objective of one view is summed over. sample_size: the number that fairseq divides the gradient by.
    """

    ntokens: int
    nsentences: int
    positions: int
    sample_size: int


class MultiView(ABC):
    """Mixin for a fairseq criterion, listed before its base class. In training it computes the objective of
    `view_weights` on the views of a batch; in eval mode the base class computes its own loss.

    The mixin assumes neither padding nor label smoothing. A subclass sets `views` and `weights`, and `impl`, `eps` and
    `ignore_index` if they differ from the defaults; it implements the abstract methods and overrides others as needed.
    """

    views: Views
    weights: ViewWeights
    impl: str = "auto"
    eps: float = 0.0
    ignore_index: int = -100
    _bound: Optional[ModelViews] = None

    def view_weights(self) -> ViewWeights:
        """The objective of this update."""
        return self.weights

    @abstractmethod
    def rows(self, bound: ModelViews, sample: dict[str, Any], count: int) -> Rows:
        """The model's features or logits for `count` views of the batch."""

    @abstractmethod
    def sizes(self, sample: dict[str, Any]) -> Sizes:
        """The sizes of the batch. The sample size is that of one view, so that learning rates carry over."""

    def check_model(self, model: nn.Module) -> None:  # noqa: B027  (most have nothing to check)
        """Called once per model. Raises UserError for a model that the criterion cannot train."""

    def targets(self, sample: dict[str, Any]) -> Tensor:
        """The references, int64; `ignore_index` marks ignored positions."""
        target: Tensor = sample["target"]
        return target

    def objective(
        self, rows: Rows, target: Tensor, weights: ViewWeights, positions: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, nll, kl), sums in nats (see loss/). positions: an upper bound on the number of targets."""
        kwargs: dict[str, Any] = {"weights": weights, "label_smoothing": self.eps, "impl": self.impl}
        kwargs.update(ignore_index=self.ignore_index, positions=positions)
        if rows.projection is None:
            return rdrop_loss(rows.tensor, target, **kwargs)
        return linear_rdrop_loss(rows.tensor, rows.projection.weight, target, rows.projection.bias, **kwargs)

    def further_log(self, rows: Rows, target: Tensor, count: int, positions: int) -> dict[str, Any]:
        """Further logging outputs of a training step."""
        return {}

    def bind(self, model: nn.Module) -> ModelViews:
        """The views of this model, created at the first call with it."""
        if self._bound is None or self._bound.model is not model:
            self.check_model(model)
            self._bound = self.views.of(model)
        return self._bound

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """fairseq's (loss, sample size, logging outputs). In training the losses are sums in nats over the positions of
        one view. Raises UserError for reduce=False in training."""
        if not model.training:
            return super().forward(model, sample, reduce)  # type: ignore[misc]
        if not reduce:
            raise UserError("this criterion trains on the sum over a batch: call it with reduce=True")
        bound, weights, sizes = self.bind(model), self.view_weights(), self.sizes(sample)
        target = self.targets(sample)
        rows = self.rows(bound, sample, weights.views)
        loss, nll, kl = self.objective(rows, target, weights, sizes.positions)
        log: dict[str, Any] = {
            "loss": loss.detach(),
            "nll_loss": nll.detach(),
            "ntokens": sizes.ntokens,
            "nsentences": sizes.nsentences,
            "sample_size": sizes.sample_size,
            **logged_divergence(kl.detach(), weights, sizes.positions),
            **self.further_log(rows, target, weights.views, sizes.positions),
        }
        return loss, sizes.sample_size, log

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Logs fairseq's quantities and ours (logged.py), summed over workers."""
        super().reduce_metrics(logging_outputs)  # type: ignore[misc]
        log_divergence(logging_outputs)
