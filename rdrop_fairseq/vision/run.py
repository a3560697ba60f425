"""`python -m rdrop_fairseq vision CONFIG`: fine-tune a Vision Transformer with R-Drop on the devices there are.

With several GPUs, or --processes N, it starts itself once per device through torchrun. Several machines:
torchrun --nnodes ... -m rdrop_fairseq vision CONFIG. The same command resumes at the last validation, and gives the
result that it would have given without interruption.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training.hardware import Hardware
from rdrop_fairseq.training.resume import only_one
from rdrop_fairseq.vision import data, models
from rdrop_fairseq.vision.options import Options, add_options, read_words
from rdrop_fairseq.vision.record import BEST, Record
from rdrop_fairseq.vision.trainer import Means, Trainer, alpha_at, lr_at
from rdrop_fairseq.vision.workers import Workers, join

Batch = tuple[Tensor, Tensor]  # pixels and labels
LINE_SECONDS = 20.0  # between lines of progress where there is no terminal


def main(argv: list[str], prog: str) -> None:
    """The command line. Does not return where it starts one process per device."""
    options, processes = parse(argv, prog)
    if "RANK" not in os.environ:
        processes = processes or torch.cuda.device_count() or 1
        if torch.cuda.device_count() and processes > torch.cuda.device_count():
            raise UserError(f"--processes {processes}: this machine shows {torch.cuda.device_count()} GPU(s)")
        if processes > 1:
            start_each(processes, argv)
    workers, device = join()
    with only_one(Path(options.save_dir) / "lock") if workers.first else contextlib.nullcontext() as lock:
        if lock is not None:
            (Path(options.save_dir) / "lock").write_text(f"{os.getpid()}\n", encoding="utf-8")
        try:
            result = train(options, workers, device)
        except UserError as error:  # one of a process that reads images comes with that process's traceback
            raise UserError(str(error).strip().splitlines()[-1].rpartition("UserError: ")[2]) from error
    if workers.world > 1:
        torch.distributed.destroy_process_group()
    if workers.first:
        last, best = (f"{100 * result[name]:.2f} %" for name in ("test_accuracy", "best_test_accuracy"))
        print(f"{options.save_dir}: test accuracy {last}; of the weights that were best in validation, {best}")


def parse(argv: list[str], prog: str) -> tuple[Options, int]:
    """Options of the config, overridden by those of the command line; and --processes (0: one per GPU)."""
    parser = argparse.ArgumentParser(
        prog=prog, usage=f"{prog} [CONFIG] [options]", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="name of a config in configs/vit, or a path")
    parser.add_argument("--processes", type=int, default=0, help="processes on this machine (default: one per GPU)")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)  # where configs/ and outputs/ are
    add_options(parser)
    given = parser.parse_args(argv)
    name, words = read_words(given.config, given.root) if given.config else ("vit", [])
    merged = vars(parser.parse_args([*words, *argv]))
    root, processes = merged.pop("root"), merged.pop("processes")
    merged.pop("config")
    if "data" not in vars(given) and "data" in merged:
        merged["data"] = str(root / merged["data"])
    name = f"{name}.seed{merged['seed']}" if "seed" in vars(given) else name
    merged.setdefault("save_dir", str(root / "outputs" / "vit" / name))
    return Options(**merged), processes


def start_each(processes: int, argv: list[str]) -> None:
    """Become torchrun with this command."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    os.execv(sys.executable, [*command, "-m", "rdrop_fairseq", "vision", *argv])


def precision(options: Options, device: torch.device) -> str:
    """fp32, fp16 or bf16 for this device."""
    if device.type == "cpu":
        return Hardware(0).precision(options.precision)
    return Hardware(1, torch.cuda.get_device_capability(device)).precision(options.precision)


def prepare(options: Options, workers: Workers) -> tuple[data.Splits, torch.nn.Module]:
    """Data and model, downloaded by the first worker alone."""
    if not workers.first:
        workers.wait()
    splits = data.load(options)
    torch.manual_seed(options.seed)
    model = models.build(options, splits.channels)
    if workers.first:
        workers.wait()
    return splits, model


