"""Runs m views of a batch through the model: in one stacked forward, in one per view, or with one encoder run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor, nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.cutoff import Cutoff, cutting
from rdrop_fairseq.views.data_parallel import check_data_parallel
from rdrop_fairseq.views.dropout_rates import dropout_rate
from rdrop_fairseq.views.models import needs_separate, unwrap
from rdrop_fairseq.views.shared_encoder import check_shared_encoder, repeated_encoder_output, shared_input
from rdrop_fairseq.views.stack import stack_views

MODES = ("auto", "stacked", "separate", "shared-encoder")


@dataclass(frozen=True)
class Views:
    """How the m views of a batch are run, and how they differ apart from their dropout masks.

    count: m. mode: one of MODES. cutoff: what to zero in which views. rates: a dropout rate for each view, or () for
    the model's own. Raises UserError for combinations that contradict each other.
    """

    count: int
    mode: str = "auto"
    cutoff: Optional[Cutoff] = None
    rates: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.rates and self.mode in ("stacked", "shared-encoder"):
            raise UserError(
                f"--rdrop-dropout-rates needs one forward per view: leave out --rdrop-mode {self.mode}, or use separate"
            )
        if self.cutoff is not None and self.mode == "shared-encoder":
            raise UserError("cutoff makes the views' sources differ, so they cannot share an encoder run: use stacked")

    def of(self, model: nn.Module) -> ModelViews:
        """These views for one model, with "auto" resolved. Raises UserError for a mode that the model cannot run in."""
        mode = self.mode
        if mode == "auto":
            mode = "separate" if self.rates or needs_separate(model) else "stacked"
        check_data_parallel(model, mode)
        inner = unwrap(model)
        if mode == "shared-encoder":
            check_shared_encoder(inner)
        return ModelViews(self, model, inner, mode)


@dataclass(frozen=True)
class ModelViews:
    """The views of one model, with properties of the model that are looked up once.

    model: the model as it is called. inner: the same without its wrappers. mode: never "auto".
    """

    views: Views
    model: nn.Module
    inner: nn.Module
    mode: str

    def run(self, net_input: dict[str, Any], sentences: int, count: Optional[int] = None, **kwargs: Any) -> Any:
        """The model's output for the views of a batch, stacked along dimension 0: (tensor [m*B, ...], extra).

        net_input: keyword arguments for B = `sentences` sentences, not changed. count: m, or 1 for plain training, with
        nothing cut and the model's own dropout rates. `extra` comes from the last forward.
        """
        count = self.views.count if count is None else count
        if count == 1:
            return self.model(**net_input, **kwargs)
        if self.mode == "shared-encoder":
            with repeated_encoder_output(self.inner, sentences, count):
                return self.model(**shared_input(self.inner, net_input, sentences, count), **kwargs)
        if self.mode == "stacked":
            with cutting(self.inner, self.views.cutoff, range(count)):
                return self.model(**stack_views(net_input, sentences, count), **kwargs)
        outputs = [self._run_one(view, net_input, kwargs) for view in range(count)]
        stacked: Tensor = torch.cat([output[0] for output in outputs], dim=0)
        return (stacked, *outputs[-1][1:])

    def _run_one(self, view: int, net_input: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        rates = self.views.rates
        rate = dropout_rate(self.inner, rates[view]) if rates else nullcontext()
        with cutting(self.inner, self.views.cutoff, [view]), rate:
            return self.model(**net_input, **kwargs)
