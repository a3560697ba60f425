"""A dropout rate for a single pass (`--rdrop-dropout-rates`, a variant studied in the R-Drop paper)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable

from fairseq.modules import FairseqDropout
from torch import nn

from rdrop_fairseq.errors import UserError


def parse_rates(text: str, views: int) -> tuple[float, ...]:
    """The rates in a text such as "0.3,0.1", or () for "". Raises UserError unless it has one in [0, 1) per view."""
    if not text.strip():
        return ()
    try:
        rates = tuple(float(word) for word in text.split(","))
    except ValueError:
        rates = ()
    if len(rates) != views or not all(0 <= rate < 1 for rate in rates):
        raise UserError(f"--rdrop-dropout-rates must be {views} rates in [0, 1) such as 0.3,0.1, got {text!r}")
    return rates


def main_dropouts(model: nn.Module) -> list[FairseqDropout]:
    """The modules whose rate --dropout sets: on embeddings and on the output of each attention and feed-forward block.

    In fairseq their name is dropout_module. An attention has a module of this name, too, whose rate --attention-dropout
    sets; that and modules of other names (--activation-dropout) keep their rates.
    """
    return [
        parent.dropout_module
        for parent in model.modules()
        if isinstance(getattr(parent, "dropout_module", None), FairseqDropout)
        and "attention" not in type(parent).__name__.lower()
    ]


@contextmanager
def dropout_rate(model: nn.Module, rate: float) -> Iterator[None]:
    """Within this context, the unwrapped model has the dropout rate `rate`; afterwards its own again, also after an
    exception. Raises UserError for a model without such dropout.
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
    """fairseq's checkpointed forward of a layer, `partial(_checkpointed_forward, original, offload)`, at this rate: the
    layer is computed again in backward, when the modules have their own rates again."""
    original, *rest = forward.args
    return partial(forward.func, partial(_at_rate, modules, rate, original), *rest)


def _at_rate(
    modules: list[FairseqDropout], rate: float, original: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    with _set(modules, rate):
        return original(*args, **kwargs)
