"""`ablate`: a grid of R-Drop's options over seeds on any binarized data, one table, one plot per axis, learning curves.

    ablate DATA --vary alpha 1 3 5 --vary rates 0.3,0.1 0.5,0.3 --seeds 1 2 -- --arch transformer_iwslt_de_en ...

The baseline is plain label-smoothed cross entropy under the same options. Each training and its scoring is done once;
the same command resumes where it was interrupted. What follows `--` goes to every fairseq-train. Where there are GPUs
each training takes one, unless --distributed-world-size is among its options.
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from tqdm import tqdm

from rdrop_fairseq.ablation.curves import clock_of, read_curve
from rdrop_fairseq.ablation.further import Further, forget, measure, measure_ensemble
from rdrop_fairseq.ablation.grid import AXES, CRITERIA, System, make_systems
from rdrop_fairseq.ablation.report import Axes, Report
from rdrop_fairseq.ablation.rows import make_ensemble, make_rows
from rdrop_fairseq.ablation.trial import Trial, updates_done
from rdrop_fairseq.errors import UserError, positive
from rdrop_fairseq.scoring import conventions
from rdrop_fairseq.training.data import check_data

# Set by the driver itself.
RESERVED = ("--criterion", "--seed", "--save-dir", "--user-dir", "--restore-file", "--log-format")
LOGGING = ("--log-format", "json", "--no-progress-bar", "--task", "translation_rdrop")
GLANCE = 5.0  # seconds between updates of the progress bar


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
    names = [system.name for system in systems]
    for name in args.only:
        if name not in names:
            raise UserError(f"--only {name} is no system of this command: choose from {', '.join(names)}")
    trials = make_trials(systems, args, base)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the trainings too, as Ctrl-C does
    further = Further(args.subset, args.average, args.ensemble)
    # all systems with the first seed, then with the next: what is done so far can always be compared
    every = [trial for group in zip(*(trials[name] for name in args.only or names)) for trial in group]
    failed = run_all(every, args, further)
    if len(failed) < len(every) or args.report:
        write_report(systems, axes, trials, args, further)
    if failed and not args.report:
        name, error = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(every)} failed, the first of them {name}: {error}")


def make_trials(systems: Sequence[System], args: argparse.Namespace, base: Sequence[str]) -> dict[str, list[Trial]]:
    """The trials of each system by its name, one per seed. Raises UserError for options that fairseq-train refuses."""
    from rdrop_fairseq.training import options, record

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
            Trial(
                system.name, seed, args.data, args.out / "runs" / f"{folder}.seed{seed}", words,
                argparse.Namespace(**{**vars(seen), "seed": seed}), scoring, environment,
            )
            for seed in args.seeds
        ]  # fmt: skip
    for group in trials.values():
        for trial in group:
            # refuses other settings before anything is trained; reads no checkpoint
            record.check(trial.directory, record.settings(trial.seen), "--out")
    return trials


@contextmanager
def stopped_at_the_end() -> Iterator[threading.Event]:
    """An event that is set on any error or interrupt; all child processes then stop."""
    stop = threading.Event()
    try:
        yield stop
    except BaseException:
        stop.set()
        raise


def run_all(trials: Sequence[Trial], args: argparse.Namespace, further: Further) -> dict[str, UserError]:
    """Train, score and measure what is not done, `args.parallel` at a time, with progress and time left on stderr; with
    `args.report` train nothing. Where one fails the others go on; returns the errors by trial."""
    known = [trial for trial in trials if trial.trained or not args.report]
    left = [trial for trial in known if not trial.finished or further.jobs(trial)]
    failed: dict[str, UserError] = {}
    if args.report and not left:
        return failed
    places = make_places(left, args.parallel)
    bar = tqdm(total=len(known), initial=len(known) - len(left), unit="run", desc="ablation", smoothing=0)
    with bar, ThreadPoolExecutor(args.parallel) as pool, stopped_at_the_end() as stop:
        futures = {pool.submit(_finish, trial, args.out, further, places, stop): trial for trial in left}
        waiting = set(futures)
        try:
            while waiting:
                done, waiting = wait(waiting, GLANCE, FIRST_COMPLETED)
                for future in done:
                    trial = futures[future]
                    error = future.exception()
                    if isinstance(error, UserError):
                        failed[trial.name] = error
                    elif error is not None:
                        raise error
                    said = error or "done, trained for {:.0f} {}".format(*trial.took)
                    tqdm.write(f"{trial.name}: {said}", file=sys.stderr)
                    bar.update()
                bar.set_postfix_str(_state(futures, waiting))
        finally:
            for future in waiting:
                future.cancel()
    return failed


def make_places(trials: Sequence[Trial], parallel: int) -> SimpleQueue[str]:
    """CUDA_VISIBLE_DEVICES for each of `parallel` trainings: one GPU, so that the batch is that of the options; all
    GPUs with --distributed-world-size; none for the CPU, since fairseq starts a process per visible GPU."""
    from rdrop_fairseq.training import hardware

    gpus = [] if any(trial.seen.cpu for trial in trials) else hardware.visible()
    if any(word.startswith("--distributed-world-size") for trial in trials for word in trial.words):
        gpus = [",".join(gpus)]
    places: SimpleQueue[str] = SimpleQueue()
    for number in range(parallel):
        places.put(gpus[number % len(gpus)] if gpus else "")
    return places


def _finish(trial: Trial, out: Path, further: Further, places: SimpleQueue[str], stop: threading.Event) -> None:
    place = places.get()
    try:
        trial = replace(trial, environment={**trial.environment, "CUDA_VISIBLE_DEVICES": place})
        if not trial.trained:
            forget(trial, out)
        trial.run("gpu" if place else "cpu", stop)
        measure(trial, further, stop)
    finally:
        places.put(place)


def _state(futures: Mapping[Future[None], Trial], waiting: set[Future[None]]) -> str:
    """The running trials, and the updates that each has done."""
    running = [futures[future] for future in waiting if future.running()]
    return "; ".join(f"{trial.name}: {updates_done(trial.log) or 0}" for trial in running)


def write_report(
    systems: Sequence[System],
    axes: Axes,
    trials: Mapping[str, Sequence[Trial]],
    args: argparse.Namespace,
    further: Further,
) -> None:
    """Measure the ensemble, write the report of what is done so far, print its tables and the paths of its files."""
    baselines = trials[systems[0].name]
    try:
        with stopped_at_the_end() as stop:
            measure_ensemble(baselines, args.out, further, stop)
    except UserError as error:
        if not args.report:
            raise
        print(f"ensemble: {error}", file=sys.stderr)
    curves = {
        name: {trial.seed: read_curve(trial.log) for trial in group if trial.log.is_file()}
        for name, group in trials.items()
    }
    if not any(curve for group in curves.values() for curve in group.values()):
        raise UserError(f"no training in {args.out} has been validated yet: run without --report first")
    clock = clock_of(curve for group in curves.values() for curve in group.values())
    found = Report(
        rows=make_rows(systems, trials, curves, args.convention, clock, further),
        curves=curves,
        convention=args.convention,
        clock=clock,
        subset=args.subset,
        average=args.average,
        ensemble=make_ensemble(baselines, args.out, args.convention, further),
        remarks=list(remarks(trials, args.out, further)),
        axes=axes,
    )
    written = found.write(args.out)
    print(found.text())
    for path in written:
        print(path, file=sys.stderr)


def remarks(trials: Mapping[str, Sequence[Trial]], out: Path, further: Further) -> Iterator[str]:
    """What is missing and why."""
    for trial in [trial for group in trials.values() for trial in group]:
        if not trial.trained:
            updates = updates_done(trial.log)
            yield f"{trial.name}: not {f'finished, at update {updates:,}' if updates else 'started'}"
        elif not trial.finished:
            yield f"{trial.name}: trained, not scored"
        else:
            for split in further.splits:
                if not further.nll(trial.directory, split).is_file():
                    yield f"{trial.name}: no nll of {split}" + "; its checkpoint is not there" * (not trial.checkpoint)
            yield from filter(None, [further.no_average(trial)])
    yield from filter(None, [further.no_ensemble(next(iter(trials.values())), out)])


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
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="SYSTEM",
        help="train these alone, named as in the table (baseline, alpha=3); the report is of all that is finished",
    )  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="default: 1")
    parser.add_argument("--parallel", type=positive, default=1, metavar="N", help="trainings at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each (default: 1; 0: torch's own choice)")
    parser.add_argument("--convention", choices=list(conventions.TITLES), default="tokenized", help="(tokenized)")
    parser.add_argument("--subset", default="test", help="what is translated in the end (default: test)")
    parser.add_argument("--generate", default="", metavar="OPTIONS", help="options of fairseq-generate, in one word")
    parser.add_argument(
        "--average", type=_several, default=0, metavar="N",
        help="score the average of the last N update checkpoints too (0, the default: not)",
    )  # fmt: skip
    parser.add_argument("--ensemble", action="store_true", help="score the baselines of all seeds together, too")
    parser.add_argument("--report", action="store_true", help="train nothing: score and report what is trained")
    return parser


def _several(text: str) -> int:
    value = int(text)
    if value < 0 or value == 1:
        raise argparse.ArgumentTypeError("2 or more, or 0 for none")
    return value
