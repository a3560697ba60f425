"""Several decoder views on one encoder run (`--rdrop-mode shared-encoder`).

The model is called through its wrappers as usual, with source sentences once and decoder inputs m times; a hook on the
encoder repeats its output, and autograd sums the gradients of all views there. Functions here take the model without
its wrappers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq.models import FairseqEncoder
from torch import nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.models import has_layerdrop
from rdrop_fairseq.views.stack import stack_views

ENCODER_INPUTS = {"src_tokens", "src_lengths"}
DECODER_INPUTS = {"prev_output_tokens"}


def check_shared_encoder(model: nn.Module) -> None:
    """Raises UserError for a model without an encoder to share, or with LayerDrop in its decoder."""
    reorder = getattr(type(getattr(model, "encoder", None)), "reorder_encoder_out", None)
    if reorder in (None, FairseqEncoder.reorder_encoder_out):  # the latter raises NotImplementedError
        raise UserError(
            f"{type(model).__name__} has no encoder whose output can be repeated: use --rdrop-mode stacked"
        )
    if has_layerdrop(model.get_submodule("decoder")):
        raise UserError(
            "with a shared encoder, all views run through the decoder together and LayerDrop drops the same layers: "
            "use --decoder-layerdrop 0 or --rdrop-mode separate"
        )


def shared_input(model: nn.Module, net_input: dict[str, Any], sentences: int, views: int) -> dict[str, Any]:
    """A new `net_input` with the decoder's input m times. Raises UserError for an input that may belong to encoder or
    decoder."""
    unknown = set(net_input) - ENCODER_INPUTS - DECODER_INPUTS
    if unknown:
        raise UserError(
            f"a shared encoder needs to know whether {', '.join(sorted(unknown))} is an input of encoder or decoder: "
            "use --rdrop-mode stacked"
        )
    decoder_input = {key: value for key, value in net_input.items() if key in DECODER_INPUTS}
    shared = {**net_input, **stack_views(decoder_input, sentences, views)}
    if "return_all_hiddens" in inspect.signature(model.forward).parameters:
        shared["return_all_hiddens"] = False  # on by default; the states of all layers would be repeated in vain
    return shared


@contextmanager
def repeated_encoder_output(model: nn.Module, sentences: int, views: int) -> Iterator[None]:
    """Within this context, the encoder repeats its output for `sentences` sentences `views` times, view by view."""
    encoder: Any = model.encoder

    def repeat(_: nn.Module, inputs: Any, output: Any) -> Any:
        device = next(encoder.parameters()).device
        return encoder.reorder_encoder_out(output, torch.arange(sentences, device=device).repeat(views))

    handle = encoder.register_forward_hook(repeat)
    try:
        yield
    finally:
        handle.remove()
