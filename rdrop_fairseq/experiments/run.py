"""`experiment`: plain training and R-Drop, tuned alike, on three small data sets.

Both choose their settings (dropout; length where no rule ends the training; R-Drop alpha, too) by validation over
tuning seeds, one axis after the other. What is chosen is then trained with other seeds and compared on the test set,
paired by seed: a seed has the same data, order and first weights in both systems. Every training is done once; the same
command resumes.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.experiments import report
from rdrop_fairseq.experiments.trials import SYSTEMS, run
from rdrop_fairseq.experiments.tuning import tuned
from rdrop_fairseq.training.resume import only_one

EXPERIMENTS = ("digits", "sentences", "language_model")
OUT = Path("outputs/experiment_tasks")


def main(argv: list[str], prog: str) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXPERIMENTS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=8, help="seeds of the comparison, 1 to N (default: 8)")
    parser.add_argument("--tuning-seeds", type=int, default=2, help="other seeds, to choose settings by (default: 2)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    args = parser.parse_args(argv)
    if args.seeds < 2 or args.tuning_seeds < 1:
        raise UserError("a comparison needs at least 2 seeds, and 1 to choose settings by")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq sets all loggers to DEBUG
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the training too, as Ctrl-C does
    for name in args.names or EXPERIMENTS:
        if name not in EXPERIMENTS:
            raise UserError(f"there is no experiment {name!r}: choose from {', '.join(EXPERIMENTS)}")
        out = args.out / name
        with only_one(out / "lock"):
            experiment = importlib.import_module(f"rdrop_fairseq.experiments.{name}").experiment(args.out / "data")
            tuning = range(1001, 1001 + args.tuning_seeds)
            chosen = {system: tuned(experiment, system, tuning, out) for system in SYSTEMS}
            found: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
            for seed in range(1, 1 + args.seeds):
                for system, settings in chosen.items():
                    found[system].append(run(experiment, system, settings, seed, out))
            print(report.write(experiment, chosen, found, out), end="\n\n")
