"""`python -m rdrop_fairseq vision CONFIG`: fine-tune a Vision Transformer with R-Drop on the devices there are.

With several GPUs, or --processes N, it starts one process per device through torchrun. Several machines:
torchrun --nnodes ... -m rdrop_fairseq vision CONFIG. The same command resumes at the last checkpoint, and gives the
result that it would have given without interruption. SIGUSR1, or the file that $RDROP_STOP_FILE names, makes it save
after the running update and end with status 0.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import torch
from tqdm import tqdm

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training.hardware import Hardware, detect
from rdrop_fairseq.training.progress import LINE_SECONDS
from rdrop_fairseq.training.resume import only_one
from rdrop_fairseq.vision import data, models
from rdrop_fairseq.vision.options import Options, parse
from rdrop_fairseq.vision.record import BEST, Record
from rdrop_fairseq.vision.trainer import Trainer, alpha_at, lr_at
from rdrop_fairseq.vision.workers import Workers, join

STOP_FILE = "RDROP_STOP_FILE"


def main(argv: list[str], prog: str) -> int:
    """The command line; returns the exit status."""
    options, processes = parse(argv, prog, __doc__)
    if "RANK" not in os.environ:
        hardware = detect()
        processes = processes or hardware.gpus or 1
        if not 0 < processes <= (hardware.gpus or processes):
            raise UserError(f"--processes {processes}: this machine shows {hardware.gpus} GPU(s)")
        precision = hardware.precision(options.precision)
        if processes > 1:
            return start_each(processes, [*argv, "--precision", precision])
        options = dataclasses.replace(options, precision=precision)
    heard: list[int] = []  # no file: one that a killed job leaves would stop the next
    signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    stop = Path(os.environ.get(STOP_FILE) or os.devnull)
    workers = join()
    with only_one(Path(options.save_dir) / "lock") if workers.first else contextlib.nullcontext():
        try:
            result = train(options, workers, lambda: bool(heard) or stop.is_file())
        except UserError as error:  # one of a process that reads images comes with that process's traceback
            raise UserError(str(error).strip().splitlines()[-1].rpartition("UserError: ")[2]) from error
        except RuntimeError as error:
            if way_out := too_little_memory(error, options):
                raise UserError(way_out) from error
            raise
    if workers.world > 1:
        workers.wait()  # until the first has written: torchrun ends all if one of them fails
        torch.distributed.destroy_process_group()
    if workers.first and result:
        last, best = (f"{100 * result[name]:.2f} %" for name in ("test_accuracy", "best_test_accuracy"))
        print(f"{options.save_dir}: test accuracy {last}; of the weights that were best in validation, {best}")
    return 0


def too_little_memory(error: RuntimeError, options: Options) -> str:
    """What was too small, a GPU or the memory of the processes that read images, and the way out; empty if neither."""
    reason = (str(error).strip().splitlines() or [""])[-1]
    if isinstance(error, torch.cuda.OutOfMemoryError):
        smaller = f"a lower --micro-batch than {options.micro_batch}, which changes nothing else"
        return f"a GPU's memory is full ({reason.partition('. ')[0]}): give {smaller}"
    # they hand images over in /dev/shm, which has 64 MB in a container of Docker; of one that was killed, torch says
    # its number and no more
    if "shared memory" in reason or "DataLoader worker (pid" in reason:
        smaller = f"fewer --workers than {options.workers}, or 0"
        return f"no memory left to read images ({reason}): give {smaller}; in a container, more /dev/shm (--ipc=host)"
    return ""


def start_each(processes: int, argv: list[str]) -> int:
    """This command on so many processes, by torchrun in this one, which passes SIGUSR1 on as a file."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    with tempfile.TemporaryDirectory() as folder:
        stop = Path(os.environ.setdefault(STOP_FILE, f"{folder}/stop"))
        signal.signal(signal.SIGUSR1, lambda *_: stop.touch())
        try:
            torchrun(["--standalone", f"--nproc-per-node={processes}", "-m", "rdrop_fairseq", "vision", *argv])
        except ChildFailedError:  # it has said why
            return 1
    return 0


def fetch(options: Options, fresh: bool) -> tuple[data.Splits, torch.nn.Module]:
    """Data and model, downloaded where they are not there. A checkpoint has all weights: only a fresh training needs
    those of a published model."""
    splits = data.load(options)
    torch.manual_seed(options.seed)
    return splits, models.build(options if fresh else dataclasses.replace(options, init="random"))


