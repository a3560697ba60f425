"""A training by fairseq-train in this process, and its best checkpoint on a split, for the two experiments on text."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import fairseq_cli.train
import torch
from fairseq import checkpoint_utils, options, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

import rdrop_fairseq
from rdrop_fairseq import files
from rdrop_fairseq.experiments.trials import CURVE, LOG, Settings

LINE = re.compile(r"\b(train_inner|valid)\b\W*?(\{.*\})\s*$")
# One rule ends every training: three validations in a row without a better one, and the best one at least a third of
# the updates ago.
COMMON = (
    *("--optimizer", "adam", "--adam-betas", "(0.9,0.98)", "--lr-scheduler", "inverse_sqrt", "--clip-norm", "1"),
    *("--required-batch-size-multiple", "1", "--patience", "3", "--patience-share", "0.33", "--num-workers", "0"),
    *("--validate-interval", "100000", "--save-interval", "100000", "--no-epoch-checkpoints", "--no-last-checkpoints"),
    *("--keep-interval-updates", "1", "--log-format", "json", "--no-progress-bar", "--cpu"),
    *("--distributed-world-size", "1"),  # by default the number of GPUs, even with --cpu
)


def train(
    data: Path, words: Sequence[str], dropouts: Sequence[str], every: int, better: str,
    system: str, settings: Settings, seed: int, folder: Path,
) -> Mapping[str, float]:  # fmt: skip
    """Trains to the end and measures the checkpoint that was best in validation (`better`: loss or accuracy).

    dropouts: the options that have the rate of the settings. The last four are those of `Experiment.train`.
    """
    rdrop_fairseq.register()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, force=True)  # replaces earlier handlers
    logging.getLogger("fairseq").setLevel(logging.INFO)  # the curve is read from its log
    given = [str(data), *COMMON, *words, "--seed", str(seed), "--save-dir", str(folder)]
    given += ["--rdrop-alpha", settings.get("alpha", "0")]  # 0: plain training
    for option in dropouts:
        given += [f"--{option}", settings["dropout"]]
    for option in ("--log-interval", "--validate-interval-updates", "--save-interval-updates"):
        given += [option, str(every)]
    given += ["--best-checkpoint-metric", better]
    given += ["--maximize-best-checkpoint-metric"] if better == "accuracy" else []
    for function in (checkpoint_utils.save_checkpoint, fairseq_cli.train.should_stop_early):
        for name in ("best", "num_runs"):  # fairseq keeps them from one training of a process to the next
            vars(function).pop(name, None)
    parser = options.get_training_parser()
    fairseq_cli.train.main(convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, input_args=given)))
    updates = curve(folder)
    found = {f"{split}_{name}": value for split in ("valid", "test") for name, value in measure(folder, split).items()}
    for path in folder.glob("*.pt"):
        files.remove(path)
    return {**found, "updates": float(updates)}


def measure(folder: Path, split: str) -> dict[str, float]:
    """nll in nats per token or sentence, accuracy where there are classes; in eval mode, so by fairseq's loss."""
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(folder / "checkpoint_best.pt")])
    criterion = task.build_criterion(cfg.criterion)
    model = models[0].eval()
    criterion.eval()
    task.load_dataset(split)
    longest = utils.resolve_max_positions(task.max_positions(), model.max_positions())
    batches = task.get_batch_iterator(task.dataset(split), max_tokens=8000, max_positions=longest)
    nll = size = right = 0.0
    with torch.no_grad():
        for sample in batches.next_epoch_itr(shuffle=False):
            loss, count, log = criterion(model, sample)
            nll, size = nll + float(log.get("nll_loss", loss)), size + float(count)
            right += float(log.get("ncorrect", 0))
    return {"nll": nll / size, **({"accuracy": right / size} if "ncorrect" in log else {})}


def curve(folder: Path) -> int:
    """Writes the losses of train and valid in nats from the log; returns the number of updates."""
    rows: dict[int, dict[str, float]] = {}
    for line in (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines():
        if found := LINE.search(line):
            prefix = "" if found[1] == "train_inner" else "valid_"
            values = json.loads(found[2])
            loss = float(values.get(f"{prefix}nll_loss", values[f"{prefix}loss"])) * math.log(2)
            name = "train_nll" if found[1] == "train_inner" else "valid_nll"
            rows.setdefault(int(values[f"{prefix}num_updates"]), {})[name] = loss
    with files.atomic(folder / CURVE, "w") as file:
        file.write("update,train_nll,valid_nll\n")
        for update, row in sorted(rows.items()):
            if len(row) == 2:
                file.write(f"{update},{row['train_nll']:.4f},{row['valid_nll']:.4f}\n")
    return max(rows)
