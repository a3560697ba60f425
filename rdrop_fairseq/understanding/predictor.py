"""Predicts classes or numbers of sentences with a fine-tuned checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.data import data_utils
from torch import Tensor
from tqdm import tqdm

from rdrop_fairseq import checkpoint
from rdrop_fairseq.corpus.gpt2_bpe import ENCODER, MERGES, Gpt2Bpe
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.summarizing.summarizer import batches
from rdrop_fairseq.tasks.parts import labels
from rdrop_fairseq.tasks.parts.pretrained import DEFAULT_RESTORE_FILE


class Predictor:
    """Model, task and BPE of one checkpoint, in fp32: the sentences of GLUE are few."""

    def __init__(self, path: Path, data: Path, device: str | None = None) -> None:
        """data: the directory that was trained on, or another one with its dictionaries and BPE files.

        Raises UserError for a checkpoint of another task, and for missing files.
        """
        state = checkpoint.load(path)
        name = checkpoint.option(state, "task", "_name") or checkpoint.option(state, "task", "task")
        if not str(name).startswith("sentence_prediction"):
            raise UserError(f"{path} was trained on the task {name}, not on sentence_prediction_rdrop: give another")
        trained = (state.get("task_state") or {}).get("class_names")
        del state
        lacking = [file for file in (ENCODER, MERGES) if not (data / file).is_file()]
        if lacking:
            raise UserError(f"{data} has no {' and no '.join(lacking)}: copy them there from a prepared data directory")
        overrides = {"data": str(data), "finetune_from_model": None, "restore_file": DEFAULT_RESTORE_FILE}
        models, _, self.task = checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides=overrides)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = models[0].float().to(self.device).eval()
        self.bpe = Gpt2Bpe(data / ENCODER, data / MERGES)
        self.inputs = 2 if (data / "input1").is_dir() else 1
        # Not the class_names of our task: fairseq's own numbers its labels the same way, and has none.
        numbers = self.task.cfg.regression_target
        self.classes: tuple[str, ...] = () if numbers else labels.names(self.task.label_dictionary)
        if trained is not None and tuple(trained) != self.classes:
            raise UserError(
                f"{data} has the classes {', '.join(self.classes)} in this order, {path} was trained on "
                f"{', '.join(trained)}: give the data directory that it was trained on"
            )
        if not numbers and len(self.classes) != self.task.cfg.num_classes:
            raise UserError(
                f"{data} has {len(self.classes)} classes, {path} was trained on {self.task.cfg.num_classes}: give the "
                "data directory that it was trained on"
            )

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Token ids of a sentence or pair as the task makes them: <s> a </s> </s> b </s>, cut to the model's length."""
        options = self.task.cfg
        parts = []
        for sentence, first in zip(sentences, (options.init_token, options.separator_token)):
            line = self.task.source_dictionary.encode_line(self.bpe.encode_line(sentence), add_if_not_exist=False)
            parts += ([line.new_tensor([first])] if first is not None else []) + [line]
        return torch.cat(parts).long()[: self.task.max_positions()]

    def dataset(self, split: str) -> list[Tensor]:
        """Token ids of a binarized split, in the order of the file."""
        shuffled = self.task.load_dataset(split)
        columns = getattr(shuffled, "dataset", shuffled).defn["net_input.src_tokens"]
        return [columns[number] for number in range(len(columns))]

    @torch.no_grad()
    def outputs(self, tokens: Sequence[Tensor], batch_size: int) -> Tensor:
        """The head's outputs [n, C] on the CPU, in the order of `tokens`."""
        found: dict[int, Tensor] = {}
        with tqdm(total=len(tokens), unit="sentences", mininterval=1.0) as bar:
            for numbers in batches(dict(enumerate(map(len, tokens))), sys.maxsize, batch_size):
                head = self.model(
                    **self._net_input([tokens[number] for number in numbers]),
                    features_only=True,
                    classification_head_name=self.task.cfg.classification_head_name,
                )[0]
                found.update(zip(numbers, head.float().cpu()))
                bar.update(len(numbers))
        return torch.stack([found[number] for number in range(len(tokens))])

    def _net_input(self, lines: list[Tensor]) -> dict[str, Any]:
        pad = self.task.source_dictionary.pad()
        batch = {
            "src_tokens": data_utils.collate_tokens(lines, pad).to(self.device),
            "src_lengths": torch.tensor([len(line) for line in lines], device=self.device),
        }
        if self.task.cfg.add_prev_output_tokens:
            rolled = [line.roll(1) for line in lines]
            batch["prev_output_tokens"] = data_utils.collate_tokens(rolled, pad).to(self.device)
        return batch
