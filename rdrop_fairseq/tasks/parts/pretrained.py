"""Checks before training starts that a pretrained checkpoint fits the dictionary and the architecture."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rdrop_fairseq import checkpoint
from rdrop_fairseq.errors import UserError

DEFAULT_RESTORE_FILE = "checkpoint_last.pt"
EMBEDDING = "encoder.embed_tokens.weight"
POSITIONS = ("encoder.embed_positions.weight", "decoder.embed_positions.weight")
LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.")
# Entries that fill a dictionary up to a round number: fairseq-preprocess --padding-factor names them.
DUMMY = re.compile(r"madeupword\d+")
BY_ENTRY = ("embed_tokens.weight", "output_projection.weight")

logger = logging.getLogger(__name__)


def start(cfg: Any) -> Path | None:
    """The checkpoint of another training from which these options start, if any."""
    if cfg.restore_file != DEFAULT_RESTORE_FILE:
        return Path(cfg.restore_file)
    if cfg.finetune_from_model and not (Path(cfg.save_dir) / DEFAULT_RESTORE_FILE).exists():
        return Path(cfg.finetune_from_model)
    return None


def weights(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint by name. Raises UserError for a missing or unreadable file."""
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path} to start from: fetch and unpack it, or leave the option out")
    return dict(checkpoint.load(path)["model"])


def check(path: Path, model: nn.Module, dictionary: Any) -> None:
    """Compares the sizes of the checkpoint with the model's. Raises UserError with the two numbers that differ, and for
    a missing file. (fairseq would train from random weights without the file, and fail with a stack trace if sizes
    differ.)

    BART's published checkpoints have more rows of embeddings than the dictionary of a fine-tuning task has entries: the
    last one is <mask>, which fairseq's BART drops when it loads, and bart.base has 936 dummy entries that fill up its
    dict.txt, which are dropped here (see `dummy_rows`).
    """
    state = weights(path)
    check_dictionary(path, state, dictionary)
    rows = dummy_rows(path, len(state[EMBEDDING]), dictionary)
    if rows:
        logger.info("%s: %d rows of dummy dictionary entries (and <mask>) are dropped", path, rows)
        drop_rows_on_load(model, len(state[EMBEDDING]), len(dictionary))
    own = model.state_dict()
    width = state[EMBEDDING].shape[1]
    _same(path, "embedding width", width, own[EMBEDDING].shape[1], "choose the --arch that it was trained with")
    for side, layers in _layers(own).items():
        hint = "choose the --arch that it was trained with"
        _same(path, f"number of {side} layers", _layers(state).get(side, 0), layers, hint)
    for name in POSITIONS:
        if name in state and name in own:
            hint = "set --max-source-positions and --max-target-positions to what it was trained with"
            _same(path, f"size of {name}", len(state[name]), len(own[name]), hint)


def check_sentence_model(path: Path, model: Any, head: str) -> None:
    """Compares a checkpoint, its old keys renamed by the model, with a model that has classification heads.

    Raises UserError with the first difference, also for a head of the same name and another size, which fairseq would
    replace by a new one with a warning.
    """
    state = weights(path)
    own = model.state_dict()
    key = f"classification_heads.{head}.out_proj.weight"
    if key in state and len(state[key]) != len(own[key]):
        raise UserError(
            f"{path} has a head {head} for {len(state[key])} classes, the model has one for {len(own[key])}: "
            "give the new head another name with --classification-head-name"
        )
    model.upgrade_state_dict(state)
    for key, value in own.items():
        if key not in state:
            raise UserError(f"{path} has no {key}: choose the --arch that it was trained with")
        if state[key].shape != value.shape:
            raise UserError(
                f"{path}: {key} has the size {list(state[key].shape)}, that of the model {list(value.shape)}: "
                "choose the --arch that it was trained with, and the dict.txt that belongs to it"
            )


def check_dictionary(path: Path, state: Mapping[str, Tensor], dictionary: Any) -> None:
    """Raises UserError unless the checkpoint's embeddings are those of the dictionary's entries (see `check`)."""
    if EMBEDDING not in state:
        raise UserError(f"{path} has no {EMBEDDING}: it is not an encoder-decoder checkpoint")
    rows = len(state[EMBEDDING])
    own = rows == len(dictionary) or (rows == len(dictionary) + 1 and "<mask>" not in dictionary)
    if not own and not dummy_rows(path, rows, dictionary):
        raise UserError(
            f"{path} has {rows} embeddings and the dictionary of the data has {len(dictionary)} entries "
            f"({rows - 1}, or {rows} with <mask>, would fit): binarize the data with the dict.txt that belongs to it; "
            "if the difference is entries such as madeupword0003, put the dict.txt that came with it into its folder"
        )


def dummy_rows(path: Path, rows: int, dictionary: Any) -> int:
    """How many of the checkpoint's `rows` embeddings, at their end, belong to dummy entries and <mask>.

    The dict.txt beside the checkpoint names the rows. The result is 0 unless it begins with all entries of
    `dictionary`, has only dummies after them, and names every row; and 0 if <mask> is the only further row.
    """
    beside = path.parent / "dict.txt"
    extra = rows - len(dictionary)
    if extra < 2 or "<mask>" in dictionary or not beside.is_file():
        return 0
    whole = type(dictionary).load(str(beside)).symbols
    known = len(dictionary)
    fits = len(whole) in (rows, rows - 1) and whole[:known] == dictionary.symbols
    return extra if fits and all(DUMMY.fullmatch(symbol) for symbol in whole[known:]) else 0


def drop_rows_on_load(model: nn.Module, rows: int, kept: int) -> None:
    """Makes `model.load_state_dict` keep the first `kept` rows of matrices with `rows` rows, one per entry."""
    model._register_load_state_dict_pre_hook(partial(_cut, rows, kept))


def _cut(rows: int, kept: int, state: dict[str, Tensor], *_: Any) -> None:
    for name in [name for name in state if name.endswith(BY_ENTRY) and len(state[name]) == rows]:
        state[name] = state[name][:kept]


def _same(path: Path, what: str, found: int, expected: int, hint: str) -> None:
    if found != expected:
        raise UserError(f"{path}: its {what} is {found}, that of the model is {expected}: {hint}")


def _layers(state: Mapping[str, Tensor]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in state:
        match = LAYER.match(name)
        if match:
            counts[match[1]] = max(counts.get(match[1], 0), int(match[2]) + 1)
    return counts
