"""Cutoff (Shen et al. 2020, arXiv 2009.13818): part of the input embeddings of a view is zeroed.

token: each token with probability `rate`, independently. span: one contiguous stretch of a sentence, of `rate` times
its tokens (rounded up or down at random, so that short sentences also lose `rate` on average). feature: each dimension
of the embedding with probability `rate`, for all tokens of a sentence. Unlike dropout, the rest is not scaled up.

Token embeddings are cut before positions are added and before any layer norm, as in SimCut (Gao et al. 2022). Forward
hooks that exist during one forward do it, so model classes need no change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

import torch
from fairseq.distributed import utils as distributed
from fairseq.models import FairseqLanguageModel
from torch import Generator, Tensor, nn

from rdrop_fairseq.errors import UserError

KINDS = ("token", "span", "feature")
SIDES = ("encoder", "decoder")


@dataclass(frozen=True)
class Cutoff:
    """What is cut, in which views.

    kind: one of KINDS. rate: in [0, 1]. views: numbers of the views to cut. source_specials, target_specials: symbols
    that are never cut (bos, eos, pad). The first decoder input is never cut. Raises UserError for an unknown kind or a
    rate outside [0, 1].
    """

    kind: str
    rate: float
    views: tuple[int, ...]
    source_specials: tuple[int, ...]
    target_specials: tuple[int, ...]
    target_padding: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"the kind of cutoff must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not 0 <= self.rate <= 1:  # NaN is not, either
            raise UserError(f"--rdrop-cutoff-rate must be in [0, 1], got {self.rate}")

    @classmethod
    def of_task(cls, task: Any, kind: str, rate: float, views: tuple[int, ...]) -> Optional[Cutoff]:
        """Cutoff with the special symbols of a fairseq task's dictionaries; None if nothing would be cut."""
        if kind == "none" or rate == 0 or not views:
            return None
        target = task.target_dictionary
        source = getattr(task, "source_dictionary", None) or target
        specials = [(d.bos(), d.eos(), d.pad()) for d in (source, target)]
        return cls(kind, rate, views, specials[0], specials[1], target.pad())

    def cuttable(self, tokens: Tensor, side: str) -> Tensor:
        """Which of the tokens [B, T] may be cut: bool [B, T]."""
        specials = self.source_specials if side == "encoder" else self.target_specials
        kept = torch.zeros_like(tokens, dtype=torch.bool)
        for special in specials:  # the host would wait for a copy of a tensor of them
            kept |= tokens.eq(special)
        if side == "decoder":
            text = tokens.ne(self.target_padding)
            kept |= text & text.cumsum(1).eq(1)
        return ~kept


def parse_views(text: str, views: int) -> tuple[int, ...]:
    """The views named by "all", "rest" (all but the first) or numbers such as "0,2", out of `views`. Raises UserError
    for anything else."""
    if text in ("all", "rest"):
        return tuple(range(views))[text == "rest" :]
    words = text.split(",")
    numbers = sorted({int(word) for word in words if word.strip().isdecimal()})
    if not numbers or len(numbers) < len(words) or numbers[-1] >= views:
        raise UserError(
            f"--rdrop-cutoff-views must be all, rest, or different numbers in 0..{views - 1} such as 0,1, got {text!r}"
        )
    return tuple(numbers)


def own_generator(device: torch.device) -> Generator:
    """A generator seeded from torch's default generator and the number of this data-parallel worker.

    fairseq seeds all workers alike before every update: with the default generator they would cut the same positions.
    """
    seed = int(torch.randint(2**62, ()))
    worker = distributed.get_data_parallel_rank() if torch.distributed.is_initialized() else 0
    return Generator(device).manual_seed(seed + worker)


