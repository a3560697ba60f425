"""A BART of two layers, its options, and a checkpoint in the layout of the published ones."""

from __future__ import annotations

import copy
import shutil
from argparse import Namespace
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from fairseq import tasks
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from tiny_fairseq import parsed

SIZES = {"layers": "1", "embed-dim": "16", "ffn-embed-dim": "32", "attention-heads": "2"}
# As in the recipe, sizes apart.
OPTIONS = {
    "task": "summarization_rdrop",
    "source-lang": "source",
    "target-lang": "target",
    "arch": "bart_base",
    **{f"{side}-{name}": value for side in ("encoder", "decoder") for name, value in SIZES.items()},
    "max-source-positions": "64",
    "max-target-positions": "64",
    "criterion": "label_smoothed_cross_entropy_rdrop",
    "rdrop-alpha": "0.7",
    "label-smoothing": "0.1",
    "dropout": "0.1",
    "attention-dropout": "0.1",
    "optimizer": "adam",
    "lr": "0.002",
    "max-tokens": "256",
    "required-batch-size-multiple": "1",
    "seed": "1",
}
FLAGS = ("--layernorm-embedding", "--share-all-embeddings", "--share-decoder-input-output-embed", "--cpu")
WORDS = [*(word for name, value in OPTIONS.items() for word in (f"--{name}", value)), *FLAGS]


def config(data: Path, *words: str) -> Any:
    """fairseq-train's configuration for these options."""
    return copy.deepcopy(_config(data, words))


@cache
def _config(data: Path, words: tuple[str, ...]) -> Any:
    return parsed([data, *WORDS, *words])  # takes most of a second


def task_and_model(data: Path, *words: str) -> tuple[Any, Any]:
    """The task and an untrained model, set up as by fairseq-train with these options."""
    cfg = config(data, *words)
    task = tasks.setup_task(cfg.task)
    return task, task.build_model(cfg.model)


def publish(model: torch.nn.Module, path: Path, mask: bool = True, legacy: bool = True, dummies: int = 0) -> Path:
    """Saves the weights as BART's are published: options in a Namespace, a row more for <mask>, torch's old format.

    dummies: rows of dictionary entries that only bart.base has, before <mask>."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for name in [name for name in state if name.endswith(("embed_tokens.weight", "output_projection.weight"))]:
        further = state[name][:1].expand(dummies + mask, -1)
        state[name] = torch.cat([state[name], further * 0 + 7])
    sizes = {**_sizes(), "max_source_positions": model.encoder.max_source_positions}
    sizes["max_target_positions"] = model.decoder.max_target_positions
    args = Namespace(arch="bart_base", task="denoising", data="/elsewhere", max_tokens=2048, **sizes)
    return write_published(state, args, path, legacy)


def write_published(state: dict[str, torch.Tensor], args: Namespace, path: Path, legacy: bool = True) -> Path:
    """A checkpoint in the format of 2019, in which BART and RoBERTa were published."""
    history = {"criterion_name": "CrossEntropyCriterion", "optimizer_name": "FairseqAdam", "num_updates": 500000}
    whole = {
        "args": args,
        "model": state,
        "optimizer_history": [{**history, "lr_scheduler_state": {"best": None}}],
        "extra_state": {"epoch": 3, "val_loss": 1.5},
        "last_optimizer_state": None,
    }
    torch.save(whole, path, _use_new_zipfile_serialization=not legacy)
    return path


def _sizes() -> dict[str, Any]:
    names = [name for name in OPTIONS if name.startswith(("encoder-", "decoder-", "max-source", "max-target"))]
    return {name.replace("-", "_"): int(OPTIONS[name]) for name in names}


def copy_vocabulary(gpt2_files: Path, folder: Path) -> None:
    """GPT-2's and BART's files (see conftest.py), and the dictionary of each side, as prepared data have it."""
    shutil.copytree(gpt2_files, folder, dirs_exist_ok=True)
    for side in ("source", "target"):
        shutil.copy(gpt2_files / "dict.txt", folder / f"dict.{side}.txt")


def write_split(data: Path, split: str, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
    """A binarized split of token ids (2 is the end of sentence), as fairseq-preprocess writes it."""
    for place, side in enumerate(("source", "target")):
        prefix = str(data / f"{split}.source-target.{side}")
        builder = MMapIndexedDatasetBuilder(prefix + ".bin")
        for pair in pairs:
            builder.add_item(torch.tensor(pair[place], dtype=torch.int32))
        builder.finalize(prefix + ".idx")