def train(options: Options, workers: Workers, device: torch.device) -> dict[str, Any]:
    """Train to the end, from the last validation if there was one; returns what result.json holds."""
    began = time.monotonic()
    record = Record(Path(options.save_dir), options.key())
    state = record.restore()
    splits, model = prepare(options, workers)
    trainer = Trainer(model, options, device, precision(options, device), workers)
    order = data.Order(len(splits.train), options.batch, options.seed, workers.rank, workers.world)
    done, before = 0, 0.0
    if state is not None:
        trainer.restore(state)
        done, before = state["update"], record.history[-1]["seconds"]
    if workers.first:
        plan = f"{options.model}, {models.describe(model)}: {len(splits.train)} images, {options.batch} per update on "
        plan += f"{workers.world} x {device.type} in {precision(options, device)}, {options.updates} updates"
        print(f"{plan}{f', resuming at {done}' if done else ''}; {options.save_dir}", file=sys.stderr)
    live = sys.stderr.isatty()
    with tqdm(
        total=options.updates, initial=done, unit="update", disable=not workers.first,
        mininterval=0.5 if live else LINE_SECONDS, smoothing=0.1,
    ) as bar:  # fmt: skip
        for update, images in zip(range(done, options.updates), updates(order, splits.train, options, done)):
            trainer.update(update, images, order.size(update))
            bar.update()
            if (update + 1) % options.eval_every == 0 or update + 1 == options.updates:
                trained = trainer.means()
                valid, _ = evaluate(trainer, splits.valid, options)
                seconds = before + time.monotonic() - began
                row = as_row(update, order, options, trained, valid, seconds)
                shown = f"train nll {trained.nll:.3f}, kl {trained.kl:.3f}, valid {100 * valid.accuracy:.2f} %"
                bar.set_postfix_str(shown)
                if workers.first:
                    record.save(update + 1, trainer.state(), row)
                else:
                    record.history.append(row)
    return finish(trainer, splits, options, record)


def updates(order: data.Order, images: data.Images, options: Options, done: int) -> Iterator[Iterator[Batch]]:
    """For each update from `done` on, this worker's pieces of it; all of them read ahead by one set of processes."""

    def keys() -> Iterator[Any]:
        for update in range(done, options.updates):
            yield from data.pieces(order.mine(update), options.micro_batch)

    loader = data.batches(images, keys(), options)
    for update in range(done, options.updates):
        count = -(-len(order.mine(update)) // options.micro_batch)
        yield (next(loader) for _ in range(count))


def evaluate(trainer: Trainer, images: data.Images, options: Options) -> tuple[Means, Tensor]:
    """Means over all images, each seen by one worker; and this worker's answers."""
    mine = [(0, number) for number in range(trainer.workers.rank, len(images), trainer.workers.world)]
    return trainer.evaluate(data.batches(images, list(data.pieces(mine, 2 * options.micro_batch)), options))


def as_row(
    update: int, order: data.Order, options: Options, trained: Means, valid: Means, seconds: float
) -> dict[str, Any]:
    """A line of the curve, after the update number `update`, counted from 0."""
    return {
        "update": update + 1,
        "epoch": round((update + 1) / order.per_epoch, 3),
        "lr": lr_at(update, options),
        "alpha": alpha_at(update, options),
        "train_loss": trained.loss,
        "train_nll": trained.nll,
        "train_kl": trained.kl,
        "train_accuracy": trained.accuracy,
        "valid_nll": valid.nll,
        "valid_accuracy": valid.accuracy,
        "seconds": round(seconds, 1),
    }


def finish(trainer: Trainer, splits: data.Splits, options: Options, record: Record) -> dict[str, Any]:
    """Test the last weights and the best ones of validation, and write the result."""
    last, _ = evaluate(trainer, splits.test, options)
    trainer.workers.wait()  # best.pt is written by the first worker
    best = torch.load(Path(options.save_dir) / BEST, map_location="cpu", weights_only=True)
    trainer.model.load_state_dict(best["model"])
    chosen, _ = evaluate(trainer, splits.test, options)
    result = {
        **options.key(),
        "test_accuracy": last.accuracy,
        "test_nll": last.nll,
        "best_update": best["update"],
        "best_test_accuracy": chosen.accuracy,
        "best_test_nll": chosen.nll,
        "valid_accuracy": record.history[-1]["valid_accuracy"],
        "best_valid_accuracy": max(row["valid_accuracy"] for row in record.history),
        "valid_nll": record.history[-1]["valid_nll"],
        "validated_on_test": options.holdout == 0 and options.dataset != "digits",
        "seconds": record.history[-1]["seconds"],
        "device": f"{trainer.workers.world} x {trainer.device.type}",
        "torch": torch.__version__,
    }
    if trainer.workers.first:
        record.finish(result)
    return result
