"""Whole training steps through fairseq: task, model, criterion, optimizer, on one batch of made-up sentences.

The limit is what R-Drop cannot do without: two passes through the model, and the projection's three matrix products.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from typing import Any, Callable, Optional

import torch

from rdrop_fairseq import register
from rdrop_fairseq.benchmark.peak import in_own_process, peak_above
from rdrop_fairseq.benchmark.timing import Cell, ratio, rounds, spread
from rdrop_fairseq.views.stack import stack_views

OURS, PEER, PLAIN = "ours", "fairseq's R-Drop", "plain (no R-Drop)"
CRITERIONS = {
    OURS: ["--criterion", "label_smoothed_cross_entropy_rdrop", "--rdrop-alpha", "5"],
    PEER: ["--criterion", "label_smoothed_cross_entropy_with_rdrop", "--rdrop-alpha", "5"],
    PLAIN: ["--criterion", "label_smoothed_cross_entropy"],
}
PASSES, PRODUCTS, LIMIT = "two passes through the model", "three matrix products", "limit (their sum)"


class Trainee:
    """A model with one criterion, its optimizer and a batch: `step` is what fairseq-train does in one update."""

    def __init__(
        self,
        name: str,
        layers: int,
        width: int,
        ffn: int,
        classes: int,
        tokens: int,
        device: str,
        extra: Sequence[str] = (),
    ) -> None:
        """`extra`: options of fairseq-train that override these."""
        from fairseq import options, tasks
        from fairseq.data import Dictionary
        from fairseq.dataclass.utils import convert_namespace_to_omegaconf
        from fairseq.optim import build_optimizer

        register()
        args = [
            ".", "--task", "translation", *CRITERIONS[name], "--arch", "transformer", "--share-all-embeddings",
            "--optimizer", "adam", "--adam-betas", "(0.9,0.98)", "--lr", "5e-4", "--label-smoothing", "0.1",
            "--dropout", "0.3", "--weight-decay", "1e-4", "--cpu", "--max-tokens", str(tokens),
        ]  # fmt: skip
        for side in ("encoder", "decoder"):
            args += [f"--{side}-layers", str(layers), f"--{side}-embed-dim", str(width)]
            args += [f"--{side}-ffn-embed-dim", str(ffn), f"--{side}-attention-heads", "4"]
        parsed = options.parse_args_and_arch(options.get_training_parser(), [*args, *extra])
        cfg = convert_namespace_to_omegaconf(parsed)
        words = Dictionary()
        for i in range(classes - len(words)):
            words.add_symbol(f"w{i}")
        torch.manual_seed(1)
        task_class: Any = tasks.TASK_REGISTRY["translation"]
        self.device = device
        self.task = task_class(cfg.task, words, words)
        self.model = self.task.build_model(cfg.model).to(device)
        self.criterion = self.task.build_criterion(cfg.criterion)
        self.optimizer: Any = build_optimizer(cfg.optimizer, list(self.model.parameters()))
        self.batch = make_batch(words, tokens, device)

    def step(self) -> None:
        """Forward, backward, clip, update."""
        _, size, _ = self.task.train_step(self.batch, self.model, self.criterion, self.optimizer, update_num=1)
        self.optimizer.multiply_grads(1.0 / size)
        self.optimizer.clip_grad_norm(1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.device != "cpu":
            torch.cuda.synchronize()

    def two_passes(self) -> None:
        """Forward and backward of the stacked batch up to the features, and the update."""
        self.model.train()
        sentences = self.batch["target"].size(0)
        features, _ = self.model(**stack_views(self.batch["net_input"], sentences, 2), features_only=True)
        features.backward(torch.ones_like(features))
        self.optimizer.clip_grad_norm(1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def products(self) -> None:
        """The three matrix products of the projection, for the target tokens of two views."""
        weight = self.model.decoder.output_projection.weight
        x = weight.new_ones(2 * self.batch["ntokens"], weight.size(1))
        logits = x @ weight.t()
        _ = logits @ weight, logits.t() @ x


def make_batch(words: Any, tokens: int, device: str) -> dict[str, Any]:
    """Sentences of 8 to 40 tokens, at most `tokens` per side with padding, as a fairseq batch."""
    from fairseq.data.language_pair_dataset import collate

    draw = random.Random(0)
    longest, pairs = 40, []
    for i in range(tokens // (longest + 1)):
        source, target = (
            torch.tensor([draw.randrange(words.nspecial, len(words)) for _ in range(length)] + [words.eos()])
            for length in (draw.randint(24, longest), draw.randint(24, longest))
        )
        pairs.append({"id": i, "source": source, "target": target})
    batch: dict[str, Any] = collate(pairs, pad_idx=words.pad(), eos_idx=words.eos(), left_pad_source=True)
    return _to(batch, device)


def _to(value: Any, device: str) -> Any:
    if torch.is_tensor(value):
        return value.to(device)
    return {key: _to(item, device) for key, item in value.items()} if isinstance(value, dict) else value


def measure(shape: dict[str, int], threads: int, turns: int, device: str) -> list[dict[str, Cell]]:
    """One row per contestant: words per second, time and peak memory beside plain training and fairseq's R-Drop."""
    torch.set_num_threads(threads)
    trainees = {name: Trainee(name, **shape, device=device, extra=()) for name in CRITERIONS}
    work: dict[str, Callable[[], object]] = {name: trainee.step for name, trainee in trainees.items()}
    work[PASSES], work[PRODUCTS] = trainees[OURS].two_passes, trainees[OURS].products
    seconds = rounds(work, turns, "training steps")
    seconds[LIMIT] = [a + b for a, b in zip(seconds[PASSES], seconds[PRODUCTS])]
    how = [json.dumps(shape), str(threads), device]
    memory = {
        name: in_own_process("rdrop_fairseq.benchmark.training_steps", [name, *how])["peak_mb"]
        for name in (*CRITERIONS, PASSES)
    }
    words = trainees[OURS].batch["ntokens"]
    return [
        {
            "training step": name,
            "words/s": words / sorted(times)[len(times) // 2] if name in CRITERIONS else None,
            "seconds": sorted(times)[len(times) // 2],
            "of plain": ratio(times, seconds[PLAIN]),
            "faster than fairseq's": ratio(seconds[PEER], times) if name in CRITERIONS else None,
            "of the limit": ratio(times, seconds[LIMIT]),
            "peak MB": memory.get(name),
            "memory of plain": memory[name] / memory[PLAIN] if name in memory else None,
            "noise": spread(times),
        }
        for name, times in seconds.items()
    ]


def main(argv: Optional[list[str]] = None) -> None:
    """`python -m rdrop_fairseq.benchmark.training_steps NAME SHAPE THREADS DEVICE`: peak memory of three steps."""
    parser = argparse.ArgumentParser()
    for name in ("name", "shape", "threads", "device"):
        parser.add_argument(name)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    torch.set_num_threads(int(args.threads))
    trainee = Trainee(OURS if args.name == PASSES else args.name, **json.loads(args.shape), device=args.device)
    step = trainee.two_passes if args.name == PASSES else trainee.step

    def three() -> None:
        for _ in range(3):
            step()

    peak, _ = peak_above(three, args.device)
    print(json.dumps({"peak_mb": peak}))


if __name__ == "__main__":
    main()
