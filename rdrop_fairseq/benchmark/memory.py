"""Peak memory and step time of fine-tuning BART: plain, with fairseq's own R-Drop, and with this one.

Every cell of the table is a process of its own that makes one BART of the published shape (random weights, V 50,264,
fp32, dropout 0.1) and runs forward and backward on one batch; no optimizer, whose state is the same for all. On a CPU:

    tensors  most bytes held by tensors at any time, counted at every operation (a GPU's allocator would hold these)
    RSS      peak resident memory of the process, Python and libraries included
    time     CPU seconds of a step, the fastest of --steps
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from rdrop_fairseq.errors import UserError

ENTRIES = 50_260  # of BART's dict.txt; fairseq adds four
ALPHA = "0.7"
METHODS = {
    "plain": ["--criterion", "label_smoothed_cross_entropy"],
    "fairseq's R-Drop": ["--criterion", "label_smoothed_cross_entropy_with_rdrop", "--rdrop-alpha", ALPHA],
    "ours": ["--criterion", "label_smoothed_cross_entropy_rdrop", "--rdrop-alpha", ALPHA],
    "ours, activation checkpoints": [
        *("--criterion", "label_smoothed_cross_entropy_rdrop", "--rdrop-alpha", ALPHA, "--checkpoint-activations")
    ],
}
# (pairs, tokens of an article, tokens of a summary), each 1,024 tokens by fairseq's --max-tokens: an article of
# CNN/DailyMail, where attention needs the memory, and pairs of equal length, where the loss does.
BATCHES = {"1 x 1,024 to 80": (1, 1024, 80), "8 x 128 to 128": (8, 128, 128)}
MODELS = {"base": "bart_base", "large": "bart_large"}
HEADER = ("model", "batch", "method", "tensors GiB", "RSS GiB", "CPU s per step", "tensors vs plain", "time vs plain")


class Cell(NamedTuple):
    """One process of the table."""

    model: str
    batch: str
    method: str


def measure(cell: Cell, steps: int) -> dict[str, float]:
    """{"tensors", "rss": bytes, "seconds"} of this very process, which should do nothing else."""
    import torch

    import rdrop_fairseq

    rdrop_fairseq.register()
    torch.manual_seed(1)
    with _tensor_bytes() as counter:
        task, model, criterion = _build(MODELS[cell.model], METHODS[cell.method])
        sample = _sample(*BATCHES[cell.batch], task.source_dictionary)
        model.train()
        seconds = []
        for _ in range(steps):
            model.zero_grad(set_to_none=True)
            start = time.process_time()
            loss = criterion(model, sample)[0]
            loss.backward()
            seconds.append(time.process_time() - start)
            del loss
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"tensors": counter.peak, "rss": rss, "seconds": min(seconds)}


def _build(arch: str, words: Sequence[str]) -> tuple[Any, Any, Any]:
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    with tempfile.TemporaryDirectory() as data:
        for side in ("source", "target"):
            lines = "".join(f"{number} 1\n" for number in range(ENTRIES))
            (Path(data) / f"dict.{side}.txt").write_text(lines)
        given = [data, "--task", "summarization_rdrop", "--arch", arch, "--source-lang", "source", "--target-lang"]
        given += ["target", "--share-all-embeddings", "--dropout", "0.1", "--attention-dropout", "0.1", "--cpu"]
        given += ["--label-smoothing", "0.1", "--max-tokens", "1024", "--optimizer", "adam", *words]
        parsed = options.parse_args_and_arch(options.get_training_parser(), given)
        cfg = convert_namespace_to_omegaconf(parsed)
        task = tasks.setup_task(cfg.task)
        return task, task.build_model(cfg.model), task.build_criterion(cfg.criterion)


def _sample(pairs: int, source: int, target: int, dictionary: Any) -> dict[str, Any]:
    import torch

    article, summary = (torch.randint(4, len(dictionary), (pairs, length)) for length in (source, target))
    article[:, -1] = summary[:, -1] = dictionary.eos()
    previous = summary.roll(1, dims=1)  # fairseq starts a target with the eos
    lengths = torch.full((pairs,), source)
    inputs = {"src_tokens": article, "src_lengths": lengths, "prev_output_tokens": previous}
    return {"nsentences": pairs, "ntokens": pairs * target, "net_input": inputs, "target": summary}


def _tensor_bytes() -> Any:
    """A context in which every new tensor storage is counted until it is freed; `.peak` is the most at a time."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counter(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self.known: set[int] = set()

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    self._count(tensor.untyped_storage())
            return result

        def _count(self, storage: Any) -> None:
            place, size = storage._cdata, storage.nbytes()
            if place not in self.known:
                self.known.add(place)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, place, size)

        def _free(self, place: int, size: int) -> None:
            self.known.discard(place)
            self.now -= size

    return Counter()


def run(cells: Sequence[Cell], steps: int, threads: int) -> Iterator[dict[str, Any]]:
    """Each cell in a process of its own, one after the other; a cell that is killed has no numbers."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    for cell in tqdm(cells, desc="processes", disable=None):
        command = [sys.executable, "-m", "rdrop_fairseq.benchmark.memory", "--cell", *cell, "--steps", str(steps)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode < 0:
            yield {**cell._asdict(), "killed": True}
        elif done.returncode:
            raise UserError(f"{' / '.join(cell)} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        else:
            yield {**cell._asdict(), **json.loads(done.stdout.splitlines()[-1])}


def table(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The rows as text, in the columns of HEADER, each as soon as it is there; plain comes before what it is beside."""
    plain: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        name = (row["model"], row["batch"], row["method"])
        if "killed" in row:
            yield (*name, *["killed, for memory?"] * 2, *["-"] * 3)
            continue
        if row["method"] == "plain":
            plain[name[:2]] = row
        base = plain.get(name[:2])
        ratios = [f"{row[key] / base[key]:.2f}" if base else "-" for key in ("tensors", "seconds")]
        sizes = [f"{row[key] / 2**30:.2f}" for key in ("tensors", "rss")]
        yield (*name, *sizes, f"{row['seconds']:.1f}", *ratios)


def main(argv: list[str], prog: str) -> int | None:
    """`benchmark memory`."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--steps", type=int, default=2, metavar="N", help="steps per cell, of which the fastest counts")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of each process")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.cell:
        print(json.dumps(measure(Cell(*args.cell), args.steps)))
        return 0
    cells = [Cell(model, batch, method) for model in args.models for batch in BATCHES for method in METHODS]
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    lines = []
    for line in table(run(cells, args.steps, args.threads)):
        print("| " + " | ".join(line) + " |", flush=True)
        lines.append(line)
    if args.csv:
        from rdrop_fairseq import files

        with files.atomic(args.csv, "w") as file:
            csv.writer(file).writerows([HEADER, *lines])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m rdrop_fairseq.benchmark.memory"))
