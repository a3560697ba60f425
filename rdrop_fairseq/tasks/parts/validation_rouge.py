"""ROUGE of generated summaries on the validation set, as sums that add up over batches and workers."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import utils
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics

from rdrop_fairseq.corpus.gpt2_bpe import ENCODER, MERGES, Gpt2Bpe
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.rouge import CONVENTIONS, TYPES, score_pair

COUNT = "_rouge_count"


class ValidationRouge:
    """Generates a summary for each article of a batch and sums the F1 scores (rouge-score, no stemming)."""

    def __init__(self, task: Any, model: torch.nn.Module, bpe: Path, generation: str) -> None:
        """generation: JSON of fairseq's generation options. Raises UserError for bad JSON or missing BPE files."""
        try:
            options = json.loads(generation)
            self.generator = task.build_generator([model], Namespace(**options))
        except (ValueError, TypeError) as error:
            raise UserError(f"--eval-rouge-args {generation!r}: {error}; give JSON such as {{\"beam\": 4}}") from error
        lacking = [name for name in (ENCODER, MERGES) if not (bpe / name).is_file()]
        if lacking:
            raise UserError(
                f"--eval-rouge needs {' and '.join(lacking)} in {bpe} to turn ids into text: copy them there, "
                "or name their folder with --eval-rouge-bpe"
            )
        self.bpe = Gpt2Bpe(bpe / ENCODER, bpe / MERGES)
        self.task = task

    def __call__(self, sample: dict[str, Any], model: torch.nn.Module) -> dict[str, float]:
        """{"_rouge1": sum of F1 in 0..1 over the batch, ..., "_rouge_count": summaries}."""
        generated = self.task.inference_step(self.generator, [model], sample, prefix_tokens=None)
        sums = dict.fromkeys((f"_{name}" for name in TYPES), 0.0)
        for hypotheses, target in zip(generated, sample["target"]):
            hypothesis, reference = self._text(hypotheses[0]["tokens"]), self._text(target)
            for name, value in zip(TYPES, score_pair(hypothesis, reference, CONVENTIONS[0])[:, 2]):
                sums[f"_{name}"] += float(value)
        return {**sums, COUNT: float(len(generated))}

    def first(self, dataset: Any, articles: int, max_tokens: int, model: torch.nn.Module) -> dict[str, float]:
        """The same sums over the first `articles` of a data set, in separate batches that the workers share.

        Worker 0 returns them for all, the others zeros: with fewer batches in the set than workers, fairseq drops what
        workers without a batch log. Every worker has to call this.
        """
        batches = batches_of(dataset.src_sizes[:articles], max_tokens)
        rank, world = worker()
        device = next(model.parameters()).device
        sums = dict.fromkeys((*(f"_{name}" for name in TYPES), COUNT), 0.0)
        for batch in batches[rank::world]:
            sample = dataset.collater([dataset[index] for index in batch])
            sample = utils.move_to_cuda(sample, device) if device.type == "cuda" else sample
            for name, value in self(sample, model).items():
                sums[name] += value
        if world > 1:
            sums = distributed_utils.all_reduce_dict(sums, device, distributed_utils.get_data_parallel_group())
        return {name: float(value) if rank == 0 else 0.0 for name, value in sums.items()}

    def _text(self, tokens: torch.Tensor) -> str:
        dictionary = self.task.target_dictionary
        return self.bpe.decode_line(dictionary.string(utils.strip_pad(tokens, dictionary.pad()).int().cpu()))


def worker() -> tuple[int, int]:
    """(number of this worker, number of workers)."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return distributed_utils.get_data_parallel_rank(), distributed_utils.get_data_parallel_world_size()


def batches_of(sizes: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of `sizes`, the longest first, in batches of at most `max_tokens` with padding; a longer item is a batch
    of its own."""
    batches: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -int(sizes[index])):
        if batches and (len(batches[-1]) + 1) * int(sizes[batches[-1][0]]) <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def log_rouge(logging_outputs: list[dict[str, Any]]) -> None:
    """Logs rouge1, rouge2, rougeL and rougeLsum, in percent: means over all summaries of all batches and workers."""
    if not any(COUNT in log for log in logging_outputs):
        return
    for name in (*(f"_{kind}" for kind in TYPES), COUNT):
        # log_scalar keeps a running sum, so the last batch sees the sums of the whole validation set.
        metrics.log_scalar(name, float(sum(log.get(name, 0) for log in logging_outputs)))
    for kind in TYPES:
        metrics.log_derived(kind, lambda meters, kind=kind: _percent(meters, kind))


def _percent(meters: Any, kind: str) -> float:
    count = meters[COUNT].sum
    return round(100 * meters[f"_{kind}"].sum / count, 2) if count else 0.0
