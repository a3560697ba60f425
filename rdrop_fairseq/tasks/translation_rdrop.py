"""`--task translation_rdrop`: fairseq's translation, with what R-Drop and long trainings need (see parts/)."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass
from typing import Any

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from rdrop_fairseq.tasks.parts import beam
from rdrop_fairseq.tasks.parts.patience import KeepsPatience, PatienceConfig
from rdrop_fairseq.tasks.parts.same_batches import SameBatches
from rdrop_fairseq.tasks.parts.stopping import StopsWhenAsked
from rdrop_fairseq.tasks.parts.update_number import HandsOverNumUpdates


@dataclass
class TranslationRDropConfig(PatienceConfig, TranslationConfig):
    """Options of fairseq's translation task, and --patience-share."""


@register_task("translation_rdrop", dataclass=TranslationRDropConfig)
class TranslationRDropTask(StopsWhenAsked, KeepsPatience, SameBatches, HandsOverNumUpdates, TranslationTask):
    """Translation that passes the update number to the criterion (for --rdrop-start-updates and the like), whose
    --eval-bleu leaves the model unchanged, and whose --patience survives restarts."""

    def build_generator(self, models: Any, args: Any, **kwargs: Any) -> Any:
        """fairseq's generator, which changes the models within inference_step only (see beam.py)."""
        generator = super().build_generator(models, args, **kwargs)
        beam.forget(generator)
        return generator

    def inference_step(
        self, generator: Any, models: Any, sample: dict[str, Any], prefix_tokens: Any = None, constraints: Any = None
    ) -> Any:
        """Hypotheses for a batch."""
        with beam.known(generator):
            return super().inference_step(generator, models, sample, prefix_tokens, constraints)
