"""What a training in a save directory was started with, so that another one does not resume it in silence.

settings.json there holds fairseq's options. A later start is compared with it in what decides which model comes out.
Free to change: where and how it runs (devices, processes, precision, loading), when it stops, logs, validates and
saves, and how the same effective batch is made up.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq.errors import UserError

NAME = "settings.json"
# Of the options that are free, those outside of fairseq's groups for devices, logs and checkpoints.
FREE = {
    *("data", "num_workers", "data_buffer_size", "max_tokens", "batch_size", "update_freq", "checkpoint_activations"),
    *("offload_activations", "max_update", "max_epoch", "stop_time_hours", "stop_min_lr", "max_tokens_valid"),
    *("batch_size_valid", "validate_interval", "validate_interval_updates", "validate_after_updates"),
    *("disable_validation", "max_valid_steps", "eval_bleu_print_samples", "no_seed_provided", "rdrop_impl"),
    *("skip_invalid_size_inputs_valid_test", "num_shards", "shard_id"),
}
# In fairseq's groups, and yet they decide which model comes out, or which one is called the best.
FIXED = {"seed", "best_checkpoint_metric", "maximize_best_checkpoint_metric", "quantization_config_path"}


def settings(seen: argparse.Namespace, batch: Optional[str]) -> dict[str, Any]:
    """The options that must not change, as JSON keeps them. batch: the effective batch, None if not planned."""
    from fairseq.dataclass import configs

    groups = (configs.CommonConfig, configs.DistributedTrainingConfig, configs.CheckpointConfig)
    free = FREE | ({field.name for group in groups for field in fields(group)} - FIXED)
    chosen = {name: _plain(value) for name, value in vars(seen).items() if name not in free}
    return {**chosen, "batch": batch or f"{seen.max_tokens}, {seen.batch_size}, {seen.update_freq}"}


def check(save_dir: Path, now: Mapping[str, Any]) -> None:
    """Raise UserError naming what differs from the training in `save_dir`; a directory without a record is accepted."""
    path = save_dir / NAME
    if not path.is_file():
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    # an option that another version of fairseq or of this package does not have is no difference
    different = [f"{name} {known[name]}, now {now[name]}" for name in sorted(known) if now.get(name) != known[name]
                 and name in now]  # fmt: skip
    if different:
        raise UserError(
            f"{save_dir} holds a training with other settings ({'; '.join(different)}): give another --save-dir, or "
            f"remove {path} to resume it with these"
        )


def write(save_dir: Path, now: Mapping[str, Any]) -> None:
    """Write the record, unless it is there."""
    if not (save_dir / NAME).is_file():
        # a name of its own: the machines of one training may come here at the same time
        part = save_dir / f"{NAME}.{socket.gethostname()}.{os.getpid()}.tmp"
        part.write_text(json.dumps(dict(sorted(now.items())), indent=1) + "\n", encoding="utf-8")
        os.replace(part, save_dir / NAME)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(value.split())  # `(0.9, 0.98)` is `(0.9,0.98)`
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
