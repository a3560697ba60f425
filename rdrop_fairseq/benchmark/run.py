"""`python -m rdrop_fairseq benchmark [WHAT]`: time and memory beside other implementations, measured in one run."""

from __future__ import annotations

import importlib

# Benchmarks with options of their own: word -> module with main(argv, prog).
OTHERS = {
    "text": "rdrop_fairseq.benchmark.text",
    "lm": "rdrop_fairseq.benchmark.language_models",
    "memory": "rdrop_fairseq.benchmark.memory",
    "objectives": "rdrop_fairseq.benchmark.objectives",
    "variants": "rdrop_fairseq.benchmark.variants",
    "gpu": "rdrop_fairseq.benchmark.gpu_check",
}


def main(argv: list[str], prog: str) -> int:
    """Print a table per measurement and write it; needs no network."""
    if argv[:1] and argv[0] in OTHERS:
        status: int = importlib.import_module(OTHERS[argv[0]]).main(argv[1:], f"{prog} {argv[0]}") or 0
        return status

    from rdrop_fairseq.benchmark import bare_loss, command, training_steps

    parser = command.make_parser(prog, f"Also: {prog} {{{','.join(OTHERS)}}} --help", "steps.json and loss")
    parser.add_argument("what", nargs="?", choices=["all", "steps", "loss"], default="all")
    command.add_sizes(parser, training_steps.SIZES)
    command.add_sizes(parser, {f"loss-{name}": size for name, size in bare_loss.SIZES.items()})
    args = parser.parse_args(argv)
    if args.what == "all" and hasattr(args, "file"):
        parser.error("--json takes one table: say steps or loss before it")
    if args.what != "loss":
        training_steps.run(args)
    if args.what != "steps":
        bare_loss.run(args)
    return 0
