"""`--task language_modeling_rdrop`: fairseq's language modelling, with what R-Drop and long trainings need (see
parts/)."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass
from typing import Any

from fairseq import utils
from fairseq.tasks import register_task
from fairseq.tasks.language_modeling import LanguageModelingConfig, LanguageModelingTask

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.tasks.parts.patience import KeepsPatience, PatienceConfig
from rdrop_fairseq.tasks.parts.same_batches import SameBatches
from rdrop_fairseq.tasks.parts.stopping import StopsWhenAsked
from rdrop_fairseq.tasks.parts.update_number import HandsOverNumUpdates


@dataclass
class LanguageModelingRDropConfig(PatienceConfig, LanguageModelingConfig):
    """Options of fairseq's language modelling task."""


@register_task("language_modeling_rdrop", dataclass=LanguageModelingRDropConfig)
class LanguageModelingRDropTask(StopsWhenAsked, KeepsPatience, SameBatches, HandsOverNumUpdates, LanguageModelingTask):
    """Language modelling from left to right that passes the update number to the criterion (for --rdrop-start-updates
    and the like), and whose --patience survives restarts."""

    def build_model(self, args: Any, from_checkpoint: bool = False) -> Any:
        """The model. Raises UserError for an adaptive softmax or input that does not match the dictionary (fairseq has
        an assertion without a message), and for targets other than the next word."""
        if self.targets != ["future"]:
            raise UserError(f"R-Drop is for the next word: leave out --{self.targets[0]}-target")
        check_cutoffs(args, len(self.target_dictionary))
        return super().build_model(args, from_checkpoint)


def check_cutoffs(args: Any, entries: int) -> None:
    """Raises UserError if a cluster of the adaptive softmax or input has no words in a dictionary of `entries`."""
    for option in ("adaptive_softmax_cutoff", "adaptive_input_cutoff"):
        wanted = option != "adaptive_input_cutoff" or getattr(args, "adaptive_input", False)
        cutoffs = utils.eval_str_list(getattr(args, option, None) or None, type=int) if wanted else None
        if cutoffs and (cutoffs != sorted(set(cutoffs)) or cutoffs[0] < 1 or cutoffs[-1] > entries):
            raise UserError(
                f"--{option.replace('_', '-')} {','.join(map(str, cutoffs))} does not fit a dictionary of {entries:,} "
                f"entries: give rising numbers, none above {entries}"
            )
