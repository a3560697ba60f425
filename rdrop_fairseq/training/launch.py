"""`python -m rdrop_fairseq train CONFIG [DATA] [-- fairseq-train options]`: one experiment, on the devices there are.

Config, options, batch and data directory are checked first. Then the fairseq-train command is printed and replaces this
process; its output is shown and appended to train.log in the save directory. Several devices are started by torchrun.
The same command resumes from checkpoint_last.pt, or from the newest whole checkpoint.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Optional

from rdrop_fairseq.errors import UserError, install, positive
from rdrop_fairseq.files import PACKAGE
from rdrop_fairseq.training import hardware, options
from rdrop_fairseq.training.batch import Batch, plan, whole_blocks
from rdrop_fairseq.training.config import Experiment, find_config, read_config
from rdrop_fairseq.training.data import check_data
from rdrop_fairseq.training.resume import instead_of_broken_last
from rdrop_fairseq.training.run import Run, pretty

# Set by the launcher; given after `--` they would contradict it.
RESERVED = ("--user-dir", "--distributed-world-size", "--distributed-init-method", "--distributed-rank")

# fairseq's option for the batch of one GPU, by unit.
SIZES = {"tokens": "--max-tokens", "sentences": "--batch-size"}


def argument_parser(prog: str) -> argparse.ArgumentParser:
    """The launcher's own options; those of fairseq-train come after `--`."""
    parser = argparse.ArgumentParser(
        prog=prog, usage=f"{prog} CONFIG [DATA] [options] [-- options of fairseq-train]", description=__doc__
    )
    parser.add_argument("config", metavar="CONFIG", help="name of a file in configs/, or a path")
    parser.add_argument("data", metavar="DATA", nargs="?", help="binarized data directory (default: the config's)")
    parser.add_argument("--seed", type=int, help="random seed (default: the config's); kept apart in NAME.seedN")
    parser.add_argument("--save-dir", help="checkpoints and log (default: outputs/NAME)")
    parser.add_argument("--update-freq", type=positive, help="accumulate N batches (default: for the recipe's batch)")
    parser.add_argument("--precision", choices=hardware.PRECISIONS, default="auto", help="default: auto")
    parser.add_argument("--processes", type=positive, help="processes here (default: one per GPU; 1 on a CPU)")
    parser.add_argument("--nodes", type=positive, default=1, help="machines; the same command is started on each")
    parser.add_argument("--rendezvous", metavar="HOST:PORT", help="where several machines meet: the first one")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)  # where configs/ and outputs/ are
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the command only")
    return parser


def prepare(args: argparse.Namespace, extra: list[str], way_out: str = "--save-dir") -> Run:
    """Check everything and build the command; writes nothing. Raises UserError for what would fail later."""
    experiment = read_config(Path(shown_path(find_config(args.config, args.root))), args.config)
    data = args.data or default_data(experiment, args.root)
    for name in ("seed", "save_dir", "update_freq"):  # given before `--` or after it, they are the same options
        if getattr(args, name) is not None:
            extra = [*extra, f"--{name.replace('_', '-')}", str(getattr(args, name))]
    for option in options.names(extra):
        if option in RESERVED:
            raise UserError(f"{option} is set by the launcher: leave it out, see --processes and --nodes")
    words, seen = options.check(experiment, extra, data)
    options.check_criterion(seen)
    check_data(data, getattr(seen, "source_lang", None), getattr(seen, "target_lang", None),
               experiment.own.get("prepare"))
    save_dir = choose_save_dir(args.root, experiment, extra, seen)
    settle_pretrained(words, seen, args.root, save_dir)
    settle_restart(words, extra, seen, save_dir)

    machine = hardware.detect(cpu=seen.cpu)
    if machine.gpus and args.processes is not None and args.processes > machine.gpus:
        raise UserError(f"--processes {args.processes}: this machine shows {machine.gpus} GPU(s)")
    processes = args.processes or machine.gpus or 1
    world_size = processes * args.nodes
    batch = settle_batch(words, extra, seen, experiment, world_size)
    chosen = any(getattr(seen, name, False) for name in ("fp16", "bf16", "amp"))
    precision = "as given" if chosen else machine.precision(args.precision)
    if precision in ("fp16", "bf16"):
        words.append(f"--{precision}")
        setattr(seen, precision, True)  # for the record
    words += distributed_words(world_size, machine.gpus == 0)

    command = [*runner(args, experiment, processes), data]
    command += ["--user-dir", shown_path(PACKAGE), "--save-dir", str(save_dir)]
    settled = (SIZES[batch.unit], "--update-freq") if batch else ()  # in `words`; given again, the last one would win
    command += words + without(extra, "--save-dir", *settled)
    state = "continues" if (save_dir / "checkpoint_last.pt").exists() else "starts"
    summary = f"{experiment.name} {state} in {save_dir}: {batch or 'batch as given'}; {precision}"
    log = "train.log" if args.nodes == 1 else f"train.{socket.gethostname()}.log"
    run = Run(
        command,
        save_dir,
        save_dir / log,
        seen,
        summary,
        batch=f"{batch.per_update} {batch.unit}" if batch else None,
        machines=args.rendezvous if args.nodes > 1 else "",
        way_out=way_out,
    )
    run.check()
    return run