def prepare(options: Options, workers: Workers, record: Record) -> tuple[Trainer, data.Splits, int]:
    """Model and data, downloaded by one worker, and how many updates are done."""
    gpu = workers.device.type == "cuda"
    hardware = Hardware(1, torch.cuda.get_device_capability(workers.device)) if gpu else Hardware(0)
    precision = hardware.precision(options.precision)
    state = record.restore()
    splits, model = workers.in_turn(lambda: fetch(options, fresh=not state))
    trainer = Trainer(model, options, workers, precision)
    done = trainer.restore(state) if state else 0
    if workers.total(done) != done * workers.world:
        raise UserError(f"{options.save_dir} is not one directory to all machines: give a --save-dir that they share")
    if workers.first:
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        plan = f"{options.model}, {size:.1f}M parameters: {len(splits.train)} images, {options.batch} per update on "
        plan += f"{workers.world} x {workers.device.type} in {precision}, {options.updates} updates"
        print(f"{plan}{f', resuming at {done}' if done else ''}; {options.save_dir}", file=sys.stderr)
    return trainer, splits, done


def train(options: Options, workers: Workers, asked: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Train to the end, from the last checkpoint if there is one; returns what result.json holds.

    asked: whether to stop, looked at after each update: one worker that says so is enough, and nothing is returned.
    """
    record = Record(Path(options.save_dir), options.key())
    trainer, splits, done = prepare(options, workers, record)
    with tqdm(
        total=options.updates, initial=done, unit="update", disable=not workers.first, smoothing=0.1,
        mininterval=0.5 if sys.stderr.isatty() else LINE_SECONDS,
    ) as bar:  # fmt: skip
        for pieces, images in data.updates(splits.train, options, workers, done):
            trainer.update(done, pieces, images)
            done += 1
            bar.update()
            stop = workers.total(asked()) > 0
            due = done % options.eval_every == 0 or done == options.updates
            if due:
                row = validate(done, trainer, splits)
                record.history.append(row | {"seconds": record.seconds()})
                shown = f"train nll {row['train_nll']:.3f}, kl {row['train_kl']:.3f}"
                bar.set_postfix_str(f"{shown}, valid {100 * row['valid_accuracy']:.2f} %")
            if due or stop:
                state = trainer.state(done)
                if workers.first:
                    record.save(state)
            if stop and done < options.updates:
                if workers.first:
                    bar.write(f"asked to stop: saved update {done}, where the same command resumes", file=sys.stderr)
                return {}
    return finish(trainer, splits, record)


def validate(done: int, trainer: Trainer, splits: data.Splits) -> dict[str, Any]:
    """A line of the curve, without its seconds: how training went since the last one, and how `valid` does."""
    options, trained, valid = trainer.options, trainer.means(), trainer.evaluate(splits.valid)
    return {
        "update": done,
        "epoch": round(done / -(-len(splits.train) // options.batch), 3),
        "lr": lr_at(done - 1, options),
        "alpha": alpha_at(done - 1, options),
        **{f"train_{name}": value for name, value in trained.items()},
        **{f"valid_{name}": valid[name] for name in ("nll", "accuracy")},
    }


def finish(trainer: Trainer, splits: data.Splits, record: Record) -> dict[str, Any]:
    """Test the last weights and the best ones of validation, and write the result."""
    options, workers, best = trainer.options, trainer.workers, record.best()
    found = {"test": trainer.evaluate(splits.test)}
    if workers.first:
        trainer.model.load_state_dict(
            torch.load(record.directory / BEST, map_location="cpu", weights_only=True)["model"]
        )
    workers.same(trainer.model)
    found["best_test"] = trainer.evaluate(splits.test)
    result = {
        **options.key(),
        **{f"{name}_{what}": means[what] for name, means in found.items() for what in ("accuracy", "nll")},
        **{name: record.history[-1][name] for name in ("valid_accuracy", "valid_nll", "seconds")},
        "best_update": best["update"],
        "best_valid_accuracy": best["valid_accuracy"],
        "validated_on_test": options.holdout == 0 and options.dataset != "digits",
        "device": f"{workers.world} x {trainer.device.type}",
        "torch": torch.__version__,
    }
    if workers.first:
        record.finish(result)
    return result
