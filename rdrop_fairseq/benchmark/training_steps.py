"""Whole training steps by fairseq's Trainer, as fairseq-train does them, on one batch of made-up sentences.

The limit is what R-Drop cannot do without: two passes through the model, and the projection's three matrix products.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import torch
from torch import Tensor

from rdrop_fairseq.benchmark import command
from rdrop_fairseq.benchmark.peak import peak_bytes
from rdrop_fairseq.benchmark.table import Row
from rdrop_fairseq.benchmark.timing import Work, compare

OURS, PEER, PLAIN, OURS_PLAIN = "ours", "fairseq's R-Drop", "plain (no R-Drop)", "ours, alpha 0"
PASSES, PRODUCTS, LIMIT = "two passes through the model", "three matrix products", "limit (their sum)"
TWICE = "two plain passes"
OUR_CRITERION = ["--criterion", "label_smoothed_cross_entropy_rdrop"]
SYSTEMS = {
    OURS: [*OUR_CRITERION, "--rdrop-alpha", "5"],
    PEER: ["--criterion", "label_smoothed_cross_entropy_with_rdrop", "--rdrop-alpha", "5"],
    PLAIN: ["--criterion", "label_smoothed_cross_entropy"],
    OURS_PLAIN: [*OUR_CRITERION, "--rdrop-alpha", "0"],  # the same training, through our loss
}
SIZES = {
    "layers": (3, "layers of encoder and of decoder"),
    "width": (256, "embedding width"),
    "ffn": (512, "feed-forward width"),
    "classes": (8000, "vocabulary"),
    "tokens": (4096, "tokens of a batch, with padding, before stacking"),
}
SENTENCE = (24, 40)  # tokens, the least and the most


class Rig:
    """A model and its Trainer, built as fairseq-train builds them; criterions take turns on it.

    words: options of fairseq-train, the architecture among them; classes: of a joined dictionary of made-up words.
    """

    def __init__(self, words: Sequence[str], classes: int, device: str = "cpu", dtype: str = "fp32") -> None:
        from fairseq import tasks
        from fairseq.data import Dictionary
        from fairseq.dataclass.utils import convert_namespace_to_omegaconf
        from fairseq.trainer import Trainer

        from rdrop_fairseq import register

        register()
        self.words = [
            *("--share-all-embeddings", "--dropout", "0.3", "--optimizer", "adam", "--adam-betas", "(0.9,0.98)"),
            # so small that hundreds of updates on one batch do not change what an update costs
            *("--lr", "1e-7", "--clip-norm", "1.0", "--weight-decay", "1e-4", "--distributed-world-size", "1"),
            *words,
            *(["--cpu"] if device == "cpu" else []),
            *([f"--{dtype}"] if dtype != "fp32" else []),
        ]
        cfg = convert_namespace_to_omegaconf(self.parsed(SYSTEMS[PLAIN]))
        dictionary = Dictionary()
        for i in range(classes - len(dictionary)):
            dictionary.add_symbol(f"w{i}")
        torch.manual_seed(1)
        task_class: Any = tasks.TASK_REGISTRY["translation"]
        self.task = task_class(cfg.task, dictionary, dictionary)
        self.dictionary, self.device = dictionary, device
        model = self.task.build_model(cfg.model)
        self.trainer: Any = Trainer(cfg, self.task, model, self.criterion(SYSTEMS[PLAIN]))
        self.trainer.cuda_env = None  # with it, the trainer resets the peak memory after each update
        self.trainer.save_checkpoint = lambda *_: None  # it would save one after a step that fails

    def parsed(self, words: Sequence[str]) -> Any:
        """fairseq's parsed options with these further ones."""
        from fairseq import options

        given = [".", "--task", "translation", "--label-smoothing", "0.1", *self.words, *words]
        return options.parse_args_and_arch(options.get_training_parser(), given)

    def criterion(self, words: Sequence[str]) -> Any:
        """The criterion of these options."""
        return self.task.build_criterion(self.parsed(words))

    def batch(self, tokens: int, source: tuple[int, int] = SENTENCE, target: tuple[int, int] = SENTENCE) -> Any:
        """At most `tokens` per side with padding, at least one pair; source, target: the shortest and longest."""
        from fairseq.data.language_pair_dataset import collate

        draw = torch.Generator().manual_seed(0)
        first, last, eos = self.dictionary.nspecial, len(self.dictionary), self.dictionary.eos()

        def text(least: int, most: int) -> Tensor:
            length = int(torch.randint(least, most + 1, (), generator=draw))
            return torch.cat([torch.randint(first, last, (length - 1,), generator=draw), torch.tensor([eos])])

        pairs = max(1, tokens // max(*source, *target))
        samples = [{"id": i, "source": text(*source), "target": text(*target)} for i in range(pairs)]
        return collate(samples, pad_idx=self.dictionary.pad(), eos_idx=eos, left_pad_source=True)

    def step(self, criterion: Any, *batches: Any) -> None:
        """One update on copies of these batches, since fairseq's R-Drop criterion changes its batch."""
        self.trainer._criterion, self.trainer._wrapped_criterion = criterion, None
        copies = [{**batch, "net_input": dict(batch["net_input"])} for batch in batches]
        try:
            self.trainer.train_step(copies, raise_oom=True)
        except RuntimeError:
            self.trainer.zero_grad()  # frees the gradients of a step that ran out of memory
            raise

    def two_passes(self, batch: Any) -> Any:
        """A criterion without a loss: forward and backward of the stacked batch up to the features."""
        from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion

        from rdrop_fairseq.views.stack import stack_views

        class Passes(LabelSmoothedCrossEntropyCriterion):
            def forward(self, model: Any, sample: Any, reduce: bool = True) -> tuple[Tensor, int, dict[str, Any]]:
                sentences, tokens = sample["target"].size(0), sample["ntokens"]
                features, _ = model(**stack_views(sample["net_input"], sentences, 2), features_only=True)
                loss = features.float().mean()
                log = dict.fromkeys(("loss", "nll_loss"), loss.detach())
                return loss, tokens, {**log, "ntokens": tokens, "nsentences": sentences, "sample_size": tokens}

        return Passes(self.task, sentence_avg=False, label_smoothing=0.1)

    @torch.no_grad()
    def products(self, batch: Any) -> None:
        """The three matrix products of the projection, for the target tokens of two views."""
        weight = self.trainer.get_model().decoder.output_projection.weight
        x = weight.new_ones(2 * batch["ntokens"], weight.size(1))
        logits = x @ weight.t()
        _ = logits @ weight, logits.t() @ x


def transformer(encoder: int, decoder: int, width: int, ffn: int) -> list[str]:
    """Options of a Transformer with so many layers."""
    words = ["--arch", "transformer"]
    for side, layers in (("encoder", encoder), ("decoder", decoder)):
        words += [f"--{side}-layers", str(layers), f"--{side}-embed-dim", str(width)]
        words += [f"--{side}-ffn-embed-dim", str(ffn), f"--{side}-attention-heads", "4"]
    return words


def systems(rig: Rig, named: Mapping[str, Sequence[str]], batch: Any) -> dict[str, Work]:
    """One update of each system."""
    return {name: update(rig, rig.criterion(words), batch) for name, words in named.items()}


def update(rig: Rig, criterion: Any, *batches: Any) -> Work:
    """One update of a criterion on these batches."""
    return functools.partial(rig.step, criterion, *batches)


def peak_of_training(make: Callable[[], Rig], words: Optional[Sequence[str]], tokens: int, device: str) -> float:
    """Peak MB of all tensors (model, optimizer, activations) in two updates of a system, or, without words, of
    `Rig.two_passes`."""

    def train() -> None:
        rig = make()
        batch = rig.batch(tokens)
        criterion = rig.two_passes(batch) if words is None else rig.criterion(words)
        for _ in range(2):
            rig.step(criterion, batch)

    return peak_bytes(train, device) / 1e6


def run(args: argparse.Namespace) -> None:
    """Measures and reports."""
    command.begin(args)

    def make() -> Rig:
        words = transformer(args.layers, args.layers, args.width, args.ffn)
        return Rig(words, args.classes, args.device, args.dtype)

    rig = make()
    batch = rig.batch(args.tokens)
    works = {**systems(rig, SYSTEMS, batch), PASSES: update(rig, rig.two_passes(batch), batch)}
    works[PRODUCTS] = functools.partial(rig.products, batch)
    plain = rig.criterion(SYSTEMS[PLAIN])
    works[TWICE] = update(rig, plain, batch, batch)
    beside = {"of plain": PLAIN, "of fairseq's": PEER, "of two plain": TWICE, "of the limit": LIMIT}
    rows = compare("training step", works, args.rounds, args.clock, beside, {LIMIT: (PASSES, PRODUCTS)})
    add_speed(rows, batch["ntokens"], SYSTEMS)
    del rig, works
    for row in rows:
        name = str(row["training step"])
        if name in SYSTEMS or name == PASSES:
            row["peak MB"] = peak_of_training(make, SYSTEMS.get(name), args.tokens, args.device)
    command.report(args, rows, "steps")


def add_speed(rows: list[Row], tokens: int, named: Mapping[str, object]) -> None:
    """Adds the target words per second of the systems as a column before the noise."""
    for row in rows:
        noise = row.pop("noise", None)
        time = row.get("ms", row.get("wall s", row.get("cpu s")))
        if row["training step"] in named and isinstance(time, float):
            row["words/s"] = tokens / time * (1e3 if "ms" in row else 1)
        row["noise"] = noise
