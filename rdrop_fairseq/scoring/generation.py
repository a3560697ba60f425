"""Reads what fairseq-generate prints: sentences by id, complete or refused.

The stream mixes results with the log and with warnings of libraries ("Hydra 1.4 will ..." begins with H as a hypothesis
does), so only lines made of a letter, `-`, a number and a tab count. Order in the file is by length; here by id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.text import read_lines

_RESULT = re.compile(r"([STHD])-(\d+)\t(.*)", re.DOTALL)
_SCORED = re.compile(r"(-?(?:\d[\d.e+-]*|inf|nan))\t(.*)", re.DOTALL)
# The last lines of a finished run: from the log, and (only with references) printed.
_TRANSLATED = re.compile(r".*\bTranslated ([\d,]+) sentences \(")
_GENERATED = re.compile(r"Generate \S+ with beam=\d+: ")


@dataclass(frozen=True)
class Generation:
    """Sentence i of each list belongs to id i. `hypotheses` are H- lines (tokenized), `detokenized` the D- lines, which
    differ only if fairseq-generate was given --tokenizer or --bpe. `sources` and `targets` are None if not printed."""

    hypotheses: list[str]
    detokenized: list[str]
    sources: list[str] | None
    targets: list[str] | None

    def unknown_in_targets(self) -> int:
        """References that hold a word the dictionary lacks (fairseq prints `<<unk>>` for it): no hypothesis can match
        it, where the real text could."""
        return sum("<<unk>>" in target for target in self.targets or [])


def looks_like_generation(path: Path) -> bool:
    """Whether the file has at least one hypothesis line of fairseq-generate."""
    return any(re.match(r"H-\d+\t", line) for line in read_lines(path))


def read_generation(path: Path, sentences: int | None = None) -> Generation:
    """Reads a finished generation of ids 0..n-1; with several hypotheses per id (--nbest) the best-scored one counts.

    `sentences`: how many there must be, where that is known from the data.
    UserError if the generation did not finish, is empty, or an id is missing or there twice.
    """
    reader = _Reader(path)
    for line in read_lines(path):
        reader.line(line)
    return reader.result(sentences)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: dict[str, dict[int, str]] = {letter: {} for letter in "STHD"}
        self.scores: dict[str, dict[int, float]] = {"H": {}, "D": {}}
        self.current: dict[str, int | None] = {"H": None, "D": None}
        self.translated: list[int] = []
        self.generated = 0

    def line(self, line: str) -> None:
        result = _RESULT.fullmatch(line)
        if result:
            letter, number, text = result[1], int(result[2]), result[3]
            if letter in "HD":
                self._hypothesis(letter, number, text)
            elif number in self.texts[letter]:
                raise self._twice(number)
            else:
                self.texts[letter][number] = text
            return
        translated = _TRANSLATED.match(line)
        if translated:
            self.translated.append(int(translated[1].replace(",", "")))
        self.generated += bool(_GENERATED.match(line))

    def _hypothesis(self, letter: str, number: int, rest: str) -> None:
        scored = _SCORED.fullmatch(rest)
        if not scored:
            raise UserError(f"{self.path}: line {letter}-{number} is not a score and a text; was the line cut off?")
        score = float(scored[1])
        # The n best of one sentence follow each other; an id that comes back later is a second run in the same file.
        known = self.scores[letter]
        if number in known and self.current[letter] != number:
            raise self._twice(number)
        self.current[letter] = number
        if number not in known or score > known[number]:
            known[number] = score
            self.texts[letter][number] = scored[2]

    def _twice(self, number: int) -> UserError:
        return UserError(f"{self.path}: sentence {number} is there twice (two runs in one file?); generate again")

    def result(self, sentences: int | None) -> Generation:
        found = self.texts["H"]
        if not (self.translated or self.generated):
            raise UserError(
                f"{self.path}: the generation did not finish ({len(found)} hypotheses, no closing 'Translated ... "
                "sentences' or 'Generate ... with beam' line); generate again"
            )
        if len(self.translated) > 1 or self.generated > 1:
            raise UserError(f"{self.path} holds the output of more than one run; generate again into a fresh file")
        if not found:
            raise UserError(f"{self.path} has no hypothesis (no H-<id> line); was fairseq-generate run with --quiet?")
        expected = sentences or (self.translated[0] if self.translated else max(found) + 1)
        if max(found) >= expected:
            raise UserError(f"{self.path}: id {max(found)}, but there are {expected} sentences; is it of other data?")
        hypotheses = self._in_order("H", expected, "hypothesis")
        return Generation(
            hypotheses,
            detokenized=self._in_order("D", expected, "D- line") if self.texts["D"] else hypotheses,
            sources=self._in_order("S", expected, "source") if self.texts["S"] else None,
            targets=self._in_order("T", expected, "reference") if self.texts["T"] else None,
        )

    def _in_order(self, letter: str, expected: int, what: str) -> list[str]:
        texts = self.texts[letter]
        missing = [number for number in range(expected) if number not in texts]
        if missing:
            shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise UserError(
                f"{self.path}: no {what} for {len(missing)} of {expected} sentences (id {shown}); generate again"
            )
        return [texts[number] for number in range(expected)]
