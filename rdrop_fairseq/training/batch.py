"""Batch arithmetic: the effective batch of a recipe on however many GPUs there are.

    tokens per update = max-tokens (per GPU, before the views are stacked) x GPUs x update-freq
    sentences per update = batch-size (likewise) x GPUs x update-freq

R-Drop runs every sentence twice, which doubles the memory of a batch and leaves its size as it is.

A language model reads its text in blocks of --tokens-per-sample, and a batch has whole blocks only: 2,000 tokens hold
three blocks of 512, and none of 3,072. fairseq leaves out every block that is larger than the batch, so that hardly
anything would be left to train on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from rdrop_fairseq.errors import UserError

# The longest sentence that the recipes' models accept (fairseq's max positions). A smaller batch would silently drop
# sentences that the recipe trains on, so no GPU gets less.
LONGEST_SENTENCE = 1024
# The smallest share of a GPU, by unit.
SMALLEST = {"tokens": LONGEST_SENTENCE, "sentences": 1}


@dataclass(frozen=True)
class Batch:
    """A batch in fairseq-train's terms: `size` tokens or sentences (`unit`) per GPU and step."""

    size: int
    update_freq: int
    world_size: int
    unit: str = "tokens"

    @property
    def per_update(self) -> int:
        """Effective batch in tokens or sentences of one view."""
        return self.size * self.update_freq * self.world_size

    def __str__(self) -> str:
        return (
            f"{self.size} {self.unit} x {self.world_size} device{'s' * (self.world_size > 1)} x "
            f"update-freq {self.update_freq} = {self.per_update} {self.unit} per update"
        )


def whole_blocks(size: int, block: int) -> int:
    """The tokens of the blocks that fit into `size`. Raises UserError if none does."""
    if size < block:
        raise UserError(f"{size} tokens hold no block of {block} (--tokens-per-sample): give --max-tokens {block}")
    return size - size % block


def plan(per_update: int, size: int, world_size: int, unit: str = "tokens", block: int = 1) -> Batch:
    """The batch that gives exactly `per_update` tokens or sentences.

    `size` is the most that one GPU gets in a step. If it does not divide the recipe's batch, each GPU gets an equal
    share in as few steps as possible, which is a multiple of `block`. Raises UserError listing the alternatives if no
    share works.
    """
    size = whole_blocks(size, block)
    found = _exact(per_update, size, world_size, unit, block)
    if found is not None:
        return found
    per_step = size * world_size
    fitting = [n for n in range(1, world_size) if _exact(per_update, size, n, unit, block)]
    closest = Batch(size, max(1, round(per_update / per_step)), world_size, unit)
    ways = [f"give --update-freq {closest.update_freq} ({closest.per_update} {unit})"]
    if fitting:
        ways.insert(0, f"let CUDA_VISIBLE_DEVICES show {' or '.join(map(str, fitting[-3:]))} of them")
    raise UserError(
        f"{per_update} {unit} per update do not divide over {world_size} devices of {size} {unit}: "
        + ", or ".join(ways)
    )


def _exact(per_update: int, size: int, world_size: int, unit: str, block: int) -> Optional[Batch]:
    """The fewest steps that make up the batch in equal shares of at most `size`; None if no share is large enough."""
    steps = -(-per_update // (size * world_size))
    smallest = min(size, SMALLEST[unit])
    while per_update >= smallest * world_size * steps:
        share, rest = divmod(per_update, world_size * steps)
        if rest == 0 and share % block == 0:
            return Batch(share, steps, world_size, unit)
        steps += 1
    return None