def draw(kind: str, rate: float, cuttable: Tensor, width: int, generator: Optional[Generator] = None) -> Tensor:
    """Which entries of embeddings [B, T, width] to zero: bool, [B, T, 1] or [B, T, width].

    cuttable: bool [B, T], the tokens that may be cut. generator: on the same device; None for the device's default.
    """
    rows, _ = cuttable.shape
    chances = partial(torch.rand, device=cuttable.device, generator=generator)
    if kind == "token":
        return (cuttable & (chances(cuttable.shape) < rate)).unsqueeze(-1)
    if kind == "feature":
        return cuttable.unsqueeze(-1) & (chances(rows, 1, width) < rate)
    count = cuttable.sum(1, keepdim=True)
    chance = chances(2, rows, 1)
    length = torch.minimum((rate * count + chance[0]).floor().long(), count)
    start = torch.minimum((chance[1] * (count - length + 1)).floor().long(), count - length)
    rank = cuttable.cumsum(1) - 1  # the place of a token among those that may be cut
    return (cuttable & (rank >= start) & (rank < start + length)).unsqueeze(-1)


@contextmanager
def cutting(model: nn.Module, cutoff: Optional[Cutoff], views: Sequence[int]) -> Iterator[None]:
    """Within this context, a forward of the unwrapped `model` cuts its inputs. views: the view of each block of rows.

    The model is restored afterwards, also after an exception. Raises UserError for a model whose encoder or decoder
    does not embed its input by `embed_tokens`.
    """
    if cutoff is None or not set(views) & set(cutoff.views):
        yield
        return
    sides = SIDES[1:] if isinstance(model, FairseqLanguageModel) else SIDES  # those have a decoder alone
    hooks = _Hooks(cutoff, views)
    handles = []
    try:
        embeddings = {}
        for side in sides:
            module, embedding = _embedding(model, side)
            embeddings[id(embedding)] = embedding  # encoder and decoder may share one: it is cut once per call
            handles.append(module.register_forward_pre_hook(partial(hooks.enter, side)))
            handles.append(module.register_forward_hook(hooks.leave))
        handles += [embedding.register_forward_hook(hooks.cut) for embedding in embeddings.values()]
        yield
    finally:
        for handle in handles:
            handle.remove()
    unseen = sorted(set(sides) - hooks.seen)
    if unseen:
        raise UserError(f"the {' and the '.join(unseen)} did not call embed_tokens, so cutoff cannot reach its input")


def _embedding(model: nn.Module, side: str) -> tuple[nn.Module, nn.Module]:
    module = getattr(model, side, None)
    embedding = getattr(module, "embed_tokens", None)
    if not isinstance(module, nn.Module) or not isinstance(embedding, nn.Module):
        raise UserError(
            f"cutoff needs a model with an encoder and a decoder that embed their input by embed_tokens, and "
            f"{type(model).__name__} has no {side}.embed_tokens: use --rdrop-cutoff none"
        )
    return module, embedding


class _Hooks:
    """The hooks of one forward. They keep track of whether the encoder or the decoder calls the embedding."""

    def __init__(self, cutoff: Cutoff, views: Sequence[int]) -> None:
        self.cutoff = cutoff
        self.cut_blocks = [view in cutoff.views for view in views]
        self.side: Optional[str] = None
        self.seen: set[str] = set()

    def enter(self, side: str, *_: Any) -> None:
        self.side = side

    def leave(self, *_: Any) -> None:
        self.side = None

    def cut(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Optional[Tensor]:
        """Zeroes the cut part of the embeddings [m*B, T, d] of tokens [m*B, T]."""
        if self.side is None:
            return None
        self.seen.add(self.side)
        blocks = []
        generator = own_generator(output.device)
        for cut, tokens in zip(self.cut_blocks, inputs[0].chunk(len(self.cut_blocks))):
            if cut:
                cuttable = self.cutoff.cuttable(tokens, self.side)
                blocks.append(draw(self.cutoff.kind, self.cutoff.rate, cuttable, output.size(-1), generator))
            else:
                blocks.append(torch.zeros_like(tokens, dtype=torch.bool).unsqueeze(-1))
        width = max(block.size(-1) for block in blocks)
        return output.masked_fill(torch.cat([block.expand(-1, -1, width) for block in blocks]), 0.0)
