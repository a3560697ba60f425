"""Batch arithmetic: the effective batch of a recipe on however many GPUs there are.

    tokens per update = max-tokens (per GPU, before the views are stacked) x GPUs x update-freq

R-Drop runs every sentence twice, which doubles the memory of a batch and leaves its size as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from rdrop_fairseq.errors import UserError

# The longest sentence that the recipes' models take (fairseq's max positions). A batch below it would silently drop
# sentences that the recipe trains on, so a GPU's share is never made smaller than this.
LONGEST_SENTENCE = 1024


@dataclass(frozen=True)
class Batch:
    """A batch as fairseq-train is told of it."""

    max_tokens: int
    update_freq: int
    world_size: int

    @property
    def tokens_per_update(self) -> int:
        """Effective batch in tokens of one view."""
        return self.max_tokens * self.update_freq * self.world_size

    def __str__(self) -> str:
        return (
            f"{self.max_tokens} tokens x {self.world_size} device{'s' * (self.world_size > 1)} x "
            f"update-freq {self.update_freq} = {self.tokens_per_update} tokens per update"
        )


def plan(tokens_per_update: int, max_tokens: int, world_size: int) -> Batch:
    """The batch that gives exactly `tokens_per_update`.

    `max_tokens` is the most that one GPU gets at a time. Where the GPUs together take more than the recipe's batch,
    each gets an equal share of it. Raises UserError with the ways out where nothing gives the batch of the recipe.
    """
    per_step = max_tokens * world_size
    if tokens_per_update % per_step == 0:
        return Batch(max_tokens, tokens_per_update // per_step, world_size)
    share, rest = divmod(tokens_per_update, world_size)
    if per_step > tokens_per_update and rest == 0 and share >= LONGEST_SENTENCE:
        return Batch(share, 1, world_size)
    fitting = [n for n in range(1, world_size) if _fits(tokens_per_update, max_tokens, n)]
    closest = Batch(max_tokens, max(1, round(tokens_per_update / per_step)), world_size)
    ways = [f"give --update-freq {closest.update_freq} ({closest.tokens_per_update} tokens)"]
    if fitting:
        ways.insert(0, f"let CUDA_VISIBLE_DEVICES show {' or '.join(map(str, fitting[-3:]))} of them")
    raise UserError(
        f"{tokens_per_update} tokens per update do not divide over {world_size} devices of {max_tokens} tokens: "
        + ", or ".join(ways)
    )


def _fits(tokens_per_update: int, max_tokens: int, world_size: int) -> bool:
    if tokens_per_update % (max_tokens * world_size) == 0:
        return True
    share, rest = divmod(tokens_per_update, world_size)
    return max_tokens > share >= LONGEST_SENTENCE and rest == 0
