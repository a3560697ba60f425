"""Patches that a released fairseq needs under today's torch, each with its reason; applied on import of the plugin.

torch >= 2.6 unpickles only types on an allow-list. fairseq checkpoints hold a few more than tensors and containers:
they are added here; nothing that could run code is. torch < 2.6, which unpickles anything, is set to behave as later
versions do. numpy 2 has no numpy.compat, whose `long` fairseq asks for under --sample-break-mode eos and
--num-batch-buckets. Under --amp fairseq divides gradients by the loss scale twice. fairseq-preprocess waits for ever if
one of its workers is killed. fairseq's functions that are wrapped here have no hook.
"""

from __future__ import annotations

import argparse
import atexit
import codecs
import contextlib
import functools
import importlib.util
import multiprocessing
import os
import pickle
import queue
import re
import threading
import time
import zipfile
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np
import torch

from rdrop_fairseq.errors import WORKER_KILLED, UserError

TRUST = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
LAST_BATCH = 20.0  # seconds at most that the exit waits for reading threads


def allow_fairseq_checkpoints() -> None:
    """Let torch.load(weights_only=True) read what fairseq writes: Namespace, and numpy arrays and scalars (the meters
    of --eval-bleu, best scores)."""
    multiarray = getattr(np, "_core", None) or np.core  # numpy < 2 has only the second
    torch.serialization.add_safe_globals(
        [
            argparse.Namespace,
            codecs.encode,  # of the bytes of an array; torch >= 2.5 has it on its own list
            np.ndarray,
            np.dtype,
            *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
            # numpy < 2 wrote the old module names; today's numpy reads both.
            *(_alias(multiarray.multiarray._reconstruct, core) for core in ("core", "_core")),
            *(_alias(multiarray.multiarray.scalar, core) for core in ("core", "_core")),
        ]
    )


@functools.cache  # one of each, however often they are registered
def _alias(function: Callable[..., Any], core: str) -> Callable[..., Any]:
    """`function` under the name that it has in numpy.{core}.multiarray. torch >= 2.6 takes pairs of a function and a
    name; before, it reads the name from the function, and a pair makes every torch.load fail that looks one up."""

    def alias(*args: Any) -> Any:
        return function(*args)

    alias.__module__ = f"numpy.{core}.multiarray"
    alias.__name__ = alias.__qualname__ = function.__name__
    return alias


def load_checkpoint_safely(load: Callable[..., Any]) -> Callable[..., Any]:
    """fairseq's load_checkpoint_to_cpu (or torch.load) with its errors put into words, as UserError: a file that holds
    more than data (torch names the type), and a file that is not whole or no checkpoint."""

    @functools.wraps(load)
    def wrapped(path: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(path, *args, **kwargs)
        except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, OSError, IndexError) as error:
            if not os.access(path, os.R_OK):
                raise
            raise UserError(explain(path, error)) from error

    return wrapped


def is_cut_off(path: str, error: Exception) -> bool:
    """True if the end of this checkpoint is missing; torch raises half a dozen different errors for that."""
    with open(path, "rb") as file:
        if file.read(2) == b"PK":  # torch >= 1.6 writes zip archives, whose directory stands at the end
            return not zipfile.is_zipfile(path)
    return isinstance(error, EOFError) or re.search("^index out of range$|unexpected EOF", str(error)) is not None


def explain(path: str, error: Exception) -> str:
    """One sentence for what torch.load says of `path`."""
    if is_cut_off(path, error):
        size = os.path.getsize(path)
        return f"checkpoint {path} is not whole ({size} bytes): remove it and resume from the checkpoint before it"
    found = re.search(
        r"[Uu]nsupported (?:global|class):? (?:GLOBAL )?(\S+)|GLOBAL (\S+)|but got <class '(.+?)'>", str(error)
    )
    if found is None:
        # how a refused file could be loaded all the same, of which torch speaks, is no way out for this one
        reason = "" if isinstance(error, pickle.UnpicklingError) else f" ({str(error).partition(chr(10))[0]})"
        return f"{path} is not a readable checkpoint, or it is damaged{reason}: give another file"
    what = next(group for group in found.groups() if group)
    return (
        f"checkpoint {path} is refused: it holds {what}, which could run code; "
        f"if you trust whoever wrote it, set {TRUST}=1 for this command"
    )


