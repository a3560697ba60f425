"""The record of a training in its save directory, so that a training with other settings does not resume it.

settings.json holds fairseq's options and fingerprints of the data. A later start must agree with it in everything that
decides which model comes out. Free to change: where and how it runs (devices, processes, loading), when it stops, logs,
validates and saves, and how the same effective batch is made up. The file also keeps the state of the training: seconds
(wall), device, cpu_seconds on a CPU, and `trained`, the limits that it has reached.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import options

NAME = "settings.json"
OLDER = "trial.json"  # of an ablation, before there was one record for all
LIMITS = ("max_update", "max_epoch", "stop_time_hours", "stop_min_lr", "patience", "patience_share")
# Of the options that are free, those outside of fairseq's groups for devices, logs and checkpoints.
FREE = {
    *("data", "num_workers", "data_buffer_size", "max_tokens", "batch_size", "update_freq", "checkpoint_activations"),
    *("offload_activations", *LIMITS, "max_tokens_valid"),
    *("batch_size_valid", "validate_interval", "validate_interval_updates", "validate_after_updates"),
    *("disable_validation", "max_valid_steps", "eval_bleu_print_samples", "no_seed_provided", "rdrop_impl"),
    *("skip_invalid_size_inputs_valid_test", "num_shards", "shard_id"),
}
# Members of these groups that do decide which model comes out, or which one counts as the best.
FIXED = {"seed", "best_checkpoint_metric", "maximize_best_checkpoint_metric", "quantization_config_path"}
# Each precision has an optimizer of its own in fairseq. Another one's state ends the training with a stack trace.
FIXED |= {"fp16", "bf16", "amp", "memory_efficient_fp16", "memory_efficient_bf16"}
DATA = ("dict", "train", "valid")  # prefixes of the files whose content counts
ENDS = 1 << 20  # bytes read at the beginning and at the end of a file


def settings(seen: argparse.Namespace, batch: Optional[str] = None) -> dict[str, Any]:
    """The settings that must not change, as JSON values. batch: the effective batch, None if not planned."""
    from fairseq.dataclass import configs

    groups = (configs.CommonConfig, configs.DistributedTrainingConfig, configs.CheckpointConfig)
    free = FREE | ({field.name for group in groups for field in fields(group)} - FIXED)
    chosen = {name: _plain(value) for name, value in vars(seen).items() if name not in free}
    batch = batch or f"{seen.max_tokens}, {seen.batch_size}, {seen.update_freq}"
    return {**chosen, "batch": batch, "data": content(getattr(seen, "data", None) or os.devnull)}


def limits(seen: argparse.Namespace) -> dict[str, Any]:
    """The options that end a training."""
    return {name: _plain(getattr(seen, name, None)) for name in LIMITS}


def content(data: str) -> dict[str, str]:
    """Dictionaries and binarized train and valid of `data` (folders joined by colons) by name: size and sha256.

    Only both ends of large files are read, which takes well below a second for 36M pairs. A corpus prepared differently
    differs in a size, a dictionary, or the lengths and words of its first sentences.
    """
    found = {}
    folders = [Path(folder) for folder in data.split(os.pathsep)]
    for number, folder in enumerate(folders):
        for path in sorted(folder.rglob("*")):
            if path.name.startswith(DATA) and path.is_file():
                name = path.relative_to(folder).as_posix()
                found[name if len(folders) == 1 else f"{number}:{name}"] = _digest(path)
    return found


def _digest(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(ENDS))
        file.seek(max(ENDS, size - ENDS))
        digest.update(file.read(ENDS))
    return f"{size} {digest.hexdigest()[:16]}"


def read(directory: Path) -> dict[str, Any]:
    """The record of the training in `directory`, or an empty one. Translates an ablation's older trial.json."""
    if (directory / NAME).is_file():
        known: dict[str, Any] = json.loads((directory / NAME).read_text(encoding="utf-8"))
        return known
    if not (directory / OLDER).is_file():
        return {}
    return _translated(directory / OLDER)


def _translated(path: Path) -> dict[str, Any]:
    """The older record at `path` in today's form, without the data, which had another fingerprint."""
    options.load_plugin()
    known = json.loads(path.read_text(encoding="utf-8"))
    seen = options.parse([os.devnull, *known["words"], f"--seed={known['seed']}"], str(path))
    state = {"cpu_seconds": known["cpu_seconds"], "trained": limits(seen) if known["trained"] else None}
    return {**settings(seen), **state, "data": None}


def check(directory: Path, now: Mapping[str, Any], way_out: str = "--save-dir") -> None:
    """Raise UserError listing how `now` differs from the record in `directory`; no record means no difference.

    way_out: the option that names another directory.
    """
    known = read(directory)
    # an option that another version of fairseq or of this package does not have is no difference
    shared = [name for name in sorted(known) if name in now and known[name] != now[name]]
    different = [f"{name} {known[name]}, now {now[name]}" for name in shared if name != "data"]
    if "data" in shared and known["data"]:
        old, new = known["data"], now["data"]
        changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        different.append(f"other content of {', '.join(changed)}")
    if different:
        path = next(directory / name for name in (NAME, OLDER) if (directory / name).is_file())
        raise UserError(
            f"{directory} holds a training with other settings ({'; '.join(different)}): give another {way_out}, or "
            f"remove {path} to resume it with these"
        )


def update(directory: Path, now: Mapping[str, Any], **state: Any) -> None:
    """Write the settings `now` and the training's `state` into the record."""
    known = read(directory)
    whole = {**known, **now, **state}
    if whole != known or not (directory / NAME).is_file():
        # a name of its own: the machines of one training may come here at the same time
        part = directory / f"{NAME}.{socket.gethostname()}.{os.getpid()}.tmp"
        part.write_text(json.dumps(dict(sorted(whole.items())), indent=1) + "\n", encoding="utf-8")
        os.replace(part, directory / NAME)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(value.split())  # `(0.9, 0.98)` is `(0.9,0.98)`
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
