"""`python -m rdrop_fairseq train CONFIG [DATA] [-- fairseq-train options]`: one experiment, on the devices there are.

Everything that can be wrong is checked first (config, options, batch, data directory); then the fairseq-train command
is printed and takes this process's place, its output shown and added to train.log in the save directory. Several
devices go through torchrun. Run again, it goes on from checkpoint_last.pt, or from the newest checkpoint that is whole.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.files import PACKAGE
from rdrop_fairseq.training.batch import Batch, plan
from rdrop_fairseq.training.config import Experiment, find_config, read_config
from rdrop_fairseq.training.data import check_data
from rdrop_fairseq.training.resume import instead_of_broken_last, only_one, updates_done

# Fixed by the launcher; after `--` they would contradict what it has worked out.
RESERVED = ("--user-dir", "--distributed-world-size", "--distributed-init-method", "--distributed-rank")

# fairseq's option for the batch of one GPU, by what it is counted in.
SIZES = {"tokens": "--max-tokens", "sentences": "--batch-size"}


@dataclass(frozen=True)
class Job:
    """A training ready to start: the command, where it writes, and one line of what it will do."""

    command: list[str]
    save_dir: Path
    log: Path
    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""  # why there is nothing left to train
    name: str = ""  # the same on each machine of a training on several; empty for one


def argument_parser(prog: str) -> argparse.ArgumentParser:
    """The launcher's own options; those of fairseq-train come after `--`."""
    parser = argparse.ArgumentParser(
        prog=prog, usage=f"{prog} CONFIG [DATA] [options] [-- options of fairseq-train]", description=__doc__
    )
    parser.add_argument("config", metavar="CONFIG", help="name of a file in configs/, or a path")
    parser.add_argument("data", metavar="DATA", nargs="?", help="binarized data directory (default: the config's)")
    parser.add_argument("--seed", type=int, help="random seed (default: the config's); kept apart in NAME.seedN")
    parser.add_argument("--save-dir", help="checkpoints and log (default: outputs/NAME)")
    parser.add_argument("--update-freq", type=int, help="accumulate N batches (default: the recipe's effective batch)")
    parser.add_argument("--precision", default="auto", help="auto (default), fp32, fp16 or bf16")
    parser.add_argument("--processes", type=int, help="processes on this machine (default: one per GPU; 1 on a CPU)")
    parser.add_argument("--nodes", type=int, default=1, help="machines; the same command is started on each")
    parser.add_argument("--rendezvous", metavar="HOST:PORT", help="where several machines meet: the first one")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)  # where configs/ and outputs/ are
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the command, no more")
    return parser


def prepare(args: argparse.Namespace, extra: list[str]) -> Job:
    """Check everything and put the command together. Raises UserError; nothing is written."""
    from rdrop_fairseq.training import hardware, options, record

    experiment = read_config(Path(shown_path(find_config(args.config, args.root))), args.config)
    data = args.data or default_data(experiment, args.root)
    extra = [*extra, *(["--seed", str(args.seed)] if args.seed is not None else [])]
    for option in RESERVED:
        if any(word.partition("=")[0] == option for word in extra):
            raise UserError(f"{option} is set by the launcher: leave it out, see --processes and --nodes")
    words, seen = options.check(experiment, extra, data)
    check_data(data, getattr(seen, "source_lang", None), getattr(seen, "target_lang", None),
               experiment.own.get("prepare"))
    save_dir = choose_save_dir(args, experiment, extra, seen)
    settle_pretrained(words, seen, args.root, save_dir)
    settle_restart(words, extra, seen, save_dir)

    machine = hardware.detect(cpu=seen.cpu)
    if machine.gpus and args.processes is not None and args.processes > machine.gpus:
        raise UserError(f"--processes {args.processes}: this machine shows {machine.gpus} GPU(s)")
    processes = args.processes or machine.gpus or 1
    world_size = processes * args.nodes
    batch = settle_batch(words, extra, seen, experiment, update_freq(args, extra, seen, experiment), world_size)
    chosen = any(getattr(seen, name, False) for name in ("fp16", "bf16", "amp"))
    precision = "as given" if chosen else machine.precision(args.precision)
    if precision in ("fp16", "bf16"):
        words.append(f"--{precision}")
    words += distributed_words(world_size, machine.gpus == 0)

    shown = [shown_path(PACKAGE)]
    command = [*runner(args, experiment, processes), data, "--user-dir", *shown, "--save-dir", str(save_dir)]
    settled = (SIZES[batch.unit], "--update-freq") if batch else ()  # in `words`; given again, the last one would win
    command += words + without(extra, "--save-dir", *settled)
    state = "continues" if (save_dir / "checkpoint_last.pt").exists() else "starts"
    summary = f"{experiment.name} {state} in {save_dir}: {batch or 'batch as given'}; {precision}"
    log = "train.log" if args.nodes == 1 else f"train.{socket.gethostname()}.log"
    effective = f"{batch.per_update} {batch.unit}" if batch else None
    fixed = record.settings(seen, effective)
    record.check(save_dir, fixed)
    return Job(
        command,
        save_dir,
        save_dir / log,
        summary,
        settings=fixed,
        finished=reason_to_end(seen, save_dir),
        name=args.rendezvous if args.nodes > 1 else "",
    )


