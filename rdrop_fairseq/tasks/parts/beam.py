"""Sets the beam size of BART's cross-attention during generation only.

fairseq (upstream since 2022) sets the beam size of BART's decoder when a generator is built, so that the article's keys
need not be repeated for every hypothesis. The decoder keeps it: in all later forwards, of training and validation too,
the sentences of a batch attend to every beam-th article only, without an error if the batch size is a multiple of the
beam. The generator of --eval-bleu or --eval-rouge, which lives in the task, would thus spoil the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def forget(generator: Any) -> None:
    """Sets the models of a generator back to a beam of 1."""
    for model in _beamable(generator):
        model.set_beam_size(1)
        # set_beam_size replaces this method by one that does not reorder, which is right for an unrepeated beam only.
        model.encoder.__dict__.pop("reorder_encoder_out", None)


@contextmanager
def known(generator: Any) -> Iterator[None]:
    """Within this context, the models of the generator have its beam size."""
    if generator.beam_size > 1:
        for model in _beamable(generator):
            model.set_beam_size(generator.beam_size)
    try:
        yield
    finally:
        forget(generator)


def _beamable(generator: Any) -> list[Any]:
    models = getattr(getattr(generator, "model", None), "models", ())
    return [model for model in models if hasattr(model, "set_beam_size")]
