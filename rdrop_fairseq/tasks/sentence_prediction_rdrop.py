"""`--task sentence_prediction_rdrop`: fairseq's sentence prediction, with its input checked before training starts."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from fairseq.tasks import register_task
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask
from omegaconf import II

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.tasks.parts import labels, pretrained
from rdrop_fairseq.tasks.parts.patience import KeepsPatience, PatienceConfig
from rdrop_fairseq.tasks.parts.same_batches import SameBatches
from rdrop_fairseq.tasks.parts.stopping import StopsWhenAsked
from rdrop_fairseq.tasks.parts.update_number import HandsOverNumUpdates


@dataclass
class SentencePredictionRDropTaskConfig(PatienceConfig, SentencePredictionConfig):
    """Options of fairseq's sentence prediction."""

    # Known to the task so that it can look at the checkpoint that training starts from.
    restore_file: str = II("checkpoint.restore_file")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    save_dir: str = II("checkpoint.save_dir")


@register_task("sentence_prediction_rdrop", dataclass=SentencePredictionRDropTaskConfig)
class SentencePredictionRDropTask(
    StopsWhenAsked, KeepsPatience, SameBatches, HandsOverNumUpdates, SentencePredictionTask
):
    """Data as fairseq's preparation of GLUE lays it out: input0/, input1/ (for pairs) and label/."""

    cfg: SentencePredictionRDropTaskConfig

    @classmethod
    def setup_task(cls, cfg: SentencePredictionRDropTaskConfig, **kwargs: Any) -> "SentencePredictionRDropTask":
        """Sets the task up as fairseq does. Raises UserError if options and data differ."""
        labels.check_directory(Path(cfg.data), cfg.regression_target)
        if cfg.num_classes < 1:
            raise UserError("the number of classes is missing: give --num-classes (1 with --regression-target)")
        task = super().setup_task(cfg, **kwargs)
        task.class_names = () if cfg.regression_target else labels.names(task.label_dictionary)
        if not cfg.regression_target and len(task.class_names) != cfg.num_classes:
            raise UserError(
                f"--num-classes {cfg.num_classes}: {Path(cfg.data) / 'label'} has {len(task.class_names)} classes "
                f"({', '.join(task.class_names)}): give their number"
            )
        return task

    def state_dict(self) -> dict[str, Any]:
        """The task's part of a checkpoint: with the classes, since another data directory may number them otherwise."""
        return {**super().state_dict(), "class_names": list(self.class_names)}

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> Any:
        """Loads a split as fairseq does and checks every label. Raises UserError for one that is not a class of the
        head."""
        if self.cfg.regression_target:
            labels.check_numbers(Path(self.cfg.data) / "label" / f"{split}.label", self.cfg.num_classes)
        try:
            dataset = super().load_dataset(split, combine=combine, **kwargs)
        except AssertionError as error:
            if "lengths must match" not in str(error):
                raise
            raise UserError(
                f"{self.cfg.data}: {split} has another number of labels than of sentences: prepare the data again"
            ) from error
        labels.check_labels(dataset, split, Path(self.cfg.data), self.cfg.num_classes, self.cfg.regression_target)
        return dataset

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """The model with its head. Raises UserError for an architecture without one, and if training is about to start
        from a checkpoint that does not match the model."""
        try:
            model = super().build_model(cfg, from_checkpoint)
        except AttributeError as error:
            if "register_classification_head" not in str(error):
                raise
            raise UserError(f"--arch {cfg.arch} has no classification head: use RoBERTa or BART") from error
        start = None if from_checkpoint else pretrained.start(self.cfg)
        if start is not None:
            pretrained.check_sentence_model(start, model, self.cfg.classification_head_name)
        return model