def default_data(experiment: Experiment, root: Path) -> str:
    """The config's data directory below `root`."""
    if "data" not in experiment.own:
        raise UserError(f"{experiment.path} names no data directory: give one after the config")
    return shown_path(root / experiment.own["data"])


def choose_save_dir(root: Path, experiment: Experiment, extra: list[str], seen: argparse.Namespace) -> Path:
    """--save-dir, or outputs/NAME; with --seed outputs/NAME.seedN."""
    given = options.names(extra)
    if "--save-dir" in given:
        return Path(seen.save_dir)
    name = f"{experiment.name}.seed{seen.seed}" if "--seed" in given else experiment.name
    return Path(shown_path(root / "outputs" / name))


def settle_pretrained(words: list[str], seen: argparse.Namespace, root: Path, save_dir: Path) -> None:
    """Find the model to start from, unless training has begun. A relative path in a config is relative to `root`."""
    if seen.finetune_from_model is None:
        return
    path = Path(seen.finetune_from_model)
    if "--finetune-from-model" in words:
        path = Path(shown_path(root / path))
        replace(words, "--finetune-from-model", str(path))
    if not path.is_file() and not (save_dir / "checkpoint_last.pt").exists():
        raise UserError(f"there is no {path} to start from: the head of the config says where it comes from")


def settle_restart(words: list[str], extra: list[str], seen: argparse.Namespace, save_dir: Path) -> None:
    """Resume from another checkpoint, and say so, if a kill cut the last one short; unless --restore-file names one."""
    if seen.restore_file != "checkpoint_last.pt":
        return
    start = instead_of_broken_last(save_dir)
    if start is None:
        return
    print(f"{save_dir}/checkpoint_last.pt is cut short: resuming from {start.name}", file=sys.stderr)
    for given in (words, extra):  # fairseq takes only one of the two, and this training is past that
        given[:] = without(given, "--finetune-from-model")
    words += ["--restore-file", os.path.abspath(start)]


