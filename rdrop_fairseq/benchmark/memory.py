"""Peak memory and time of fine-tuning BART: plain, with fairseq's own R-Drop, and with this one.

Forward and backward of one batch by a BART of the published shape (random weights, V 50,264, dropout 0.1); no
optimizer, whose state is the same for all. Memory is that of all tensors; the time is that of the fastest step.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from rdrop_fairseq.benchmark import command
from rdrop_fairseq.benchmark.peak import peak_bytes
from rdrop_fairseq.benchmark.table import Row
from rdrop_fairseq.benchmark.timing import attempt, timed
from rdrop_fairseq.benchmark.training_steps import OUR_CRITERION, PEER, PLAIN, SYSTEMS, Rig

CLASSES = 50_264
ALPHA = ["--rdrop-alpha", "0.7"]
# method -> (options of the criterion, options of the model)
METHODS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "plain": (SYSTEMS[PLAIN], ()),
    PEER: ([*SYSTEMS[PEER], *ALPHA], ()),
    "ours": ([*OUR_CRITERION, *ALPHA], ()),
    "ours, activation checkpoints": ([*OUR_CRITERION, *ALPHA], ["--checkpoint-activations"]),
}
# (pairs, tokens of an article, tokens of a summary), each 1,024 tokens by fairseq's --max-tokens: an article of
# CNN/DailyMail, where attention needs the memory, and pairs of equal length, where the loss does.
BATCHES = {"1 x 1,024 to 80": (1, 1024, 80), "8 x 128 to 128": (8, 128, 128)}
MODELS = {"base": "bart_base", "large": "bart_large"}
DROPOUT = ("--dropout", "0.1", "--attention-dropout", "0.1")


def measure(model: str, batch: str, method: str, args: Namespace) -> Row:
    """One row: its peak, and the time of its fastest step, or what kept it from running."""
    criterion_words, model_words = METHODS[method]
    seconds: list[float] = []

    def train() -> None:
        rig = Rig(["--arch", MODELS[model], *DROPOUT, *model_words], CLASSES, args.device, args.dtype)
        pairs, source, target = BATCHES[batch]
        sample = rig.batch(pairs * max(source, target), (source, source), (target, target))
        criterion = rig.criterion(criterion_words)
        seconds.extend(timed(lambda: backward(rig, criterion, sample), args.clock) for _ in range(args.rounds))

    peak: list[int] = []
    fault = attempt(lambda: peak.append(peak_bytes(train, args.device)))
    row: Row = {"model": model, "batch": batch, "method": method, "GiB": fault or peak[0] / 2**30}
    return row if fault else {**row, f"{args.clock} s": min(seconds)}


def backward(rig: Rig, criterion: Any, sample: Any) -> None:
    """Forward and backward, gradients anew."""
    trainer = rig.trainer
    trainer.model.train()
    trainer.model.zero_grad(set_to_none=True)
    copy = {**sample, "net_input": dict(sample["net_input"])}
    loss = criterion(trainer.model, trainer._prepare_sample(copy)[0])[0]
    loss.backward()


def main(argv: list[str], prog: str) -> None:
    """`benchmark memory`."""
    parser = command.make_parser(prog, __doc__, "memory", rounds=2, clock="cpu")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--steps", type=int, dest="rounds", metavar="N", default=2, help="another name of --rounds")
    args = parser.parse_args(argv)
    command.begin(args)
    rows: list[Row] = []
    for model in args.models:
        for batch in BATCHES:
            found = [measure(model, batch, method, args) for method in METHODS]
            plain = found[0]
            for row in found:
                for key, label in (("GiB", "memory of plain"), (f"{args.clock} s", "time of plain")):
                    value, base = row.get(key), plain.get(key)
                    row[label] = value / base if isinstance(value, float) and isinstance(base, float) else None
            rows += found
    command.report(args, rows, "memory")