def reason_to_end(seen: argparse.Namespace, save_dir: Path) -> str:
    """Why fairseq would have nothing to train: it would make one update more, validate and save. Empty if it has."""
    if not seen.max_update or seen.restore_file != "checkpoint_last.pt" or seen.reset_optimizer:
        return ""
    done = updates_done(save_dir)
    return f"finished: {done} updates of {seen.max_update}" if done >= seen.max_update else ""


def default_data(experiment: Experiment, root: Path) -> str:
    """The config's data directory below `root`."""
    if "data" not in experiment.own:
        raise UserError(f"{experiment.path} names no data directory: give one after the config")
    return shown_path(root / experiment.own["data"])


def choose_save_dir(
    args: argparse.Namespace, experiment: Experiment, extra: list[str], seen: argparse.Namespace
) -> Path:
    """--save-dir, before or after `--`, or outputs/NAME; a seed of its own has a directory of its own."""
    if args.save_dir:
        return Path(args.save_dir)
    if any(word.partition("=")[0] == "--save-dir" for word in extra):
        return Path(seen.save_dir)
    seeded = any(word.partition("=")[0] == "--seed" for word in extra)
    name = f"{experiment.name}.seed{seen.seed}" if seeded else experiment.name
    return Path(shown_path(args.root / "outputs" / name))


def settle_pretrained(words: list[str], seen: argparse.Namespace, root: Path, save_dir: Path) -> None:
    """Find the model to start from, unless training has begun. A config's relative path counts from `root`."""
    if seen.finetune_from_model is None:
        return
    path = Path(seen.finetune_from_model)
    if "--finetune-from-model" in words:
        path = Path(shown_path(root / path))
        replace(words, "--finetune-from-model", str(path))
    if not path.is_file() and not (save_dir / "checkpoint_last.pt").exists():
        raise UserError(f"there is no {path} to start from: the head of the config says where it comes from")


def settle_restart(words: list[str], extra: list[str], seen: argparse.Namespace, save_dir: Path) -> None:
    """Go on from another checkpoint if the last one was cut short by a kill, and say so; unless one was asked for."""
    if seen.restore_file != "checkpoint_last.pt":
        return
    start = instead_of_broken_last(save_dir)
    if start is None:
        return
    print(f"{save_dir}/checkpoint_last.pt is cut short: going on from {start.name}", file=sys.stderr)
    for given in (words, extra):  # fairseq takes only one of the two, and this training is past that
        given[:] = without(given, "--finetune-from-model")
    words += ["--restore-file", os.path.abspath(start)]


def update_freq(
    args: argparse.Namespace, extra: list[str], seen: argparse.Namespace, experiment: Experiment
) -> Optional[int]:
    """--update-freq if given, before or after `--`. None for a list by epochs, which is passed on as it is.

    Raises UserError for such a list where the config fixes the effective batch.
    """
    if args.update_freq is not None:
        if args.update_freq < 1:
            raise UserError(f"--update-freq {args.update_freq}: a whole number above 0")
        return args.update_freq
    given = any(word.partition("=")[0] == "--update-freq" for word in extra)
    if not given:
        return None
    if len(seen.update_freq) > 1 and (experiment.tokens_per_update or experiment.sentences_per_update):
        raise UserError(
            f"--update-freq {','.join(map(str, seen.update_freq))} changes the batch from epoch to epoch, but "
            f"{experiment.path} fixes it: give one number, or take tokens-per-update (sentences-per-update) out of it"
        )
    return seen.update_freq[0] if len(seen.update_freq) == 1 else None


