"""What a released fairseq needs to work with today's torch, each with its reason; applied when the plugin is imported.

1. torch >= 2.6 unpickles only types on an allow-list. fairseq checkpoints hold a few more than tensors and plain
   containers: they are added here. Nothing that could run code is; see `load_checkpoint_safely` for what is refused.
2. torch < 2.6 unpickles anything by default. It is asked to do as its successors do.
3. fairseq passes torch's unpickling errors on as they are. Its one loading function is wrapped to say in a sentence
   which file is refused or broken and what can be done; there is no hook for that.
4. fairseq-train takes --bf16 for a request to train on a TPU, from the days when nothing else had it, and fails without
   torch_xla. Its one parsing function is wrapped to leave the TPU out where there is none.
5. With several processes rank 0 loads a checkpoint and sends it to the others, which unpickle it with torch.load:
   refused for the reason of 1, as it holds fairseq's placeholders and OmegaConf's types, so that no such training could
   go on from a checkpoint. What rank 0 sends has been through its own weights-only loading, so that one function is
   let through.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import pickle
import re
import zipfile
from typing import Any, Callable

import numpy as np
import torch

from rdrop_fairseq.errors import UserError

TRUST = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def allow_fairseq_checkpoints() -> None:
    """Let torch.load(weights_only=True) read what fairseq writes: Namespace, and numpy arrays and scalars (the meters
    of --eval-bleu, best scores)."""
    multiarray = getattr(np, "_core", None) or np.core  # numpy < 2 has only the second
    torch.serialization.add_safe_globals(
        [
            argparse.Namespace,
            np.ndarray,
            np.dtype,
            *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
            # numpy < 2 wrote the old module names; today's numpy reads both.
            *_named(multiarray.multiarray._reconstruct, "_reconstruct"),
            *_named(multiarray.multiarray.scalar, "scalar"),
        ]
    )


def _named(function: Callable[..., Any], name: str) -> list[Any]:
    return [(function, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core")]


def load_checkpoint_safely(load: Callable[..., Any]) -> Callable[..., Any]:
    """fairseq's load_checkpoint_to_cpu with two errors put into words, as UserError: a file that holds more than data
    (torch names the type), and a file that is not whole or no checkpoint."""

    @functools.wraps(load)
    def wrapped(path: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(path, *args, **kwargs)
        except (pickle.UnpicklingError, EOFError, RuntimeError, OSError, IndexError) as error:
            if os.path.isfile(path) and is_cut_off(path, error):
                raise UserError(
                    f"checkpoint {path} is not whole ({os.path.getsize(path)} bytes): "
                    "remove it and go on from the checkpoint before it"
                ) from error
            if isinstance(error, pickle.UnpicklingError):
                raise UserError(explain_refusal(path, error)) from error
            raise

    return wrapped


def is_cut_off(path: str, error: Exception) -> bool:
    """True if the end of this checkpoint is missing; torch has half a dozen errors for that, by where it ends."""
    with open(path, "rb") as file:
        if file.read(2) == b"PK":  # torch >= 1.6 writes zip archives, whose directory stands at the end
            return not zipfile.is_zipfile(path)
    return isinstance(error, EOFError) or re.search("^index out of range$|unexpected EOF", str(error)) is not None


def explain_refusal(path: str, error: Exception) -> str:
    """One sentence for torch's refusal to unpickle `path`."""
    found = re.search(
        r"[Uu]nsupported (?:global|class):? (?:GLOBAL )?(\S+)|GLOBAL (\S+)|but got <class '(.+?)'>", str(error)
    )
    if found is None:
        return f"{path} is no checkpoint that can be read, or it is damaged: give another file"
    what = next(group for group in found.groups() if group)
    return (
        f"checkpoint {path} is refused: it holds {what}, which could run code; "
        f"if you trust whoever wrote it, set {TRUST}=1 for this command"
    )


def bf16_without_tpu(parse: Callable[..., Any]) -> Callable[..., Any]:
    """fairseq's parse_args_and_arch, for which --bf16 no longer implies --tpu unless torch_xla is installed."""

    @functools.wraps(parse)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        parsed = parse(*args, **kwargs)
        options = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(options, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
            options.tpu = False
        return parsed

    return wrapped


def trusting_own_ranks(broadcast: Callable[..., Any]) -> Callable[..., Any]:
    """fairseq's broadcast_object, inside of which torch.load takes any type."""

    @functools.wraps(broadcast)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        names = (TRUST, "TORCH_FORCE_WEIGHTS_ONLY_LOAD")
        before = {name: os.environ.pop(name, None) for name in names}
        os.environ[TRUST] = "1"
        try:
            return broadcast(*args, **kwargs)
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    return wrapped


def apply() -> None:
    """Register the types, wrap fairseq's functions; needs fairseq. Doing it twice changes nothing."""
    from fairseq import checkpoint_utils, options
    from fairseq.distributed import utils as distributed_utils

    allow_fairseq_checkpoints()
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6) and os.environ.get(TRUST) != "1":
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    if not hasattr(checkpoint_utils.load_checkpoint_to_cpu, "__wrapped__"):
        checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_safely(checkpoint_utils.load_checkpoint_to_cpu)
    if not hasattr(options.parse_args_and_arch, "__wrapped__"):
        options.parse_args_and_arch = bf16_without_tpu(options.parse_args_and_arch)
    if not hasattr(distributed_utils.broadcast_object, "__wrapped__"):
        distributed_utils.broadcast_object = trusting_own_ranks(distributed_utils.broadcast_object)
