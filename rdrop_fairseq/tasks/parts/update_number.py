"""Passes the update number from the task to the criterion: fairseq gives it to tasks only."""

from __future__ import annotations

from typing import Any


class HandsOverNumUpdates:
    """Mixin for a fairseq task: a criterion that has `set_num_updates` gets the number of finished updates."""

    hands_over_num_updates = True

    def train_step(
        self, sample: Any, model: Any, criterion: Any, optimizer: Any, update_num: int, *args: Any, **kwargs: Any
    ) -> Any:
        """fairseq's train_step, after passing `update_num` to the criterion."""
        if hasattr(criterion, "set_num_updates"):
            criterion.set_num_updates(update_num)
        return super().train_step(  # type: ignore[misc]
            sample, model, criterion, optimizer, update_num, *args, **kwargs
        )
