"""`average`: one checkpoint whose weights are the mean of several, as fairseq's scripts/average_checkpoints.py.

Sums run in fp32 (fp64 for fp64 weights), one checkpoint in memory at a time beside the sums; each weight is written
back in the type that it has in the last checkpoint. Buffers of whole numbers or booleans have no mean: the last
checkpoint's stay, as do its options. The optimizer state is left out: it belongs to none of the averaged weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from rdrop_fairseq import checkpoint, files
from rdrop_fairseq.errors import UserError

if TYPE_CHECKING:
    import torch

# Options by which two models differ even if their weights have the same names and shapes.
STRUCTURE = (
    "arch",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_normalize_before",
    "decoder_normalize_before",
    "activation_fn",
    "no_scale_embedding",
)

Weights = dict[str, "torch.Tensor"]


def average(paths: Sequence[Path], output: Path) -> None:
    """Writes the mean of the checkpoints to `output`, which appears only when it is whole.

    The last path should be the newest or best: its options and whole-number buffers go into the result.
    Raises UserError, naming file and weight, if two checkpoints are not of one model or a weight is not finite.
    """
    import torch

    sums = _Sums(paths[0])
    state: dict[str, Any] = {}
    for path in tqdm(paths, desc="averaging", unit="checkpoint", disable=None):
        state.clear()  # before the next one is loaded: never two at a time
        state.update(checkpoint.load(path))
        sums.add(path, state)
    state["model"] = sums.mean(state["model"])
    state.pop("last_optimizer_state", None)
    state["averaged_from"] = [path.name for path in paths]
    with files.atomic(output) as file:
        torch.save(state, file)


class _Sums:
    """Running sums of the weights of one model."""

    def __init__(self, first: Path) -> None:
        self.first = first
        self.count = 0
        self.architecture: dict[str, Any] = {}
        self.sums: Weights = {}

    def add(self, path: Path, state: dict[str, Any]) -> None:
        model: Weights = state["model"]
        architecture = {name: checkpoint.option(state, "model", name) for name in STRUCTURE}
        if not self.count:
            self.architecture = architecture
            self.sums = {name: _wide(value) for name, value in model.items()}
        self._check_same(path, model, architecture)
        if self.count:
            for name, total in self.sums.items():
                if total.is_floating_point():
                    total += model[name]
        self.count += 1

    def mean(self, newest: Weights) -> Weights:
        """The sums become the means (in place, so that there is no second copy of the model). Weights that are tied in
        `newest` (one tensor under several names) are tied in the result if their means are equal."""
        done: dict[Any, torch.Tensor] = {}
        result = {}
        for name, last in newest.items():
            total = self.sums.pop(name)
            value = total.div_(self.count).to(last.dtype) if total.is_floating_point() else last.clone()
            twin = done.setdefault((last.data_ptr(), last.shape, last.stride()), value)
            result[name] = twin if twin.equal(value) else value
        return result

    def _check_same(self, path: Path, model: Weights, architecture: dict[str, Any]) -> None:
        for name, value in architecture.items():
            if value != self.architecture[name]:
                raise UserError(
                    f"{path} has {name} {value}, {self.first} has {self.architecture[name]}: average one model only"
                )
        if different := sorted(self.sums.keys() ^ model.keys()):
            lacking, other = (self.first, path) if different[0] in model else (path, self.first)
            raise UserError(f"{lacking} lacks the weight {different[0]}, which {other} has: they are not of one model")
        for name, total in self.sums.items():
            value = model[name]
            if value.shape != total.shape:
                raise UserError(
                    f"{path}: the weight {name} is {tuple(value.shape)}, in {self.first} it is {tuple(total.shape)}"
                )
            if value.is_floating_point() != total.is_floating_point():
                raise UserError(f"{path}: the weight {name} is {value.dtype}, unlike in {self.first}")
            if value.is_floating_point() and not value.isfinite().all():
                raise UserError(f"{path}: the weight {name} has NaN or infinite values; leave this checkpoint out")


def _wide(value: torch.Tensor) -> torch.Tensor:
    """A copy to sum into: fp32, or fp64 for fp64."""
    import torch

    wide = torch.float32 if value.is_floating_point() and value.dtype != torch.float64 else value.dtype
    return value.to(wide, copy=True)


def add_choice(parser: argparse._ActionsContainer, prefix: str) -> None:
    """The options that choose checkpoints in a directory: --{prefix}last, --{prefix}best, --updates, --metric."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(f"--{prefix}last", dest="last", type=int, metavar="N", help="the N newest epoch checkpoints")
    group.add_argument(
        f"--{prefix}best", dest="best", type=int, metavar="K",
        help="the K best checkpoints (checkpoint.best_METRIC_x.pt, which --keep-best-checkpoints writes)",
    )  # fmt: skip
    parser.add_argument("--updates", action="store_true", help="the newest by updates (--save-interval-updates)")
    parser.add_argument("--metric", help="the metric of the best checkpoints, where the directory has several")


def choose(args: argparse.Namespace) -> list[Path]:
    """The checkpoint files that `args.checkpoints` and the options of add_choice mean, the newest or best one last."""
    given = args.checkpoints
    if args.last is None and args.best is None:
        directory = next((path for path in given if path.is_dir()), None)
        if directory:
            raise UserError(f"{directory} is a directory: say which of its checkpoints, the last or the best ones")
        return given
    if len(given) != 1:
        raise UserError("the last or best checkpoints are taken from one directory: give just that")
    if args.last is not None:
        return checkpoint.last(given[0], args.last, args.updates)
    return checkpoint.best(given[0], args.best, args.metric)


def main(argv: list[str], prog: str) -> None:
    """The command line of `average`."""
    parser = argparse.ArgumentParser(prog=prog, description="Average the weights of checkpoints of one model.")
    parser.add_argument(
        "checkpoints", nargs="+", type=Path, metavar="CHECKPOINT",
        help="checkpoint files, the newest last (its options are kept); or one directory with --last or --best",
    )  # fmt: skip
    add_choice(parser, "")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the averaged checkpoint")
    args = parser.parse_args(argv)
    paths = choose(args)
    average(paths, args.output)
    print(f"{args.output}: average of {len(paths)}: {', '.join(path.name for path in paths)}", file=sys.stderr)