def settle_batch(
    words: list[str],
    extra: list[str],
    seen: argparse.Namespace,
    experiment: Experiment,
    given: Optional[int],
    world_size: int,
) -> Optional[Batch]:
    """Put max-tokens (or batch-size) and update-freq for this world size into `words`; None where the config leaves the
    batch alone."""
    unit = "sentences" if experiment.sentences_per_update else "tokens"
    option = SIZES[unit]
    wanted = experiment.sentences_per_update or experiment.tokens_per_update
    size = getattr(seen, option[2:].replace("-", "_"))
    if size is None or (wanted is None and given is None):
        if wanted is not None:
            raise UserError(f"{experiment.path}: {unit}-per-update needs {option[2:]} beside it")
        return None
    if given is not None:
        batch = Batch(size, given, world_size, unit)
        if wanted not in (None, batch.per_update):
            print(f"warning: the recipe's batch is {wanted} {unit} per update; this run's is {batch}", file=sys.stderr)
    else:
        assert wanted is not None
        batch = plan(wanted, size, world_size, unit)
    replace(words, option, str(batch.size))
    if batch.size != size:
        chosen = {word.partition("=")[0] for word in (*words, *extra)}
        if f"{option}-valid" not in chosen:  # what is validated does not depend on the number of GPUs
            words += [f"{option}-valid", str(getattr(seen, f"{option[2:].replace('-', '_')}_valid"))]
    words += ["--update-freq", str(batch.update_freq)]
    return batch


def distributed_words(world_size: int, cpu: bool) -> list[str]:
    """Options for `world_size` processes.

    The size is always said: with one GPU per machine fairseq would take itself for alone. It reads torchrun's
    environment itself, but divides by the number of GPUs doing so; on CPUs the rank -1 leaves reading to torch.
    """
    words = ["--distributed-world-size", str(world_size)]
    if cpu and world_size > 1:
        words += ["--distributed-backend", "gloo", "--distributed-init-method", "env://", "--distributed-rank=-1"]
        words += ["--distributed-no-spawn", "--ddp-backend", "legacy_ddp"]
    return words


def runner(args: argparse.Namespace, experiment: Experiment, processes: int) -> list[str]:
    """fairseq-train, under torchrun where there is more than one process."""
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
        raise UserError(f"{name} is not installed: pip install 'rdrop-fairseq[fairseq]'")
    return shown_path(Path(found))


def below_here(path: Path) -> bool:
    """Is `path` below the current directory?"""
    return Path.cwd() in Path(os.path.abspath(path)).parents


def shown_path(path: Path) -> str:
    """`path` as a person would type it here: relative where it is below the current directory."""
    absolute = os.path.abspath(path)
    return os.path.relpath(absolute) if below_here(Path(absolute)) else absolute


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


def pretty(command: list[str]) -> str:
    """The command for reading and pasting: one option a line."""
    lines: list[list[str]] = [[]]
    for word in command:
        if word.startswith("--") or Path(word).name == "fairseq-train":
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n    ".join(" ".join(line) for line in lines if line)


def become(job: Job) -> None:
    """Turn this process into the training, its output going through `tee` into the log.

    Signals and the exit status are then the training's own, and nothing of this process stays in memory. `tee -p`
    writes the log to its end even where nobody reads the output any more (`train ... | head`).
    """
    from rdrop_fairseq.training import record

    with only_one(job.save_dir / "lock", job.name) as lock:
        record.check(job.save_dir, job.settings)  # once more: another training may have begun since
        record.write(job.save_dir, job.settings)
        if not job.name:
            (job.save_dir / "lock").write_text(f"{os.getpid()}\n", encoding="utf-8")  # exec keeps the number
        os.set_inheritable(lock.fileno(), True)
        os.environ["PYTHONUNBUFFERED"] = "1"
        # tee lives as long as any process of the training can write, and so does the lock
        tee = subprocess.Popen(
            ["tee", "-a", "-i", "-p", str(job.log)], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]
        )
        assert tee.stdin is not None
        os.dup2(tee.stdin.fileno(), 1)
        os.dup2(tee.stdin.fileno(), 2)
        tee.stdin.close()
        print(f"# {datetime.now():%Y-%m-%d %H:%M:%S}  {job.summary}\n{pretty(job.command)}", flush=True)
        os.execv(job.command[0], job.command)


def main(argv: list[str], prog: str) -> Optional[int]:
    """Command line entry; returns only for --dry-run and where there is nothing to train."""
    cut = argv.index("--") if "--" in argv else len(argv)
    args = argument_parser(prog).parse_args(argv[:cut])
    for name in ("processes", "nodes"):
        if (getattr(args, name) or 1) < 1 or getattr(args, name) == 0:
            raise UserError(f"--{name} {getattr(args, name)}: a whole number above 0")
    job = prepare(args, argv[cut + 1 :])
    if args.dry_run:
        print(f"# {job.summary}\n{pretty(job.command)}")
        return 0
    if job.finished:
        print(f"{job.save_dir}: {job.finished}; `-- --max-update N` trains on")
        return 0
    become(job)
    return None
