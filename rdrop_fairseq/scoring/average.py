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

# What makes two models different although their weights have the same names and shapes.
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
    UserError names the file and the weight where two checkpoints are not of one model, or a weight is not finite.
    """
    import torch

    if not paths:
        raise UserError("no checkpoint was given: name the files, or a directory with --last or --best")
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
    """Running sums of the weights of one model. Tied weights (one tensor under several names) are summed once, and are
    tied in the result if they are in every checkpoint."""

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
            self._check_finite(path, model)
            self.sums = _untangled(model)
        else:
            self._check_same(path, model, architecture)
            self._check_finite(path, model)
            self._split_where_untied(model)
            added = set()
            for name, total in self.sums.items():
                if total.is_floating_point() and id(total) not in added:
                    added.add(id(total))
                    total += model[name]
        self.count += 1

    def mean(self, newest: Weights) -> Weights:
        """The sums become the means (in place, so that there is no second copy of the model)."""
        done: dict[int, torch.Tensor] = {}
        result = {}
        for name, total in self.sums.items():
            if not total.is_floating_point():
                result[name] = newest[name].clone()
                continue
            if id(total) not in done:
                done[id(total)] = total.div_(self.count).to(newest[name].dtype)
            result[name] = done[id(total)]
        return result

    def _check_same(self, path: Path, model: Weights, architecture: dict[str, Any]) -> None:
        for name, value in architecture.items():
            if value != self.architecture[name]:
                raise UserError(
                    f"{path} has {name} {value}, {self.first} has {self.architecture[name]}: average one model only"
                )
        missing = next((name for name in self.sums if name not in model), None)
        if missing:
            raise UserError(f"{path} lacks the weight {missing}, which {self.first} has: they are not of one model")
        extra = next((name for name in model if name not in self.sums), None)
        if extra:
            raise UserError(f"{path} has the weight {extra}, which {self.first} lacks: they are not of one model")
        for name, total in self.sums.items():
            shape, expected = tuple(model[name].shape), tuple(total.shape)
            if shape != expected:
                raise UserError(f"{path}: the weight {name} is {shape}, in {self.first} it is {expected}")
            if model[name].is_floating_point() != total.is_floating_point():
                raise UserError(f"{path}: the weight {name} is {model[name].dtype}, unlike in {self.first}")

    def _check_finite(self, path: Path, model: Weights) -> None:
        for name, value in model.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise UserError(f"{path}: the weight {name} has NaN or infinite values; leave this checkpoint out")

    def _split_where_untied(self, model: Weights) -> None:
        """Where names share one sum but not one tensor in `model`, each tensor gets a sum of its own."""
        owners: dict[tuple[int, Any], torch.Tensor] = {}
        taken: set[int] = set()
        for name, total in self.sums.items():
            key = (id(total), _identity(model[name]))
            if key not in owners:
                owners[key] = total.clone() if id(total) in taken else total
                taken.add(id(total))
            self.sums[name] = owners[key]


def _identity(value: torch.Tensor) -> tuple[Any, ...]:
    return value.untyped_storage().data_ptr(), value.storage_offset(), tuple(value.shape), value.stride()


def _untangled(model: Weights) -> Weights:
    """A copy to sum into: fp32 (fp64 stays), one tensor for each one of `model` however many names it has."""
    import torch

    copies: dict[Any, torch.Tensor] = {}
    for value in model.values():
        wide = value.dtype if not value.is_floating_point() or value.dtype == torch.float64 else torch.float32
        copies.setdefault(_identity(value), value.to(wide, copy=True))
    return {name: copies[_identity(value)] for name, value in model.items()}


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
