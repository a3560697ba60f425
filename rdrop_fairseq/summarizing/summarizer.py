"""A fine-tuned BART that turns articles into summaries, in batches of articles of similar length."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, utils
from fairseq.data import Dictionary
from torch import Tensor

from rdrop_fairseq import checkpoint
from rdrop_fairseq.corpus.gpt2_bpe import ENCODER, MERGES, Gpt2Bpe
from rdrop_fairseq.corpus.stories import one_line
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.tasks.parts import pretrained
from rdrop_fairseq.tasks.parts.pretrained import DEFAULT_RESTORE_FILE
from rdrop_fairseq.tasks.parts.truncation import truncate
from rdrop_fairseq.tasks.summarization_rdrop import SummarizationRDropConfig, SummarizationRDropTask

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Summarizer:
    """Models (an ensemble if several), dictionary, BPE and generation settings."""

    def __init__(
        self,
        paths: Sequence[Path],
        data: Path,
        settings: Mapping[str, Any],
        bos: bool,
        bpe: Path | None = None,
        precision: str | None = None,
        device: str | None = None,
    ) -> None:
        """data: has dict.source.txt (or dict.txt) and, unless `bpe` names another folder, encoder.json and vocab.bpe.

        settings: fairseq's generation options. bos: begin article and summary with <s>, as in BART's pretraining.
        precision: default fp16 on a GPU, fp32 on a CPU. Raises UserError for files that are missing or do not fit.
        """
        self.bpe = Gpt2Bpe(*(_existing(bpe or data, name) for name in (ENCODER, MERGES)))
        self.dictionary = Dictionary.load(str(_existing(data, "dict.source.txt", "dict.txt")))
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.task = _task(data, self.dictionary)
        self.models = [self._load(path, precision) for path in paths]
        self.bos = bos
        self.limit = min(model.max_positions()[0] for model in self.models)
        self.generator = self.task.build_generator(self.models, Namespace(**settings))

    def encode(self, article: str) -> Tensor:
        """Token ids with the end of sentence, not truncated yet."""
        line = self.bpe.encode_line(one_line(article))
        return self.dictionary.encode_line(line, add_if_not_exist=False).long()

    def fit(self, tokens: Tensor) -> Tensor:
        """The tokens for the encoder: cut to what it can read, after <s> if `bos` is set."""
        if not self.bos:
            return truncate(tokens, self.limit, self.dictionary.eos())
        first = tokens.new_tensor([self.dictionary.bos()])
        return torch.cat([first, truncate(tokens, self.limit - 1, self.dictionary.eos())])

    @torch.no_grad()
    def summarize(self, articles: Sequence[Tensor]) -> list[str]:
        """Summaries of one batch of fitted articles, in their order."""
        dataset = self.task.build_dataset_for_inference(list(articles), [article.numel() for article in articles])
        sample = dataset.collater([dataset[index] for index in range(len(dataset))])
        sample = utils.apply_to_sample(lambda tensor: tensor.to(self.device), sample)
        prefix = None
        if self.bos:
            prefix = sample["net_input"]["src_tokens"].new_full((len(articles), 1), self.dictionary.bos())
        found = self.task.inference_step(self.generator, self.models, sample, prefix_tokens=prefix)
        order = sample["id"].tolist()  # the collater sorts by length
        texts = {number: self._text(hypotheses[0]["tokens"]) for number, hypotheses in zip(order, found)}
        return [texts[number] for number in range(len(articles))]

    def _text(self, tokens: Tensor) -> str:
        return one_line(self.bpe.decode_line(self.dictionary.string(tokens.int().cpu())))

    def _load(self, path: Path, precision: str | None) -> Any:
        state = checkpoint.load(path)["model"]
        pretrained.check_dictionary(path, state, self.dictionary)
        del state
        [model], _ = checkpoint_utils.load_model_ensemble([str(path)], task=self.task)
        kind = precision or ("fp16" if self.device.type == "cuda" else "fp32")
        return model.to(device=self.device, dtype=PRECISIONS[kind]).eval()


def batches(lengths: Mapping[int, int], max_tokens: int, max_sentences: int) -> Iterator[list[int]]:
    """Numbers in batches, longest first: at most `max_sentences`, and `max_tokens` with padding (but at least one)."""
    batch: list[int] = []
    for number in sorted(lengths, key=lambda number: (-lengths[number], number)):
        if batch and (len(batch) == max_sentences or (len(batch) + 1) * lengths[batch[0]] > max_tokens):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _task(data: Path, dictionary: Dictionary) -> SummarizationRDropTask:
    config = SummarizationRDropConfig(
        data=str(data),
        source_lang="source",
        target_lang="target",
        restore_file=DEFAULT_RESTORE_FILE,
        finetune_from_model=None,
        max_source_positions=1 << 20,  # no limit: that of the model counts, see Summarizer.limit
    )
    return SummarizationRDropTask(config, dictionary, dictionary)


def _existing(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no {' or '.join(names)}: give the binarized data directory, or put the file there")
