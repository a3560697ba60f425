"""One config for many experiments: the upper-case words of its file name are axes, each with a table of choices.

    configs/glue_TASK_roberta_large_SYSTEM.yaml  is  glue_mrpc_roberta_large_rdrop, glue_rte_roberta_large_baseline, ...

Inside are the keys that all of them share and, for each axis, a table `AXIS: {word: {key: value, ...}, ...}`. Tables
are read in the order of the file and a later value wins; `{AXIS}` in a value becomes the chosen word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

AXIS = re.compile(r"(?<![A-Za-z0-9])[A-Z][A-Z]+(?![A-Za-z0-9])")


def axes(path: Path) -> list[str]:
    """The axes in a config's file name, in order; none for a config of one experiment."""
    return AXIS.findall(path.stem)


def choices(path: Path, name: str) -> dict[str, str] | None:
    """{axis: word} for which the family `path` is `name` (with or without .yaml); None if `name` is no member."""
    pattern = AXIS.sub(lambda axis: f"(?P<{axis[0]}>[a-z0-9.-]+)", re.escape(path.stem))
    match = re.fullmatch(pattern, name.removesuffix(".yaml"))
    return match.groupdict() if match and axes(path) else None


def families(folder: Path) -> list[Path]:
    """The configs of a folder that stand for many."""
    return sorted(path for path in folder.glob("*.yaml") if axes(path))


def members(path: Path, words: Mapping[str, list[str]]) -> Iterator[str]:
    """The names of all experiments of a family, from the words of each axis."""
    for combination in product(*(words[axis] for axis in axes(path))):
        remaining = iter(combination)
        yield AXIS.sub(lambda _, left=remaining: next(left), path.stem)  # type: ignore[misc]
