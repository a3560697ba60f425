"""`--task translation_rdrop`: fairseq's translation, which also tells the criterion the number of the update."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass, field
from typing import Any

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from rdrop_fairseq.tasks.parts import beam
from rdrop_fairseq.tasks.parts.patience import KeepsPatience
from rdrop_fairseq.tasks.parts.update_number import HandsOverNumUpdates


@dataclass
class TranslationRDropConfig(TranslationConfig):
    """Options of fairseq's translation task, and when to stop."""

    patience_share: float = field(
        default=0.0,
        metadata={
            "help": "with --patience: validations without a better one count only when the best one lies at least this "
            "share of the updates so far back (0.33: stop where the last third brought nothing better)"
        },
    )


@register_task("translation_rdrop", dataclass=TranslationRDropConfig)
class TranslationRDropTask(KeepsPatience, HandsOverNumUpdates, TranslationTask):
    """Translation with a criterion that changes over updates (--rdrop-start-updates and its kin), with generators for
    validation (--eval-bleu) that leave the model as it was, with a --patience that restarts do not reset, and with
    --patience-share."""

    def build_generator(self, models: Any, args: Any, **kwargs: Any) -> Any:
        """fairseq's generator, which leaves no trace on the models outside of inference_step (see beam.py)."""
        generator = super().build_generator(models, args, **kwargs)
        beam.forget(generator)
        return generator

    def inference_step(
        self, generator: Any, models: Any, sample: dict[str, Any], prefix_tokens: Any = None, constraints: Any = None
    ) -> Any:
        """Hypotheses for a batch."""
        with beam.known(generator):
            return super().inference_step(generator, models, sample, prefix_tokens, constraints)