def naming_other_sizes(load: Callable[..., Any]) -> Callable[..., Any]:
    """fairseq's load_model_ensemble_and_task, with the first weight of another size in one sentence: most often the
    data directory has another dictionary than the one trained with."""

    @functools.wraps(load)
    def wrapped(filenames: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(filenames, *args, **kwargs)
        except RuntimeError as error:
            found = re.search(r"size mismatch for (\S+): .*?(\[[\d, ]*\]).*?(\[[\d, ]*\])", str(error))
            if found is None:
                raise
            name, saved, built = found.groups()
            raise UserError(
                f"checkpoint {':'.join(filenames)} has {name} of size {saved}, this data directory makes it {built}: "
                "give the data directory whose dictionaries it was trained with"
            ) from error

    return wrapped


def bf16_without_tpu(parse: Callable[..., Any]) -> Callable[..., Any]:
    """fairseq's parse_args_and_arch without the TPU that it takes --bf16 to ask for, once the only device with bf16,
    unless torch_xla is installed."""

    @functools.wraps(parse)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        parsed = parse(*args, **kwargs)
        options = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(options, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
            options.tpu = False
        return parsed

    return wrapped


def trusting_own_ranks(broadcast: Callable[..., Any]) -> Callable[..., Any]:
    """fairseq's broadcast_object, inside of which torch.load takes any type.

    By it rank 0 sends a checkpoint, which it has loaded in weights-only mode itself, to the other ranks. They unpickle
    it by torch.load, and fairseq's placeholders and OmegaConf's types in it would be refused.
    """

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


def step_unscaled(optimizer: Any) -> None:
    """fairseq's AMPOptimizer.step, by the optimizer whose gradients its clip_grad_norm has unscaled.

    fairseq gives GradScaler torch's optimizer there and its own around it here. GradScaler takes it for another one and
    divides the gradients by the loss scale once more: SGD and NAG hardly move, and Adam's eps may outgrow its moments.
    """
    optimizer.scaler.step(optimizer.optimizer)
    optimizer.scaler.update()


def finish_readers() -> None:
    """End fairseq's reading threads (BackgroundConsumer) after the batch that each is making.

    A training that ends within an epoch (--max-update, patience, a stop signal) leaves them running. If Python shuts
    down while one is inside a torch operation, the process aborts (status 134) after everything was saved. A thread
    compares its count with its maximum after each batch, so the maximum becomes 0. Its queue is emptied, since the
    thread waits while the queue is full.
    """
    from fairseq.data import iterators

    until = time.monotonic() + LAST_BATCH
    for reader in [each for each in threading.enumerate() if isinstance(each, iterators.BackgroundConsumer)]:
        reader._max_len = 0
        while reader.is_alive() and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                reader._queue.get(timeout=0.05)


class ProcessPerTask:
    """What fairseq-preprocess needs of multiprocessing.Pool, in which it runs as many tasks as there are processes.

    If the kernel kills one of Pool's workers (for memory), Pool starts another, but not the task again, and join waits
    for ever. Here `get` raises UserError.
    """

    def __init__(self, processes: int) -> None:
        """processes: as many as there will be tasks."""

    def apply_async(self, function: Callable[..., Any], args: Any = (), kwds: Any = None) -> Any:
        """Starts the call; the result's `get` waits for its value."""
        receiver, sender = multiprocessing.Pipe(duplex=False)
        # a daemon ends with this process
        process = multiprocessing.Process(target=_answer, args=(sender, function, args, kwds or {}), daemon=True)
        process.start()
        sender.close()  # the worker's is the only one: if the worker dies, recv ends

        def get() -> Any:
            try:
                value, error = receiver.recv()
            except EOFError:
                process.join()
                if (process.exitcode or 0) < 0:
                    raise UserError(WORKER_KILLED) from None
                raise
            if error is not None:
                raise error
            return value

        return SimpleNamespace(get=get)

    def close(self) -> None:
        """As Pool's: no more tasks."""

    def join(self) -> None:
        """`get` waits."""


def _answer(sender: Any, function: Callable[..., Any], args: Any, kwds: Any) -> None:
    try:
        sender.send((function(*args, **kwds), None))
    except Exception as error:
        sender.send((None, error))


def apply() -> None:
    """Register the types, wrap fairseq's functions; needs fairseq. Doing it twice changes nothing."""
    from fairseq import binarizer, checkpoint_utils, options
    from fairseq.data import dictionary
    from fairseq.distributed import utils as distributed_utils
    from fairseq.optim.amp_optimizer import AMPOptimizer

    AMPOptimizer.step = step_unscaled
    binarizer.Pool = dictionary.Pool = ProcessPerTask
    allow_fairseq_checkpoints()
    atexit.unregister(finish_readers)
    atexit.register(finish_readers)
    if not hasattr(np, "compat"):
        np.compat = SimpleNamespace(long=int)  # type: ignore[attr-defined]
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6) and os.environ.get(TRUST) != "1":
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    if not hasattr(checkpoint_utils.load_checkpoint_to_cpu, "__wrapped__"):
        checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_safely(checkpoint_utils.load_checkpoint_to_cpu)
    if not hasattr(checkpoint_utils.load_model_ensemble_and_task, "__wrapped__"):
        loaded = checkpoint_utils.load_model_ensemble_and_task
        checkpoint_utils.load_model_ensemble_and_task = naming_other_sizes(loaded)
    if not hasattr(options.parse_args_and_arch, "__wrapped__"):
        options.parse_args_and_arch = bf16_without_tpu(options.parse_args_and_arch)
    if not hasattr(distributed_utils.broadcast_object, "__wrapped__"):
        distributed_utils.broadcast_object = trusting_own_ranks(distributed_utils.broadcast_object)
