"""The command line that all benchmarks share: options, a line on the machine, and where the table is written."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import torch

from rdrop_fairseq.benchmark import table
from rdrop_fairseq.benchmark.table import Row
from rdrop_fairseq.benchmark.timing import CLOCKS
from rdrop_fairseq.errors import UserError

DTYPES = ("fp32", "bf16", "fp16")


def make_parser(
    prog: str, doc: Optional[str], what: str, rounds: int = 7, threads: int = 2, clock: str = "wall"
) -> argparse.ArgumentParser:
    """A parser with the common options and these defaults. what: name of the table's file."""
    parser = argparse.ArgumentParser(
        prog=prog, description=(doc or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    group = parser.add_argument_group("measuring")
    group.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    group.add_argument("--dtype", default="fp32", choices=DTYPES)
    group.add_argument("--rounds", type=int, default=rounds, help="every contestant runs once per round")
    group.add_argument("--threads", type=int, default=threads, help="torch threads")
    group.add_argument(
        "--clock", choices=list(CLOCKS), default=clock, help="wall time or CPU time of all threads; a GPU has its own"
    )
    group.add_argument("--out", type=Path, default=Path("outputs/benchmark"), help=f"folder of {what}.json")
    group.add_argument(
        "--json", "--csv", type=Path, dest="file", metavar="FILE", default=argparse.SUPPRESS,
        help="write the table there instead, as CSV if the name ends in .csv",
    )  # fmt: skip
    return parser


def add_sizes(parser: argparse.ArgumentParser, sizes: Mapping[str, tuple[int, str]]) -> None:
    """Options --NAME with a default and a help text each."""
    group = parser.add_argument_group("sizes")
    for name, (value, text) in sizes.items():
        group.add_argument(f"--{name}", type=int, default=value, help=text)


def choose(parser: argparse.ArgumentParser, given: Sequence[str], known: Sequence[str], kind: str) -> list[str]:
    """The known names that are the given ones or start with them, or all if none is given. Exits with the parser's
    error for an unknown one."""
    chosen = []
    for word in given:
        found = [word] if word in known else [name for name in known if name.startswith(word)]
        if not found:
            parser.error(f"no {kind} {word!r}: choose from {'; '.join(known)}")
        chosen += found
    return list(dict.fromkeys(chosen)) or list(known)


def begin(args: argparse.Namespace) -> None:
    """Sets threads and clock, and prints a line on the measurement. Raises UserError for a device or dtype that this
    machine does not have."""
    torch.set_num_threads(args.threads)
    if args.device == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"torch {torch.__version__} sees no GPU: give --device cpu")
        args.clock = "cuda"
        where = torch.cuda.get_device_name()
    else:
        if args.dtype == "fp16":
            raise UserError("a CPU computes no fp16: give --dtype bf16 or fp32")
        where = f"{platform.machine()}, {args.threads} threads"
    print(f"torch {torch.__version__}, {where}, {args.dtype}, {args.clock} time, {args.rounds} rounds", flush=True)


def report(args: argparse.Namespace, rows: list[Row], what: str) -> None:
    """Prints the table and writes it, as WHAT.json if no file is named."""
    path = getattr(args, "file", args.out / f"{what}.json")
    table.write(path, rows)
    print(f"{table.markdown(rows)}\nwritten to {path}\n", flush=True)


def torch_dtype(name: str) -> Any:
    """The torch dtype of one of DTYPES."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
