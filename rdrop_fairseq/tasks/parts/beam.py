"""BART's cross-attention knows the beam only while summaries are generated.

fairseq (upstream since 2022) tells BART's decoder the beam when a generator is built, so that the article's keys need
not be repeated for every hypothesis. The decoder keeps it: in every forward after that, training and validation loss
too, the sentences of a batch attend to every beam-th article only, without an error where the batch divides by the
beam. A generator that lives in the task, as with --eval-bleu and --eval-rouge, thus spoils the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def forget(generator: Any) -> None:
    """Makes the models of a generator attend as they were made to."""
    for model in _beamable(generator):
        model.set_beam_size(1)
        # Put there by set_beam_size: it leaves the encoder's output alone, which is right for an unrepeated beam only.
        model.encoder.__dict__.pop("reorder_encoder_out", None)


@contextmanager
def known(generator: Any) -> Iterator[None]:
    """The models know the beam of their generator inside the block."""
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
