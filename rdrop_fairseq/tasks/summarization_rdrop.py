"""`--task summarization_rdrop`: articles to summaries, for BART and any other encoder-decoder."""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from fairseq import utils
from fairseq.data import LanguagePairDataset
from fairseq.tasks import register_task
from fairseq.tasks.translation import load_langpair_dataset
from omegaconf import II

from rdrop_fairseq import published
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.tasks.parts import pretrained
from rdrop_fairseq.tasks.parts.truncation import TruncatedDataset, truncate
from rdrop_fairseq.tasks.translation_rdrop import TranslationRDropConfig, TranslationRDropTask


@dataclass
class SummarizationRDropConfig(TranslationRDropConfig):
    """Options of translation, the length of an article, and ROUGE in validation."""

    truncate_source_length: int = field(
        default=0,
        metadata={"help": "cut articles to this many tokens, the eos kept among them; 0: to --max-source-positions"},
    )
    eval_rouge: bool = field(
        default=False,
        metadata={
            "help": "generate summaries in validation and log rouge1, rouge2, rougeL and rougeLsum (F1 in percent); "
            "choose checkpoints by them with --best-checkpoint-metric rougeLsum --maximize-best-checkpoint-metric"
        },
    )
    eval_rouge_args: str = field(
        default=json.dumps(published.decoding("cnndm").options()),
        metadata={"help": "generation options for it, as JSON"},
    )
    eval_rouge_articles: int = field(
        default=0,
        metadata={"help": "only the first N articles of the first --valid-subset are summarized; 0: every one of all"},
    )
    eval_rouge_max_tokens: int = field(
        default=16384,
        metadata={"help": "with --eval-rouge-articles: source tokens of a batch (no gradient is kept: more fit)"},
    )
    eval_rouge_bpe: Optional[str] = field(
        default=None,
        metadata={"help": "folder with encoder.json and vocab.bpe of GPT-2 (default: the data directory)"},
    )
    valid_subset: str = II("dataset.valid_subset")
    # Known to the task so that it can look at the checkpoint that training starts from.
    restore_file: str = II("checkpoint.restore_file")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    save_dir: str = II("checkpoint.save_dir")


@register_task("summarization_rdrop", dataclass=SummarizationRDropConfig)
class SummarizationRDropTask(TranslationRDropTask):
    """Translation from long sources; with BART's dictionary.

    BART's dict.txt has 50,260 entries, 50,264 with fairseq's four specials: a multiple of 8, and the row that the
    published checkpoints have beyond it is <mask>, which fine-tuning does not use (see pretrained.py).
    """

    cfg: SummarizationRDropConfig

    @classmethod
    def setup_task(cls, cfg: SummarizationRDropConfig, **kwargs: Any) -> "SummarizationRDropTask":
        """Checks the options, then sets the task up as translation does."""
        length = cfg.truncate_source_length
        if length and not 2 <= length <= cfg.max_source_positions:
            raise UserError(
                f"--truncate-source-length {length}: between 2 and --max-source-positions {cfg.max_source_positions}, "
                "or 0 for the latter"
            )
        for name, least in (("eval_rouge_articles", 0), ("eval_rouge_max_tokens", 1)):
            if getattr(cfg, name) < least:
                raise UserError(f"--{name.replace('_', '-')} {getattr(cfg, name)}: give {least} or more")
        return super().setup_task(cfg, **kwargs)

    def __init__(self, cfg: SummarizationRDropConfig, src_dict: Any, tgt_dict: Any) -> None:
        super().__init__(cfg, src_dict, tgt_dict)
        self.source_length = cfg.truncate_source_length or cfg.max_source_positions
        self.validation_rouge: Any = None
        self.rouge_is_due = False  # the first articles are to be summarized with the next batch

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any) -> None:
        """Loads a split as translation does, every article truncated."""
        cfg = self.cfg
        paths = utils.split_paths(cfg.data)
        path = paths[(epoch - 1) % len(paths)] if split == cfg.train_subset else paths[0]
        pairs = load_langpair_dataset(
            path,
            split,
            cfg.source_lang,
            self.src_dict,
            cfg.target_lang,
            self.tgt_dict,
            combine=combine,
            dataset_impl=cfg.dataset_impl,
            upsample_primary=cfg.upsample_primary,
            left_pad_source=cfg.left_pad_source,
            left_pad_target=cfg.left_pad_target,
            max_source_positions=cfg.max_source_positions,
            max_target_positions=cfg.max_target_positions,
            load_alignments=cfg.load_alignments,
        )
        source = TruncatedDataset(pairs.src, self.source_length, self.src_dict.eos())
        self.datasets[split] = LanguagePairDataset(
            source,
            source.sizes,
            self.src_dict,
            pairs.tgt,
            pairs.tgt_sizes,
            self.tgt_dict,
            left_pad_source=cfg.left_pad_source,
            left_pad_target=cfg.left_pad_target,
            shuffle=split != "test",
            align_dataset=pairs.align_dataset,
            num_buckets=cfg.num_batch_buckets,
            pad_to_multiple=cfg.required_seq_len_multiple,
        )

    def build_dataset_for_inference(self, src_tokens: Any, src_lengths: Any, constraints: Any = None) -> Any:
        """Articles for generation, truncated like those of a data set (fairseq's translation does not)."""
        tokens = [truncate(article, self.source_length, self.src_dict.eos()) for article in src_tokens]
        lengths = [article.numel() for article in tokens]
        return super().build_dataset_for_inference(tokens, lengths, constraints=constraints)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """The model. Raises UserError if training is about to start from a checkpoint of other sizes."""
        model = super().build_model(cfg, from_checkpoint)
        start = None if from_checkpoint else pretrained.start(self.cfg)
        if start is not None:
            pretrained.check(start, model, self.source_dictionary)
        if self.cfg.eval_rouge:
            from rdrop_fairseq.tasks.parts.validation_rouge import ValidationRouge

            bpe = Path(self.cfg.eval_rouge_bpe or utils.split_paths(self.cfg.data)[0])
            self.validation_rouge = ValidationRouge(self, model, bpe, self.cfg.eval_rouge_args)
        return model

    def begin_valid_epoch(self, epoch: int, model: Any) -> None:
        """fairseq's call before a validation."""
        super().begin_valid_epoch(epoch, model)
        self.rouge_is_due = True

    def valid_step(self, sample: dict[str, Any], model: Any, criterion: Any) -> Any:
        """fairseq's validation step; with --eval-rouge, also sums of ROUGE scores.

        The sums of --eval-rouge-articles are those of the first batch of a validation.
        """
        loss, sample_size, logging_output = super().valid_step(sample, model, criterion)
        if self.validation_rouge is None:
            return loss, sample_size, logging_output
        cfg = self.cfg
        if not cfg.eval_rouge_articles:
            logging_output.update(self.validation_rouge(sample, model))
        elif self.rouge_is_due:
            dataset = self.dataset(cfg.valid_subset.split(",")[0])
            sums = self.validation_rouge.first(dataset, cfg.eval_rouge_articles, cfg.eval_rouge_max_tokens, model)
            logging_output.update(sums)
            self.rouge_is_due = False  # only now: fairseq repeats a step that ran out of memory
        return loss, sample_size, logging_output

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """fairseq's metrics, and ROUGE where it was computed."""
        super().reduce_metrics(logging_outputs, criterion)
        if self.validation_rouge is not None:
            from rdrop_fairseq.tasks.parts.validation_rouge import log_rouge

            log_rouge(logging_outputs)
