"""`--task translation_rdrop`: fairseq's translation, which also tells the criterion the number of the update."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass
from typing import Any

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask


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


@dataclass
class TranslationRDropConfig(TranslationConfig):
    """Options of fairseq's translation task."""


@register_task("translation_rdrop", dataclass=TranslationRDropConfig)
class TranslationRDropTask(HandsOverNumUpdates, TranslationTask):
    """Translation with a criterion that changes over updates (--rdrop-start-updates and its kin)."""