def settle_batch(
    words: list[str], extra: list[str], seen: argparse.Namespace, experiment: Experiment, world_size: int
) -> Optional[Batch]:
    """Put max-tokens (or batch-size) and update-freq for this world size into `words`.

    None, and nothing changed, if the config fixes no effective batch and `extra` no --update-freq, or one by epochs.

    Raises UserError if the config fixes the batch, but names no size, or is given an --update-freq by epochs.
    """
    wanted, unit = experiment.per_update
    option = SIZES[unit]
    size = getattr(seen, option[2:].replace("-", "_"))
    given = seen.update_freq if "--update-freq" in options.names(extra) else []
    if wanted is not None and size is None:
        raise UserError(f"{experiment.path}: {unit}-per-update needs {option[2:]} beside it")
    if wanted is not None and len(given) > 1:
        raise UserError(
            f"--update-freq {','.join(map(str, given))} changes the batch from epoch to epoch, but {experiment.path} "
            f"fixes it: give one number, or take {unit}-per-update out of it"
        )
    blocks = unit == "tokens" and getattr(seen, "sample_break_mode", None) == "none"  # of a language model
    block = seen.tokens_per_sample if blocks else 1
    if size is not None and len(given) == 1:
        batch = Batch(whole_blocks(size, block), given[0], world_size, unit)
        if wanted not in (None, batch.per_update):
            print(f"warning: the recipe's batch is {wanted} {unit} per update; this run's is {batch}", file=sys.stderr)
    elif wanted is not None:
        batch = plan(wanted, size, world_size, unit, block)
    else:
        return None
    replace(words, option, str(batch.size))
    if batch.size != size and f"{option}-valid" not in options.names([*words, *extra]):
        # what is validated does not depend on the number of GPUs
        words += [f"{option}-valid", str(getattr(seen, f"{option[2:].replace('-', '_')}_valid"))]
    words += ["--update-freq", str(batch.update_freq)]
    return batch


def distributed_words(world_size: int, cpu: bool) -> list[str]:
    """Options for `world_size` processes.

    The size is always given: with one GPU per machine fairseq would assume that it is alone. fairseq reads torchrun's
    environment, but divides by the number of GPUs; on CPUs rank -1 makes torch read it instead.
    """
    words = ["--distributed-world-size", str(world_size)]
    if cpu and world_size > 1:
        words += ["--distributed-backend", "gloo", "--distributed-init-method", "env://", "--distributed-rank=-1"]
        words += ["--distributed-no-spawn", "--ddp-backend", "legacy_ddp"]
    return words


def runner(args: argparse.Namespace, experiment: Experiment, processes: int) -> list[str]:
    """fairseq-train, under torchrun if there is more than one process."""
    program = script("fairseq-train")
    if args.nodes > 1:
        if not args.rendezvous:
            raise UserError("--nodes needs --rendezvous HOST:PORT, the same on each machine (see scripts/train.slurm)")
        meeting = ["--rdzv-backend", "c10d", "--rdzv-id", experiment.name, "--rdzv-endpoint", args.rendezvous]
        return [script("torchrun"), "--nnodes", str(args.nodes), *meeting, "--nproc-per-node", str(processes), program]
    if processes > 1:
        return [script("torchrun"), "--standalone", "--nproc-per-node", str(processes), program]
    return [program]


def script(name: str) -> str:
    """A console script of this Python's environment, as a path that can be pasted."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise UserError(f"{name} is not installed: {install('fairseq')}")
    return shown_path(Path(found))


def shown_path(path: Path) -> str:
    """`path` as a person would type it here: relative where it is below the current directory."""
    absolute = os.path.abspath(path)
    return os.path.relpath(absolute) if Path.cwd() in Path(absolute).parents else absolute


def replace(words: list[str], option: str, value: str) -> None:
    """Set the value of `option` in `words`, adding it if it is not there."""
    if option in words:
        words[words.index(option) + 1] = value
    else:
        words += [option, value]


def without(words: list[str], *options: str) -> list[str]:
    """`words` less these options, given as `--option VALUE` or `--option=VALUE`."""
    kept: list[str] = []
    skip = False
    for word in words:
        name, equals, _ = word.partition("=")
        if not skip and name not in options:
            kept.append(word)
        skip = not skip and name in options and not equals
    return kept


def main(argv: list[str], prog: str) -> Optional[int]:
    """Command line entry; returns only for --dry-run and for a finished training."""
    cut = argv.index("--") if "--" in argv else len(argv)
    args = argument_parser(prog).parse_args(argv[:cut])
    run = prepare(args, argv[cut + 1 :])
    if args.dry_run:
        print(f"# {run.summary}\n{pretty(run.command)}")
        return 0
    if limit := run.finished():
        print(f"{run.save_dir}: finished ({limit}); raise that limit after `--` to train on")
        return 0
    with run.claim() as lock:
        run.become(lock)
    return None
