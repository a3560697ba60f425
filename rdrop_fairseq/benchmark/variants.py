"""Training steps of R-Drop's variants beside plain training and plain R-Drop: CPU time side by side, peak memory apart.

Cutoff, SimCut, more passes, one forward per view, and the encoder shared by all views, on models of several depths.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Optional

import torch

from rdrop_fairseq.benchmark.peak import in_own_process, peak_above
from rdrop_fairseq.benchmark.timing import Cell, ratio, rounds, table, write_csv
from rdrop_fairseq.benchmark.training_steps import PLAIN, Trainee

RDROP = "R-Drop"
_RDROP = ["--criterion", "label_smoothed_cross_entropy_rdrop"]
VARIANTS = {
    PLAIN: [],
    RDROP: _RDROP,
    "R-Drop + token cutoff": [*_RDROP, "--rdrop-cutoff", "token"],
    "R-Drop, 3 passes": [*_RDROP, "--rdrop-passes", "3"],
    "R-Drop, 4 passes": [*_RDROP, "--rdrop-passes", "4"],
    "R-Drop, separate forwards": [*_RDROP, "--rdrop-forward", "separate"],
    "R-Drop, shared encoder": [*_RDROP, "--rdrop-forward", "shared-encoder"],
    "SimCut": ["--criterion", "label_smoothed_cross_entropy_simcut"],
    "Cutoff": ["--criterion", "label_smoothed_cross_entropy_cutoff"],
}
SHAPE = ("width", "ffn", "classes", "tokens")


def make_trainee(name: str, depth: str, shape: dict[str, int]) -> Trainee:
    """One variant on a model of `depth` ENCODER+DECODER layers."""
    encoder, decoder = depth.split("+")
    extra = [*VARIANTS[name], "--encoder-layers", encoder, "--decoder-layers", decoder]
    return Trainee(PLAIN, layers=1, **shape, device="cpu", extra=extra)


def measure(depth: str, names: Sequence[str], shape: dict[str, int], turns: int, memory: bool) -> list[dict[str, Cell]]:
    """One row per variant at one depth."""
    trainees = {name: make_trainee(name, depth, shape) for name in {PLAIN: 0, RDROP: 0, **dict.fromkeys(names)}}
    seconds = rounds({name: each.step for name, each in trainees.items()}, turns, depth, time.process_time)
    del trainees
    rows: list[dict[str, Cell]] = []
    for name, times in seconds.items():
        row: dict[str, Cell] = {"layers": depth, "variant": name, "CPU s": median(times)}
        row["of plain"], row["of R-Drop"] = (ratio(times, seconds[other]) for other in (PLAIN, RDROP))
        if memory:
            how = ["--peak-of", name, "--depths", depth, "--threads", str(torch.get_num_threads())]
            how += [word for key, value in shape.items() for word in (f"--{key}", str(value))]
            row["peak MB"] = in_own_process("rdrop_fairseq.benchmark.variants", how)["peak_mb"]
        rows.append(row)
    return rows


def print_peak(name: str, depth: str, shape: dict[str, int]) -> None:
    """Peak memory of this process over three steps, as JSON."""
    trainee = make_trainee(name, depth, shape)

    def three() -> None:
        for _ in range(3):
            trainee.step()

    print(json.dumps({"peak_mb": peak_above(three, "cpu")[0]}))


def main(argv: Optional[list[str]] = None, prog: Optional[str] = None) -> None:
    """The command line; with --peak-of, what this module asks itself in a process of its own."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"some of: {'; '.join(VARIANTS)}")
    parser.add_argument("--depths", nargs="+", default=["2+2", "6+6", "12+2"], help="layers of encoder+decoder")
    for name, value, what in (
        ("width", 256, "embedding width"),
        ("ffn", 512, "feed-forward width"),
        ("classes", 8000, "vocabulary"),
        ("tokens", 1024, "tokens of a batch, with padding, before stacking"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=what)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--rounds", type=int, default=7, help="every variant takes one step per round")
    parser.add_argument("--memory", action="store_true", help="also measure peak memory, each in its own process")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark"), help="folder of the CSV file")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    unknown = sorted(set(args.variants) - set(VARIANTS))
    if unknown:
        parser.error(f"no variant {unknown[0]!r}: choose from {'; '.join(VARIANTS)}")
    torch.set_num_threads(args.threads)
    shape = {name: getattr(args, name) for name in SHAPE}
    if args.peak_of:
        print_peak(args.peak_of, args.depths[0], shape)
        return
    names = args.variants or list(VARIANTS)
    rows = []
    for depth in args.depths:
        rows += (found := measure(depth, names, shape, args.rounds, args.memory))
        print(table(found) + "\n", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / "variants.csv", rows)


if __name__ == "__main__":
    main()
