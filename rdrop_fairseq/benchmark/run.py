"""`python -m rdrop_fairseq benchmark [WHAT]`: time and memory beside other implementations, measured in one run."""

from __future__ import annotations

import argparse
import importlib
import platform
from pathlib import Path

from rdrop_fairseq.benchmark.timing import Cell, table, write_csv

# Benchmarks with options of their own: word -> module with main(argv, prog).
OTHERS = {
    "text": "rdrop_fairseq.benchmark.text",
    "lm": "rdrop_fairseq.benchmark.language_models",
    "memory": "rdrop_fairseq.benchmark.memory",
    "objectives": "rdrop_fairseq.benchmark.objectives",
    "variants": "rdrop_fairseq.benchmark.variants",
}


def main(argv: list[str], prog: str) -> int:
    """Print a table per measurement and write it as CSV; needs no network."""
    if argv[:1] and argv[0] in OTHERS:
        status: int = importlib.import_module(OTHERS[argv[0]]).main(argv[1:], f"{prog} {argv[0]}") or 0
        return status
    args = _parser(prog).parse_args(argv)

    import torch

    from rdrop_fairseq.benchmark import bare_loss, training_steps

    setting = f"{args.device}, {args.threads} threads, {args.rounds} rounds"
    print(f"torch {torch.__version__}, {platform.machine()}, {setting}")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what in ("all", "steps"):
        shape = {name: getattr(args, name) for name in ("layers", "width", "ffn", "classes", "tokens")}
        _report(training_steps.measure(shape, args.threads, args.rounds, args.device), args.out / "steps.csv")
    if args.what in ("all", "loss"):
        size = bare_loss.Shape(args.loss_tokens, args.loss_width, args.loss_vocab)
        _report(bare_loss.measure(size, args.threads, args.rounds, args.device), args.out / "loss.csv")
    return 0


def _report(rows: list[dict[str, Cell]], path: Path) -> None:
    print(table(rows))
    write_csv(path, rows)
    print(f"written to {path}\n")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=f"Also: {prog} {{{','.join(OTHERS)}}} --help",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=["all", "steps", "loss"], default="all")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--rounds", type=int, default=7, help="every contestant runs once per round; medians are shown")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark"), help="folder of the CSV files")
    group = parser.add_argument_group("training steps")
    for name, value, what in (
        ("layers", 3, "layers of encoder and of decoder"),
        ("width", 256, "embedding width"),
        ("ffn", 512, "feed-forward width"),
        ("classes", 8000, "vocabulary"),
        ("tokens", 4096, "tokens of a batch, with padding, before stacking"),
    ):
        group.add_argument(f"--{name}", type=int, default=value, help=what)
    group = parser.add_argument_group("loss and projection alone")
    group.add_argument("--loss-tokens", type=int, default=2048, help="target tokens of one view")
    group.add_argument("--loss-width", type=int, default=512, help="features")
    group.add_argument("--loss-vocab", type=int, default=32768, help="vocabulary")
    return parser
