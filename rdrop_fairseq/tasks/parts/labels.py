"""Checks the labels of sentences before training: each must be a class of the head, or for regression a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fairseq.data import RawLabelDataset

from rdrop_fairseq.errors import UserError


def check_directory(data: Path, regression: bool) -> None:
    """Raises UserError for missing dictionaries, and for classes or numbers where the options say the other."""
    if not (data / "input0" / "dict.txt").is_file():
        raise UserError(f"{data} has no input0/dict.txt: prepare the data with scripts/prepare_glue.sh")
    classes, numbers = (data / "label" / "dict.txt").is_file(), (data / "label" / "train.label").is_file()
    if regression and not numbers:
        why = "its labels are classes: leave out --regression-target" if classes else "write one number a line there"
        raise UserError(f"{data} has no label/train.label with numbers; {why}")
    if not regression and not classes:
        why = "its labels are numbers: add --regression-target" if numbers else "use scripts/prepare_glue.sh"
        raise UserError(f"{data} has no label/dict.txt with classes; {why}")


def names(dictionary: Any) -> tuple[str, ...]:
    """The classes of a label dictionary in the order of their numbers. fairseq-preprocess fills dictionaries up to a
    multiple of 8 with words of its own, and the task adds <mask>."""
    symbols = dictionary.symbols[dictionary.nspecial :]
    return tuple(symbol for symbol in symbols if symbol != "<mask>" and not symbol.startswith("madeupword"))


def check_numbers(path: Path, count: int) -> None:
    """Raises UserError for a line of `path` that is not `count` finite numbers; nothing happens without such a file."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            good = len(values := [float(word) for word in line.split()]) == count and all(abs(v) < 1e6 for v in values)
        except ValueError:
            good = False
        if not good:
            wanted = "a number" if count == 1 else f"{count} numbers"
            raise UserError(f"{path}, line {number}: {line!r} is not {wanted}: are these labels classes?")


def check_labels(dataset: Any, split: str, data: Path, classes: int, regression: bool) -> None:
    """Raises UserError for a split without labels, unless it is a test set, and for a label outside of the classes.

    Numbers are kept in float64 from here on: with --fp16 fairseq would round float32 targets to half precision.
    """
    columns = getattr(dataset, "dataset", dataset).defn  # below the shuffling
    target = columns.get("target")
    if target is None:
        if split.startswith("test"):
            return
        raise UserError(f"{data / 'label'} has no {split}: prepare the data with scripts/prepare_glue.sh")
    if regression:
        columns["target"] = Numbers(target.labels)
        return
    for number in range(len(target)):
        label = target[number]
        if label.numel() != 1 or not 0 <= int(label) < classes:
            raise UserError(
                f"{data / 'label' / split}: the label of sentence {number + 1} is not one of the {classes} classes of "
                "label/dict.txt: prepare train and valid together"
            )


class Numbers(RawLabelDataset):
    """Targets in float64."""

    def collater(self, samples: list[Any]) -> torch.Tensor:
        return torch.tensor(samples, dtype=torch.float64)
