"""Several decoder views on one encoder run (`--rdrop-mode shared-encoder`).

The model is called as ever, through whatever wraps it, with source sentences once and decoder inputs m times; a hook on
the encoder repeats its output. Functions here take the model without its wrappers.
Gradients of all views add up at the repetition.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq.models import FairseqEncoder
from fairseq.modules import LayerDropModuleList
from torch import nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.stack import stack_views

ENCODER_INPUTS = {"src_tokens", "src_lengths"}
DECODER_INPUTS = {"prev_output_tokens"}


def check_shared_encoder(model: nn.Module) -> None:
    """UserError for a model that has no encoder to share, or whose decoder views would lose the same layers."""
    encoder, decoder = getattr(model, "encoder", None), getattr(model, "decoder", None)
    if not isinstance(encoder, nn.Module) or not callable(getattr(encoder, "reorder_encoder_out", None)):
        raise UserError(
            f"{type(model).__name__} has no encoder whose output can be repeated: use --rdrop-mode stacked"
        )
    if getattr(type(encoder), "reorder_encoder_out", None) is FairseqEncoder.reorder_encoder_out:
        raise UserError(f"{type(encoder).__name__} cannot repeat its output: use --rdrop-mode stacked")
    if any(isinstance(m, LayerDropModuleList) and m.p > 0 for m in decoder.modules()):  # type: ignore[union-attr]
        raise UserError(
            "with a shared encoder all views of the decoder run in one forward and would lose the same layers: "
            "use --decoder-layerdrop 0 or --rdrop-mode separate"
        )


def shared_input(model: nn.Module, net_input: dict[str, Any], sentences: int, views: int) -> dict[str, Any]:
    """A new `net_input` with the decoder's input m times; UserError for an input of which the side is not known."""
    unknown = set(net_input) - ENCODER_INPUTS - DECODER_INPUTS
    if unknown:
        raise UserError(
            f"a shared encoder cannot tell whose input {', '.join(sorted(unknown))} is: use --rdrop-mode stacked"
        )
    decoder_input = {key: value for key, value in net_input.items() if key in DECODER_INPUTS}
    shared = {**net_input, **stack_views(decoder_input, sentences, views)}
    if "return_all_hiddens" in inspect.signature(model.forward).parameters:
        shared["return_all_hiddens"] = False  # on by default, and every layer's states would be repeated for nobody
    return shared


@contextmanager
def repeated_encoder_output(model: nn.Module, sentences: int, views: int) -> Iterator[None]:
    """While this is open, the encoder's output for `sentences` sentences comes out `views` times, view by view."""
    encoder: Any = model.encoder

    def repeat(_: nn.Module, inputs: Any, output: Any) -> Any:
        device = next(encoder.parameters()).device
        return encoder.reorder_encoder_out(output, torch.arange(sentences, device=device).repeat(views))

    handle = encoder.register_forward_hook(repeat)
    try:
        yield
    finally:
        handle.remove()
