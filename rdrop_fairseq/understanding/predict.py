"""`predict CHECKPOINT DATA [FILE]`: class and probability (or number) of each line, which is a sentence or two with a
tab between them. With --glue TASK: the test sets of a task of GLUE, in the format of the benchmark's server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rdrop_fairseq import files
from rdrop_fairseq.corpus.glue_tasks import HIGHEST_SCORE, TASKS, Task
from rdrop_fairseq.errors import UserError, positive
from rdrop_fairseq.scoring.text import read_lines

if TYPE_CHECKING:
    from torch import Tensor

    from rdrop_fairseq.understanding.predictor import Predictor


def read(path: Path | None, inputs: int) -> list[list[str]]:
    """The sentences of each line of a file, or of stdin. Raises UserError for the first line of another form."""
    rows = [line.rstrip("\r").split("\t") for line in read_lines(path)]
    wanted = "one sentence" if inputs == 1 else "two sentences with a tab between them"
    for number, row in enumerate(rows, 1):
        if len(row) != inputs or not all(sentence.strip() for sentence in row):
            what = "an empty sentence" if len(row) == inputs else f"{len(row)} fields"
            raise UserError(f"{path or 'stdin'}, line {number}: {what}; this checkpoint reads {wanted} a line")
    return rows


def answers(outputs: Tensor, classes: tuple[str, ...]) -> Iterator[str]:
    """A line for each row of outputs [n, C]: class, tab, probability; without classes the numbers themselves."""
    if not classes:
        yield from (" ".join(f"{value:.6g}" for value in row) for row in outputs.tolist())
        return
    best = outputs.softmax(-1).max(-1)
    yield from (f"{classes[place]}\t{share:.6f}" for share, place in zip(best.values.tolist(), best.indices.tolist()))


def submission(outputs: Tensor, task: Task, classes: tuple[str, ...]) -> str:
    """A file for GLUE's server: a header, then number and prediction of each line of the test set."""
    if task.labels:
        predictions = [classes[place] for place in outputs.argmax(-1).tolist()]
    else:
        predictions = [f"{min(HIGHEST_SCORE, max(0.0, HIGHEST_SCORE * value)):.3f}" for value in outputs[:, 0].tolist()]
    return "index\tprediction\n" + "".join(f"{number}\t{answer}\n" for number, answer in enumerate(predictions))


def write_submission(predictor: Predictor, task: Task, out: Path, batch_size: int) -> list[Path]:
    """The files of one task; returns their paths. Raises UserError for a checkpoint of a task with other labels."""
    if sorted(predictor.classes) != sorted(task.labels):
        has = ", ".join(predictor.classes) or "numbers"
        wants = ", ".join(task.labels) or "numbers"
        raise UserError(f"this checkpoint gives {has}, {task.name} wants {wants}: give a checkpoint of that task")
    written = []
    for split, name in zip((split for split in task.splits if split.startswith("test")), task.submissions):
        outputs = predictor.outputs(predictor.dataset(split), batch_size)
        with files.atomic(out / f"{name}.tsv", "w") as file:
            file.write(submission(outputs, task, predictor.classes))
        written.append(out / f"{name}.tsv")
    return written


def main(argv: list[str], prog: str) -> int | None:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint_best.pt of a fine-tuned model")
    parser.add_argument("data", type=Path, help="the data directory that it was trained on")
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="sentences, one a line (default: stdin)")
    parser.add_argument("--glue", metavar="TASK", choices=sorted(TASKS), help="predict a task's test sets instead")
    parser.add_argument("--out", type=Path, metavar="PATH", help="file, with --glue folder, to write (default: stdout)")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="sentences (default: 32)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    args = parser.parse_args(argv)
    if args.glue and (args.file or not args.out):
        raise UserError("--glue predicts the test sets of DATA: leave FILE out, and name a folder with --out")

    import rdrop_fairseq

    rdrop_fairseq.register()
    from rdrop_fairseq.understanding.predictor import Predictor

    predictor = Predictor(args.checkpoint, args.data, args.device)
    if args.glue:
        for path in write_submission(predictor, TASKS[args.glue], args.out, args.batch_size):
            print(path)
        return 0
    rows = read(args.file, predictor.inputs)
    outputs = predictor.outputs([predictor.encode(row) for row in rows], args.batch_size)
    lines = "".join(f"{line}\n" for line in answers(outputs, predictor.classes))
    if args.out is None:
        sys.stdout.write(lines)
    else:
        with files.atomic(args.out, "w") as file:
            file.write(lines)
    return 0
