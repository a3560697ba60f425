"""The effective alpha of each update."""

from __future__ import annotations

from dataclasses import dataclass

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss.weights import check_alpha


@dataclass(frozen=True)
class Schedule:
    """Plain training for `start` updates, then R-Drop on each `every`-th update; alpha rises linearly over `warmup`
    updates. Raises UserError for an alpha that is negative or not finite, negative lengths, or every < 1.
    """

    alpha: float
    start: int = 0
    warmup: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if self.start < 0 or self.warmup < 0:
            raise UserError(
                f"--rdrop-start-updates and --rdrop-warmup-updates must be >= 0, got {self.start} and {self.warmup}"
            )
        if self.every < 1:
            raise UserError(f"--rdrop-every must be >= 1, got {self.every}")

    @property
    def constant(self) -> bool:
        """True if all updates have the same alpha."""
        return self.alpha == 0 or (self.start == 0 and self.warmup == 0 and self.every == 1)

    def alpha_at(self, done: int) -> float:
        """Effective alpha of the update after `done` finished ones (fairseq's num_updates).

        With updates numbered from 1, update n has alpha min(1, (n - start) / warmup) if n > start and n - start is a
        multiple of `every`, else 0.
        """
        since = done + 1 - self.start
        if since <= 0 or since % self.every:
            return 0.0
        return self.alpha * min(1.0, since / self.warmup) if self.warmup else self.alpha
