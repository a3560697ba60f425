"""`experiment digits`: does R-Drop help a small Vision Transformer on few images? Plain training tuned as R-Drop is.

Both choose their settings (dropout and length; R-Drop alpha, too) by the mean accuracy on the validation images over
tuning seeds, the same for both. What is chosen is then trained with other seeds and compared on the test images,
paired by seed: a seed has the same images, order and first weights in both systems. Every training is done once; the
same command resumes.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rdrop_fairseq import files
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training.resume import only_one
from rdrop_fairseq.vision import run
from rdrop_fairseq.vision.packages import package
from rdrop_fairseq.vision.record import CURVE, RESULT
from rdrop_fairseq.vision.workers import Workers

DROPOUTS, LENGTHS, ALPHAS = ("0.1", "0.3"), ("200", "400"), ("0.1", "0.3", "1", "3")
OUT = "outputs/experiment_tasks/digits"
SYSTEMS = ("baseline", "rdrop")
MODEL = '{"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 2}'
COMMON = (
    *("--model-args", MODEL, "--batch", "50", "--micro-batch", "50", "--eval-every", "50"),
    *("--lr", "5e-3", "--warmup-updates", "20"),
)
Settings = tuple[str, ...]  # words of the command line


def grid(system: str) -> list[Settings]:
    """Every combination that a system chooses from."""
    plain = [("--dropout", d, "--updates", n) for d, n in itertools.product(DROPOUTS, LENGTHS)]
    if system == "baseline":
        return list(plain)
    # dropout and length as for the baseline at one alpha; then alpha at what was best
    return [(*words, "--rdrop-alpha", ALPHAS[-2]) for words in plain]


def train(system: str, words: Settings, seed: int, images: int, out: Path) -> dict[str, Any]:
    """One training, or what it left when it was done before: its result and the CPU seconds that it took."""
    name = "_".join([system, *(word for word in words if not word.startswith("--")), f"seed{seed}"])
    folder = out / "runs" / name
    timed = folder / "cpu.json"
    if not timed.is_file():
        given = [f"digits_{system}", *COMMON, *words, "--train-images", str(images), "--seed", str(seed)]
        options, _ = run.parse([*given, "--save-dir", str(folder)], "experiment digits")
        before = time.process_time()
        run.train(options, Workers(), torch.device("cpu"))
        with files.atomic(timed, "w") as file:
            json.dump({"cpu_seconds": time.process_time() - before}, file)
    found: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return {**found, **json.loads(timed.read_text(encoding="utf-8")), "folder": str(folder)}


def choose(system: str, candidates: Sequence[Settings], seeds: Sequence[int], images: int, out: Path) -> Settings:
    """The settings of highest mean validation accuracy, of equals that of lower loss."""

    def merit(words: Settings) -> tuple[float, float]:
        found = [train(system, words, seed, images, out) for seed in seeds]
        mean = statistics.mean(each["valid_accuracy"] for each in found)
        return mean, -statistics.mean(each["valid_nll"] for each in found)

    return max(candidates, key=merit)


def tuned(system: str, seeds: Sequence[int], images: int, out: Path) -> Settings:
    """What a system is trained with."""
    best = choose(system, grid(system), seeds, images, out)
    if system == "baseline":
        return best
    return choose(system, [(*best[:-1], alpha) for alpha in ALPHAS], seeds, images, out)


def sign_flips(differences: Sequence[float]) -> float:
    """Two-sided p of the mean of paired differences: the share of the 2^n choices of signs that are as far from 0."""
    total = abs(sum(differences)) - 1e-12
    flips = itertools.product((1, -1), repeat=len(differences))
    return statistics.mean(abs(sum(s * d for s, d in zip(signs, differences))) >= total for signs in flips)


def compare(found: Mapping[str, Sequence[Mapping[str, Any]]], what: str) -> dict[str, Any]:
    """Mean and standard deviation of each system; mean difference, its 95 % interval (paired t) and p (sign flips)."""
    from scipy.stats import ttest_rel  # scikit-learn brings it

    values = {system: [float(each[what]) for each in group] for system, group in found.items()}
    plain, ours = (values[system] for system in SYSTEMS)
    differences = [b - a for a, b in zip(plain, ours)]
    interval = ttest_rel(ours, plain).confidence_interval(0.95)
    return {
        "values": values,
        "mean": {system: statistics.mean(group) for system, group in values.items()},
        "deviation": {system: statistics.stdev(group) for system, group in values.items()},
        "difference": statistics.mean(differences),
        "interval": [float(interval.low), float(interval.high)],
        "p_sign_flips": sign_flips(differences),
    }


def report(chosen: Mapping[str, Settings], found: Mapping[str, list[dict[str, Any]]], images: int, out: Path) -> str:
    """report.json, report.md and curves.png; returns the table."""
    tables = {what: compare(found, what) for what in ("test_accuracy", "test_nll", "cpu_seconds")}
    settings = {system: " ".join(words) for system, words in chosen.items()}
    with files.atomic(out / "report.json", "w") as file:
        json.dump({"train_images": images, "settings": settings, **tables}, file, indent=1)
    head = ["digits", "settings", "test accuracy, %", "s.d.", "test nll", "s.d.", "CPU s"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for system in SYSTEMS:
        row = [system, settings[system].replace("--", "")]
        for what, scale in (("test_accuracy", 100), ("test_nll", 1)):
            row += [f"{scale * tables[what][each][system]:.{2 if scale > 1 else 3}f}" for each in ("mean", "deviation")]
        lines.append(f"| {' | '.join(row)} | {tables['cpu_seconds']['mean'][system]:.1f} |")
    accuracy, nll = tables["test_accuracy"], tables["test_nll"]
    low, high = (100 * bound for bound in accuracy["interval"])
    lines += [
        "",
        f"{images} training images, {len(found['rdrop'])} seeds. Accuracy {100 * accuracy['difference']:+.2f} points "
        f"(95 % interval {low:+.2f} to {high:+.2f}, p {accuracy['p_sign_flips']:.4f}); nll {nll['difference']:+.3f} "
        f"({nll['interval'][0]:+.3f} to {nll['interval'][1]:+.3f}, p {nll['p_sign_flips']:.4f}).",
    ]
    with files.atomic(out / "report.md", "w") as file:
        file.write("\n".join(lines) + "\n")
    plot(found, out)
    return "\n".join(lines)


def plot(found: Mapping[str, list[dict[str, Any]]], out: Path) -> None:
    """Train and validation loss over updates, means over seeds; nothing without matplotlib (extra `plots`)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for number, system in enumerate(SYSTEMS):
        curves = []
        for each in found[system]:
            with open(Path(each["folder"]) / CURVE, encoding="utf-8") as file:
                curves.append(list(csv.DictReader(file)))
        for name, style in (("train_nll", "--"), ("valid_nll", "-")):
            means = [statistics.mean(float(row[name]) for row in rows) for rows in zip(*curves)]
            updates = [int(row["update"]) for row in curves[0]]
            axes.plot(updates, means, style, color=f"C{number}", label=f"{system}, {name.replace('_nll', '')}")
    axes.set_xlabel("updates")
    axes.set_ylabel("nll, nats")
    axes.legend()
    with files.atomic(out / "curves.png") as file:
        figure.savefig(file, format="png", dpi=150)


def main(argv: list[str], prog: str) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=300, help="training images (default: 300)")
    parser.add_argument("--seeds", type=int, default=8, help="seeds of the comparison, 1 to N (default: 8)")
    parser.add_argument("--tuning-seeds", type=int, default=2, help="other seeds, to choose settings by (default: 2)")
    parser.add_argument("--out", type=Path, default=Path(OUT), help=f"default: {OUT}")
    args = parser.parse_args(argv)
    if args.seeds < 2 or args.tuning_seeds < 1:
        raise UserError("a comparison needs at least 2 seeds, and 1 to choose settings by")
    package("timm")  # here, so that importing it counts in nobody's CPU seconds
    with only_one(args.out / "lock"):
        tuning = range(1001, 1001 + args.tuning_seeds)
        chosen = {system: tuned(system, tuning, args.images, args.out) for system in SYSTEMS}
        found = {
            system: [train(system, words, seed, args.images, args.out) for seed in range(1, 1 + args.seeds)]
            for system, words in chosen.items()
        }
        print(report(chosen, found, args.images, args.out))
