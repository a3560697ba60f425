"""`ablate`: a grid of R-Drop's options over seeds on any binarized data, one table, one plot per axis, learning curves.

    ablate DATA --vary alpha 1 3 5 --vary rates 0.3,0.1 0.5,0.3 --seeds 1 2 -- --arch transformer_iwslt_de_en ...

The baseline is plain label-smoothed cross entropy under the same options. Each training and its scoring is done once;
the same command goes on where it was interrupted. What follows `--` goes to every fairseq-train.
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from rdrop_fairseq.ablation import report
from rdrop_fairseq.ablation.grid import AXES, CRITERIA, System, make_systems
from rdrop_fairseq.ablation.rows import make_rows
from rdrop_fairseq.ablation.trial import Processes, Trial, updates_done
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import conventions
from rdrop_fairseq.training.data import check_data

# Set by the driver itself.
RESERVED = ("--criterion", "--seed", "--save-dir", "--user-dir", "--restore-file", "--log-format")
LOGGING = ("--log-format", "json", "--no-progress-bar", "--task", "translation_rdrop")
GLANCE = 5.0  # seconds between looks at how far the trainings are


def main(argv: list[str], prog: str) -> None:
    """The command line."""
    cut = argv.index("--") if "--" in argv else len(argv)
    args = _parser(prog).parse_args(argv[:cut])
    base = argv[cut + 1 :]
    for option in RESERVED:
        if any(word.partition("=")[0] == option for word in base):
            raise UserError(f"{option} is set by this command: leave it out (see --vary, --set, --seeds, --out)")
    axes = [(words[0], words[1:]) for words in args.vary]
    if any(not values for _, values in axes):
        raise UserError("--vary needs a name and at least one value, such as --vary alpha 1 3 5")
    systems = make_systems(axes, dict(args.set), args.crossed)
    trials = make_trials(systems, args, base)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the trainings too, as Ctrl-C does
    if not args.report:
        # all systems with the first seed, then with the next: what is done so far can always be compared
        run_all([trial for group in zip(*trials.values()) for trial in group], args.parallel)
    write_report(systems, axes, trials, args)


def make_trials(systems: Sequence[System], args: argparse.Namespace, base: Sequence[str]) -> dict[str, list[Trial]]:
    """The trials of each system by its name, one per seed. UserError for options that fairseq-train would refuse."""
    from rdrop_fairseq.training import options

    options.load_plugin()
    trials = {}
    environment = {"OMP_NUM_THREADS": str(args.threads)} if args.threads else {}
    scoring = ("--convention", args.convention, "--subset", args.subset, "--", *shlex.split(args.generate))
    for system in systems:
        words = (*LOGGING, *base, *system.words)
        seen = options.parse([str(args.data), *words], f"system {system.name}")
        check_data(str(args.data), seen.source_lang, seen.target_lang, None)
        folder = re.sub(r"[^\w.,=+-]", "_", system.name)
        trials[system.name] = [
            Trial(system.name, seed, args.data, args.out / "runs" / f"{folder}.seed{seed}", words, scoring, environment)
            for seed in args.seeds
        ]
    for group in trials.values():
        for trial in group:
            trial.record()  # complains about other settings before anything is trained
    return trials


def run_all(trials: Sequence[Trial], parallel: int) -> None:
    """Train and score what is not done, `parallel` at a time, telling progress and time left on stderr."""
    left = [trial for trial in trials if not trial.finished]
    processes = Processes()
    bar = tqdm(total=len(trials), initial=len(trials) - len(left), unit="run", desc="ablation", smoothing=0)
    with bar, ThreadPoolExecutor(parallel) as pool:
        futures = {pool.submit(trial.run, processes): trial for trial in left}
        waiting = set(futures)
        try:
            while waiting:
                done, waiting = wait(waiting, GLANCE, FIRST_COMPLETED)
                for future in done:
                    future.result()
                    trial = futures[future]
                    seconds = trial.record()["cpu_seconds"]
                    tqdm.write(f"{trial.name}: done, trained for {seconds:.0f} s of CPU time", file=sys.stderr)
                    bar.update()
                bar.set_postfix_str(_state(futures, waiting))
        except BaseException:
            processes.stop()
            for future in waiting:
                future.cancel()
            raise


def _state(futures: Mapping[Future[None], Trial], waiting: set[Future[None]]) -> str:
    """What is running now and how many updates each has done."""
    running = [futures[future] for future in waiting if future.running()]
    return "; ".join(f"{trial.name}: {updates_done(trial.log) or 0}" for trial in running)


def write_report(
    systems: Sequence[System],
    axes: Sequence[tuple[str, Sequence[str]]],
    trials: Mapping[str, Sequence[Trial]],
    args: argparse.Namespace,
) -> None:
    """Write tables, curves and plots of what is finished, and print the table."""
    args.out.mkdir(parents=True, exist_ok=True)
    rows = make_rows(systems, trials, args.convention)
    if not rows:
        raise UserError(f"nothing in {args.out} is finished: run without --report first")
    print(report.write_table(rows, args.convention, len(args.seeds), args.out))
    curves = report.write_curves(trials, args.out)
    budgets = report.budget_table(rows, curves)
    if budgets:
        print("\n" + report.write_budgets(budgets, args.out))
    written = report.plots(rows, axes, curves, args.convention, args.out)
    names = ["table.md", "table.csv", "curves.csv", *["budgets.csv"] * bool(budgets), *(path.name for path in written)]
    print(f"{args.out}: {', '.join(names)}", file=sys.stderr)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} DATA [options] [-- options of fairseq-train]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="binarized data directory")
    parser.add_argument("--out", type=Path, default=Path("outputs/ablation"), help="default: outputs/ablation")
    parser.add_argument(
        "--vary", nargs="+", action="append", default=[], metavar=("AXIS", "VALUE"),
        help=f"an axis and its values: criterion ({', '.join(CRITERIA)}), {', '.join(AXES)}, or any option of "
        "fairseq-train without its dashes",
    )  # fmt: skip
    parser.add_argument(
        "--set", nargs=2, action="append", default=[], metavar=("AXIS", "VALUE"), help="for all but the baseline"
    )
    parser.add_argument("--crossed", action="store_true", help="every combination (default: one axis at a time)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="default: 1")
    parser.add_argument("--parallel", type=_positive, default=1, metavar="N", help="trainings at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each (default: 1; 0: torch's own choice)")
    parser.add_argument("--convention", choices=list(conventions.TITLES), default="tokenized", help="(tokenized)")
    parser.add_argument("--subset", default="test", help="what is translated in the end (default: test)")
    parser.add_argument("--generate", default="", metavar="OPTIONS", help="options of fairseq-generate, in one word")
    parser.add_argument("--report", action="store_true", help="train nothing: report what is finished")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("a whole number above 0")
    return value
