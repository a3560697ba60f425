"""GLUE for RoBERTa: from the archives to the data directories that fairseq's sentence prediction reads.

    data/glue/TASK/download -> raw -> text/SPLIT.{input0,input1,label} -> bpe -> bin/{input0,input1,label}

The layout and the dictionaries are those of fairseq's examples/roberta/preprocess_GLUE_tasks.sh: GPT-2's BPE,
RoBERTa's dict.txt, classes by falling frequency in train; STS-B's scores divided by 5, as text.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rdrop_fairseq.corpus import archives, binarize, manifest, pretrained_models
from rdrop_fairseq.corpus.glue_tasks import HIGHEST_SCORE, MRPC_DEV, MRPC_IDS, TASKS, Split, Task
from rdrop_fairseq.corpus.gpt2_vocabulary import Vocabulary
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.corpus.processes import add_workers
from rdrop_fairseq.corpus.stories import decode
from rdrop_fairseq.errors import UserError


class BrokenLineError(Exception):
    """A line that is not an example; the message says why."""


def example(fields: list[str], split: Split, labels: tuple[str, ...]) -> tuple[list[str], str | None]:
    """Inputs and label of a line's fields; raises BrokenLineError. Without `labels` the label is a score over 5."""
    if split.fields is not None and len(fields) != split.fields:
        raise BrokenLineError(f"{len(fields)} fields in place of {split.fields}")
    needed = max(*split.inputs, split.label or 0) + 1
    if len(fields) < needed:
        raise BrokenLineError(f"{len(fields)} fields, {needed} are needed")
    inputs = [fields[column] for column in split.inputs]
    if split.label is None:
        return inputs, None
    label = fields[split.label].strip()
    if labels:
        if label not in labels:
            raise BrokenLineError(f"its label is {label!r}, not one of {', '.join(labels)}")
        return inputs, label
    try:
        score = float(label)
    except ValueError:
        raise BrokenLineError(f"its score is {label!r}, not a number") from None
    if not 0 <= score <= HIGHEST_SCORE:
        raise BrokenLineError(f"its score {label} is not between 0 and 5")
    return inputs, f"{score / HIGHEST_SCORE:.6g}"


def read_split(
    path: Path,
    split: Split,
    labels: tuple[str, ...],
    parts: list[Path],
    wanted: Callable[[list[str]], bool] | None = None,
) -> dict[str, int]:
    """Writes a column of `split` to each of `parts` (inputs, then the label if there is one); returns counts.

    A broken line is left out and counted; in a test set, where GLUE identifies lines by number, it is kept with empty
    sentences. wanted: decides by a line's fields whether it belongs to this split (default: every line does).
    """
    counts: Counter[str] = Counter(dict.fromkeys(("sentences", "broken", "empty", "not_utf8"), 0))
    first = ""
    outputs = [open(part, "w", encoding="utf-8", newline="\n") for part in parts]  # noqa: SIM115 (closed below)
    try:
        for number, (fields, utf8) in _lines(path, split.header):
            if wanted is not None and not wanted(fields):
                continue
            try:
                inputs, label = example(fields, split, labels)
            except BrokenLineError as error:
                counts["broken"] += 1
                first = first or f"line {number}: {error}"
                if split.label is not None:
                    continue
                inputs, label = [""] * len(split.inputs), None
            counts["sentences"] += 1
            counts["empty"] += any(not text.strip() for text in inputs)
            counts["not_utf8"] += not utf8
            for output, text in zip(outputs, inputs if label is None else [*inputs, label]):
                output.write(text + "\n")
    finally:
        for output in outputs:
            output.close()
    if not counts["sentences"]:
        raise UserError(f"{path} has no usable line ({first or 'it is empty'}): is it the right file?")
    if counts["broken"]:
        what = "left out" if split.label is not None else "kept with empty sentences"
        print(f"      {path.name}: {counts['broken']} broken lines {what} ({first})", file=sys.stderr)
    if counts["empty"]:
        print(f"      {path.name}: {counts['empty']} lines with an empty sentence are kept", file=sys.stderr)
    return dict(counts)


def _lines(path: Path, header: bool) -> Iterator[tuple[int, tuple[list[str], bool]]]:
    """Number (from 1), fields, and whether the bytes were UTF-8, of each line that \\n ends; quotes mean nothing."""
    with open(path, "rb") as file:
        for number, data in enumerate(tqdm(file, desc=path.name, unit="lines", mininterval=1.0, leave=False), 1):
            if header and number == 1:
                continue
            text, utf8 = decode(data.rstrip(b"\r\n"))
            if text:
                yield number, (text.split("\t"), utf8)


