"""Finds the last n or best k checkpoints of a training run by the names that fairseq gives them, and loads them."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rdrop_fairseq.errors import UserError

_EPOCH = re.compile(r"checkpoint(\d+)\.pt")
_UPDATE = re.compile(r"checkpoint_\d+_(\d+)\.pt")
# --keep-best-checkpoints writes the score with three decimals and a digit that breaks ties.
_BEST = re.compile(r"checkpoint\.best_(.+)_(-?\d+(?:\.\d+)?)\.pt")


def last(directory: Path, count: int, updates: bool = False) -> list[Path]:
    """The `count` newest epoch (checkpoint7.pt) or update checkpoints (checkpoint_3_1500.pt), oldest first.

    Raises UserError if there are fewer.
    """
    pattern = _UPDATE if updates else _EPOCH
    found = sorted((int(match[1]), path) for path, match in _matching(directory, pattern))
    kind, other = ("update", "") if updates else ("epoch", "; --updates takes update checkpoints")
    _enough(directory, len(found), count, kind, other)
    return [path for _, path in found[-count:]]


def best(directory: Path, count: int, metric: str | None = None) -> list[Path]:
    """The `count` best of checkpoint.best_METRIC_SCORE.pt, worst of them first, so that the best one is last.

    metric: which, where the directory has several. Whether more is better is read from the first of the files, which
    holds --maximize-best-checkpoint-metric. Raises UserError if there are fewer than `count`.
    """
    found = [(match[1], float(match[2]), path) for path, match in _matching(directory, _BEST)]
    metrics = sorted({name for name, _, _ in found})
    if metric is None and len(metrics) > 1:
        raise UserError(f"{directory} has best checkpoints by {', '.join(metrics)}: choose one with --metric")
    chosen = sorted((score, path) for name, score, path in found if metric in (None, name))
    by = f"best ({metric})" if metric else "best"
    _enough(directory, len(chosen), count, by, "; train with --keep-best-checkpoints")
    worst_first = chosen if _more_is_better(chosen[0][1]) else chosen[::-1]
    return [path for _, path in worst_first[-count:]]


def option(state: Mapping[str, Any], group: str, name: str) -> Any:
    """An option of the run that wrote a checkpoint, from `cfg` (fairseq 0.10 and later) or `args`; None if unknown."""
    cfg = state.get("cfg")
    if cfg is not None:
        return _get(_get(cfg, group), name)
    return _get(state.get("args"), name)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint on the CPU, weights only, its tensors mapped from the file where the format allows it: what is not
    touched (the optimizer state) never enters memory. Raises UserError for what is not a fairseq checkpoint, or holds
    more than data and was not declared trusted (see compat.TRUST)."""
    import torch

    from rdrop_fairseq.compat import TRUST, allow_fairseq_checkpoints, load_checkpoint_safely

    allow_fairseq_checkpoints()
    if not path.is_file() or not os.access(path, os.R_OK):
        raise UserError(f"{path} is not there or cannot be read: give the checkpoint file that fairseq-train wrote")
    safe, mmap = os.environ.get(TRUST) != "1", zipfile.is_zipfile(path)
    state = load_checkpoint_safely(torch.load)(str(path), map_location="cpu", weights_only=safe, mmap=mmap)
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise UserError(f"{path} has no 'model' in it: it is not a checkpoint of fairseq-train")
    if not all(isinstance(value, torch.Tensor) for value in state["model"].values()):
        raise UserError(f"{path} has more than tensors in 'model': it is not a checkpoint of fairseq-train")
    return state


def _get(group: Any, name: str) -> Any:
    return group.get(name) if isinstance(group, Mapping) else getattr(group, name, None)


def _more_is_better(path: Path) -> bool:
    maximize = option(load(path), "checkpoint", "maximize_best_checkpoint_metric")
    if maximize is None:
        raise UserError(f"{path} does not say whether more is better: name the checkpoint files instead of --best")
    return bool(maximize)


def _matching(directory: Path, pattern: re.Pattern[str]) -> list[tuple[Path, re.Match[str]]]:
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory: give the --save-dir of the training run")
    matches = ((path, pattern.fullmatch(path.name)) for path in sorted(directory.iterdir()))
    return [(path, match) for path, match in matches if match]


def _enough(directory: Path, found: int, wanted: int, kind: str, hint: str) -> None:
    if wanted < 1:
        raise UserError(f"{wanted} checkpoints cannot be averaged: ask for 1 or more")
    if found < wanted:
        raise UserError(f"{directory} has {found} {kind} checkpoints, {wanted} were asked for{hint}")
