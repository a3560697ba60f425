"""A dropout rate that applies during one pass alone (`--rdrop-dropout-rates`, a variant of the R-Drop paper)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable

from fairseq.modules import FairseqDropout
from torch import nn

from rdrop_fairseq.errors import UserError


def parse_rates(text: str, views: int) -> tuple[float, ...]:
    """"0.3,0.1" as one rate per view, "" as none at all; UserError unless as many rates in [0, 1) as views."""
    if not text.strip():
        return ()
    try:
        rates = tuple(float(word) for word in text.split(","))
    except ValueError:
        rates = ()
    if len(rates) != views or not all(math.isfinite(rate) and 0 <= rate < 1 for rate in rates):
        raise UserError(f"--rdrop-dropout-rates must be {views} rates in [0, 1) such as 0.3,0.1, got {text!r}")
    return rates


def main_dropouts(model: nn.Module) -> list[FairseqDropout]:
    """The modules whose rate --dropout sets: on embeddings and on the output of each attention and feed-forward block.

    In fairseq they are named dropout_module; the module of that name inside an attention is set by --attention-dropout,
    and --activation-dropout and its kin have other names: all those keep their rates.
    """
    return [
        parent.dropout_module
        for parent in model.modules()
        if isinstance(getattr(parent, "dropout_module", None), FairseqDropout)
        and "attention" not in type(parent).__name__.lower()
    ]


@contextmanager
def dropout_rate(model: nn.Module, rate: float) -> Iterator[None]:
    """While this is open, the unwrapped model drops out at `rate`; afterwards, exception or not, at its own rates.

    UserError for a model without such dropout.
    """
    modules = main_dropouts(model)
    if not modules:
        raise UserError(
            f"{type(model).__name__} has no dropout that --dropout sets: leave out --rdrop-dropout-rates"
        )
    checkpointed = [(m, m.forward) for m in model.modules() if hasattr(m, "precheckpoint_forward")]
    try:
        for module, forward in checkpointed:
            module.forward = _recomputed_at(modules, rate, forward)
        with _set(modules, rate):
            yield
    finally:
        for module, forward in checkpointed:
            module.forward = forward


@contextmanager
def _set(modules: list[FairseqDropout], rate: float) -> Iterator[None]:
    own = [module.p for module in modules]
    try:
        for module in modules:
            module.p = rate
        yield
    finally:
        for module, p in zip(modules, own):
            module.p = p


def _recomputed_at(modules: list[FairseqDropout], rate: float, forward: Any) -> partial[Any]:
    """fairseq's checkpointed forward of a layer, `partial(_checkpointed_forward, original, offload)`, that also
    recomputes at this rate: in backward, when the rate of the view has long been put back."""
    original, *rest = forward.args
    return partial(forward.func, partial(_at_rate, modules, rate, original), *rest)


def _at_rate(
    modules: list[FairseqDropout], rate: float, original: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    with _set(modules, rate):
        return original(*args, **kwargs)
