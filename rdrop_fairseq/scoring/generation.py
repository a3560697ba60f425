"""Reads the output of fairseq-generate: sentences by id; incomplete output is refused.

The output mixes results, log and warnings of libraries ("Hydra 1.4 will ..." begins with H as a hypothesis does), so
only lines made of a letter, `-`, a number and a tab count. The file is ordered by length; the result by id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.text import read_lines

_RESULT = re.compile(r"([TH])-(\d+)\t(.*)", re.DOTALL)
_SCORED = re.compile(r"(-?(?:\d[\d.e+-]*|inf|nan))\t(.*)", re.DOTALL)
# The last lines of a finished run: from the log, and (only with references) printed.
_TRANSLATED = re.compile(r".*\bTranslated ([\d,]+) sentences \(")
_GENERATED = re.compile(r"Generate \S+ with beam=\d+: ")


@dataclass(frozen=True)
class Generation:
    """Sentence i of each list belongs to id i. `hypotheses` are H- lines (tokenized), `targets` None if not printed."""

    hypotheses: list[str]
    targets: list[str] | None

    def unknown_in_targets(self) -> int:
        """References that hold a word the dictionary lacks (fairseq prints `<<unk>>` for it): no hypothesis can match
        it, where the real text could."""
        return sum("<<unk>>" in target for target in self.targets or [])


def looks_like_generation(path: Path) -> bool:
    """Whether the file has at least one hypothesis line of fairseq-generate."""
    return any(re.match(r"H-\d+\t", line) for line in read_lines(path))


def read_system(
    path: Path, references: Sequence[Path] | None
) -> tuple[list[str], list[list[str]], Generation | None]:
    """Hypotheses and references of a text file or of fairseq-generate's output (see `read_references`)."""
    generation = read_generation(path) if looks_like_generation(path) else None
    texts = read_references(references, generation, path)
    return generation.hypotheses if generation else read_lines(path), texts, generation


def read_references(given: Sequence[Path] | None, generation: Generation | None, of: Path) -> list[list[str]]:
    """The references of these files, or else of the generation. Raises UserError, naming `of`, without any."""
    if given:
        return [read_lines(reference) for reference in given]
    if generation is None or generation.targets is None:
        raise UserError(f"{of} has no references in it: give the reference file with --ref")
    return [generation.targets]


def read_generation(path: Path, sentences: int | None = None) -> Generation:
    """Reads a finished generation of ids 0..n-1; with several hypotheses per id (--nbest) the best-scored one counts.

    `sentences`: the number that there must be, if it is known from the data.
    Raises UserError if the generation did not finish or is empty, or if an id is missing or appears twice.
    """
    lines = read_lines(path)
    found: dict[str, list[tuple[int, str]]] = {letter: [] for letter in "TH"}  # (id, text) as they come
    for result in filter(None, map(_RESULT.fullmatch, lines)):
        found[result[1]].append((int(result[2]), result[3]))
    texts = {letter: _by_id(path, letter, each) for letter, each in found.items()}
    expected = _expected(path, lines, texts["H"], sentences)
    hypotheses = _in_order(path, texts["H"], expected, "hypothesis")
    return Generation(hypotheses, _in_order(path, texts["T"], expected, "reference") if texts["T"] else None)


def _by_id(path: Path, letter: str, lines: list[tuple[int, str]]) -> dict[int, str]:
    """The texts; of the n best of a sentence, which follow each other, the best one."""
    texts: dict[int, str] = {}
    for number, same in groupby(lines, key=itemgetter(0)):
        several = [text for _, text in same]
        if number in texts or (letter == "T" and len(several) > 1):
            raise UserError(f"{path}: sentence {number} is there twice (two runs in one file?); generate again")
        if letter == "H":
            scored = [_SCORED.fullmatch(text) for text in several]
            if not all(scored):
                raise UserError(f"{path}: line H-{number} is not a score and a text; was the line cut off?")
            several = [max(filter(None, scored), key=lambda match: float(match[1]))[2]]
        texts[number] = several[0]
    return texts


def _expected(path: Path, lines: list[str], hypotheses: dict[int, str], sentences: int | None) -> int:
    """How many sentences there must be, by the data or the closing lines of the one run that the file may hold."""
    translated = [int(match[1].replace(",", "")) for match in map(_TRANSLATED.match, lines) if match]
    generated = sum(map(bool, map(_GENERATED.match, lines)))
    if not (translated or generated):
        raise UserError(
            f"{path}: the generation did not finish ({len(hypotheses)} hypotheses, no closing 'Translated ... "
            "sentences' or 'Generate ... with beam' line); generate again"
        )
    if len(translated) > 1 or generated > 1:
        raise UserError(f"{path} holds the output of more than one run; generate again into a fresh file")
    if not hypotheses:
        raise UserError(f"{path} has no hypothesis (no H-<id> line); was fairseq-generate run with --quiet?")
    expected = sentences or (translated[0] if translated else max(hypotheses) + 1)
    if max(hypotheses) >= expected:
        raise UserError(f"{path}: id {max(hypotheses)}, but there are {expected} sentences; is it of other data?")
    return expected


def _in_order(path: Path, texts: dict[int, str], expected: int, what: str) -> list[str]:
    missing = [number for number in range(expected) if number not in texts]
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise UserError(f"{path}: no {what} for {len(missing)} of {expected} sentences (id {shown}); generate again")
    return [texts[number] for number in range(expected)]
