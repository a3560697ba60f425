"""The number of the update, handed from the task to the criterion: fairseq tells it to tasks only."""

from __future__ import annotations

from typing import Any


class HandsOverNumUpdates:
    """Mixin for a fairseq task: a criterion that has `set_num_updates` gets the number of finished updates."""

    hands_over_num_updates = True

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> Any:
        """fairseq's train_step, after the criterion has heard of `update_num`."""
        if hasattr(criterion, "set_num_updates"):
            criterion.set_num_updates(update_num)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)  # type: ignore[misc]
