"""Tiny corpora, models and trainers of fairseq, in this process: what a test of a criterion or task needs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, options, tasks
from fairseq.data import Dictionary, indexed_dataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.trainer import Trainer

import rdrop_fairseq

PLUGIN = Path(rdrop_fairseq.__file__).parent
WORDS = [f"w{n:02}" for n in range(16)]

SMALL = [
    *("--encoder-layers", "1", "--decoder-layers", "1", "--encoder-attention-heads", "2"),
    *("--decoder-attention-heads", "2", "--encoder-embed-dim", "16", "--decoder-embed-dim", "16"),
    *("--encoder-ffn-embed-dim", "32", "--decoder-ffn-embed-dim", "32"),
]
CONVOLUTIONS = ["--encoder-layers", "[(16, 3)]", "--decoder-layers", "[(16, 3)]"]
EMBEDDINGS = ["--encoder-embed-dim", "16", "--decoder-embed-dim", "16", "--decoder-out-embed-dim", "16"]
DROPOUT = ["--dropout", "0.3"]
MODELS = {
    "transformer": ["--arch", "transformer", *SMALL, *DROPOUT],
    "transformer-tied": ["--arch", "transformer", *SMALL, *DROPOUT, "--share-all-embeddings"],
    "bart": ["--arch", "bart_base", *SMALL, *DROPOUT, "--max-source-positions", "64"],
    "lstm": ["--arch", "lstm", *EMBEDDINGS, "--encoder-hidden-size", "16", "--decoder-hidden-size", "16", *DROPOUT],
    "fconv": ["--arch", "fconv", *EMBEDDINGS, *CONVOLUTIONS, *DROPOUT],
}
RDROP = ["--criterion", "label_smoothed_cross_entropy_rdrop", "--label-smoothing", "0.1", "--rdrop-alpha", "5"]
PLAIN = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]


def word_dictionary() -> Dictionary:
    """WORDS and the specials of fairseq."""
    dictionary = Dictionary()
    for word in WORDS:
        dictionary.add_symbol(word, 100)
    dictionary.finalize(padding_factor=1)
    return dictionary


def write_lines(prefix: Path, lines: Iterable[str], dictionary: Dictionary) -> None:
    """PREFIX.bin and PREFIX.idx, as fairseq-preprocess would write them."""
    builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", len(dictionary))
    for line in lines:
        builder.add_item(dictionary.encode_line(line, add_if_not_exist=False))
    builder.finalize(f"{prefix}.idx")


def write_corpus(folder: Path, train: int = 96, copy: bool = True, shortest: int = 3, longest: int = 9) -> Path:
    """Binarized xx-yy data over a shared dictionary of 16 words: target equals source, or (not `copy`) has other words.

    What fairseq-preprocess would write, in a hundredth of its time.
    """
    dictionary, draw = word_dictionary(), random.Random(7)
    for language in ("xx", "yy"):
        dictionary.save(str(folder / f"dict.{language}.txt"))
    for split, count in (("train", train), ("valid", 8), ("test", 8)):
        texts: dict[str, list[str]] = {"xx": [], "yy": []}
        for _ in range(count):
            source = draw.choices(WORDS, k=draw.randint(shortest, longest))
            target = source if copy else draw.choices(WORDS, k=draw.randint(shortest, longest))
            texts["xx"].append(" ".join(source))
            texts["yy"].append(" ".join(target))
        for language, lines in texts.items():
            write_lines(folder / f"{split}.xx-yy.{language}", lines, dictionary)
    return folder


def common_options(words: Sequence[object]) -> list[str]:
    """Options of every tiny training, with Adam unless `words` name an optimizer."""
    return [
        *("--lr", "0.002", "--seed", "1", "--batch-size", "8", "--num-workers", "0", "--no-progress-bar"),
        *("--log-format", "simple", "--log-interval", "1", "--no-epoch-checkpoints"),
        *([] if "--optimizer" in words else ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)"]),
    ]


def parsed(words: Sequence[object]) -> Any:
    """A command line of fairseq-train, parsed."""
    parser = options.get_training_parser()
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, list(map(str, words))))


def arguments(data: Path, *words: object, model: str = "transformer", device: str = "cpu") -> list[str]:
    """A command line of fairseq-train: one model, Adam unless told otherwise, seed 1; `words` come last and win."""
    fixed = [
        *(str(data), "--source-lang", "xx", "--target-lang", "yy", "--clip-norm", "1.0", *common_options(words)),
        *(["--cpu"] if device == "cpu" else ["--distributed-world-size", "1"]),  # fairseq counts the GPUs otherwise
    ]
    return [*fixed, *MODELS[model], *map(str, words)]


def config(data: Path, *words: object, model: str = "transformer", device: str = "cpu") -> Any:
    """The same, parsed."""
    return parsed(arguments(data, *words, model=model, device=device))


@dataclass
class Session:
    """A trainer and all that it was built from."""

    cfg: Any
    task: Any
    model: Any
    criterion: Any
    trainer: Trainer

    def batch(self, *indices: int) -> dict[str, Any]:
        """A fresh batch of these training sentences."""
        dataset = self.task.dataset("train")
        return dataset.collater([dataset[i] for i in indices])

    def update(self, *batches: dict[str, Any]) -> dict[str, float]:
        """One update on these batches (more than one: update-freq); what was logged for it, unrounded."""
        with metrics.aggregate(new_root=True) as meters:
            self.trainer.train_step(list(batches))
        return {key: float(meter.avg) for key, meter in meters.items() if hasattr(meter, "avg")}

    def updates(self, count: int, size: int = 8) -> list[dict[str, float]]:
        """`count` updates over the training set in order."""
        total = len(self.task.dataset("train"))
        return [self.update(self.batch(*((n * size + i) % total for i in range(size)))) for n in range(count)]

    def loss(self, batch: dict[str, Any], seed: int = 1) -> tuple[Any, int, dict[str, Any]]:
        """What the criterion returns in the mode the model is in, from this seed."""
        torch.manual_seed(seed)
        return self.criterion(self.model, batch)

    def parameters(self) -> dict[str, torch.Tensor]:
        """A copy of the parameters, without a buffer that some of fairseq's modules never fill."""
        state = self.model.state_dict().items()
        return {name: value.detach().clone() for name, value in state if not name.endswith("_float_tensor")}


def start(cfg: Any, splits: tuple[str, ...] = ("train",)) -> Session:
    """Everything fairseq-train builds before the first update; the model is in training mode."""
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(cfg.common.seed)
    built = task.build_model(cfg.model)
    criterion = task.build_criterion(cfg.criterion)
    for split in splits:
        task.load_dataset(split)
    trainer = Trainer(cfg, task, built, criterion)
    trainer.model.train()
    trainer.criterion.train()
    return Session(cfg, task, trainer.model, trainer.criterion, trainer)


def session(data: Path, *words: object, model: str = "transformer", device: str = "cpu") -> Session:
    """Of a translation model."""
    return start(config(data, *words, model=model, device=device))


def run(cfg: Any) -> None:
    """A whole run of fairseq-train in this process."""
    from fairseq_cli import train as command

    for state in (checkpoint_utils.save_checkpoint, command.should_stop_early):
        vars(state).pop("best", None)  # kept on the functions by a run before
    metrics.reset()
    command.main(cfg)


def train(data: Path, save: Path, *words: object, model: str = "transformer") -> None:
    """Of a translation model."""
    run(config(data, "--save-dir", save, *words, model=model))