def mrpc_filter(directory: Path, split: str) -> Callable[[list[str]], bool] | None:
    """Decides which lines of msr_paraphrase_train.txt belong to `split`; None for the test set, a file of its own."""
    if split == "test":
        return None
    listed = (directory / MRPC_DEV).read_text(encoding="utf-8-sig").splitlines()
    dev = {tuple(line.split()) for line in listed if line.strip()}
    return lambda fields: (tuple(fields[column] for column in MRPC_IDS if column < len(fields)) in dev) == (
        split == "valid"
    )


class Preparation:
    """One task in its folder, step by step."""

    def __init__(self, task: Task, out: Path, workers: int) -> None:
        self.task, self.out, self.workers = task, out, workers
        self.sides = [f"input{number}" for number in range(len(task.splits["train"].inputs))]
        self.pipeline = Pipeline(out, f"GLUE {task.name}", {"task": task.name})

    def run(self) -> Path:
        """Runs all steps; returns the data directory."""
        raw = self._raw()
        counts = {split: self._text(split, raw)["sentences"] for split in self.task.splits}
        vocabulary = Vocabulary.fetch(self.pipeline, self.out.parent / "gpt2_bpe")
        for split in self.task.splits:
            texts = {side: self.out / "text" / f"{split}.{side}" for side in self.sides}
            outputs = [self.out / "bpe" / f"{split}.{side}" for side in self.sides]
            vocabulary.encode(self.pipeline, split, texts, outputs, self.workers)
        data = self._binarize(vocabulary)
        self.pipeline.finish(counts, self.task.known)
        return data

    def _raw(self) -> Path:
        """The folder of the published files."""
        downloads = self.out / "download"
        fetched = [self.pipeline.download([url], downloads / url.rsplit("/", 1)[-1]) for url in self.task.archives]
        if fetched[0].suffix != ".zip":
            return downloads
        raw, members = self.out / "raw", [split.file for split in self.task.splits.values()]

        def unpack(parts: list[Path]) -> None:
            archives.unpack(fetched[0], parts[0], members)

        self.pipeline.step(f"unpack {fetched[0].name}", [raw], unpack, fetched)
        return raw

    def _text(self, split: str, raw: Path) -> dict[str, Any]:
        file = self.task.splits[split]
        inputs, wanted = [raw / file.file], None
        if self.task.name == "MRPC":
            wanted = mrpc_filter(raw, split)
            inputs.append(raw / MRPC_DEV)
        columns = self.sides if file.label is None else [*self.sides, "label"]
        outputs = [self.out / "text" / f"{split}.{column}" for column in columns]

        def run(parts: list[Path]) -> dict[str, int]:
            return read_split(raw / file.file, file, self.task.labels, parts, wanted)

        return self.pipeline.step(f"text of {split}", outputs, run, inputs)

    def _binarize(self, vocabulary: Vocabulary) -> Path:
        data = self.out / "bin"
        bpe = {side: [self.out / "bpe" / f"{split}.{side}" for split in self.task.splits] for side in self.sides}
        with_labels = [split for split, file in self.task.splits.items() if file.label is not None]
        labelled = {split: self.out / "text" / f"{split}.label" for split in with_labels}

        def run(parts: list[Path]) -> dict[str, Any]:
            counts = {}
            for side, paths in bpe.items():
                prefixes = dict(zip(self.task.splits, paths))
                counts[side] = binarize.binarize_column(prefixes, parts[0] / side, vocabulary.dictionary, self.workers)
            if self.task.labels:
                counts["label"] = binarize.binarize_column(labelled, parts[0] / "label", None, self.workers)
            else:  # numbers, which fairseq reads as they are
                (parts[0] / "label").mkdir(parents=True)
                for split, path in labelled.items():
                    shutil.copy(path, parts[0] / "label" / f"{split}.label")
            vocabulary.copy_to(parts[0])
            return counts

        inputs = [path for paths in bpe.values() for path in paths]
        tools = manifest.versions("fairseq", "ve-fairseq", "fairseq-fixed")
        everything = [*inputs, *labelled.values(), *vocabulary.files]
        self.pipeline.step("binarize", [data], run, everything, {"tools": tools})
        return data


def main(argv: list[str], prog: str) -> int | None:
    """`prepare glue [TASK ...]`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where all data goes (default: data)")
    add_workers(parser)
    pretrained_models.add_model_options(parser)
    args = parser.parse_args(argv)
    keys = [name.lower().replace("-", "") for name in args.tasks] or list(TASKS)
    for name, key in zip(args.tasks, keys):
        if key not in TASKS:
            raise UserError(f"{name} is not a task of GLUE that is known here: choose from {', '.join(TASKS)}")
    for key in keys:
        print(Preparation(TASKS[key], args.data / "glue" / key, args.workers).run())
    pretrained_models.fetch_wanted(args, ("roberta.large",))
    return 0
