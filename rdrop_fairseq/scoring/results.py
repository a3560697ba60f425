"""A scored translation: its texts, its scores, and the directory that keeps both for a later comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rdrop_fairseq import files, published
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import conventions
from rdrop_fairseq.scoring.text import detokenize, read_lines, write_lines

SCORES = "scores.json"
REPORT = "scores.txt"


@dataclass(frozen=True)
class Texts:
    """Hypotheses and references (one list per reference translation), tokenized and as people write them.

    Raises UserError if their numbers of lines differ.
    """

    hypotheses: list[str]
    references: list[list[str]]
    plain_hypotheses: list[str]
    plain_references: list[list[str]]
    language: str | None = None
    lowercase: bool = False

    def __post_init__(self) -> None:
        for lines in (*self.references, *self.plain_references):
            if len(lines) != len(self.hypotheses):
                raise UserError(
                    f"{len(self.hypotheses)} hypotheses but {len(lines)} references: both must have one line per "
                    "sentence"
                )

    def pair(self, convention: str) -> tuple[list[str], list[list[str]]]:
        """The hypotheses and references that the convention is defined on."""
        if convention in conventions.ON_TOKENS:
            return self.hypotheses, self.references
        return self.plain_hypotheses, self.plain_references

    def score(self, convention: str) -> conventions.Score:
        """One score. Conventions on plain text compare lowercased data without regard to case, since the plain
        reference may have capitals; those on tokenized text only if asked to, as multi-bleu.perl does."""
        return conventions.score(convention, *self.pair(convention), self.language, self.lowercases(convention))

    def lowercases(self, convention: str) -> bool:
        """Whether the convention compares without regard to case."""
        return self.lowercase or (convention not in conventions.ON_TOKENS and is_lowercased(self.references))


def is_lowercased(references: Sequence[Sequence[str]]) -> bool:
    """Whether the text has cased letters and all of them are small: the preparation lowercased it."""
    text = [line for reference in references for line in reference if line != "" and not line.isspace()]
    return all(line == line.lower() for line in text) and any(line != line.upper() for line in text)


def make_texts(
    hypotheses: list[str],
    references: list[list[str]],
    language: str | None,
    plain_references: list[list[str]] | None = None,
    lowercase: bool = False,
) -> Texts:
    """Texts from tokenized ones, detokenized by the rules of `language`, or left unchanged without a language.

    plain_references: the references as people wrote them, used instead of detokenized ones.
    """
    plain_hypotheses = detokenize(hypotheses, language)
    plain_references = plain_references or [detokenize(reference, language) for reference in references]
    return Texts(hypotheses, references, plain_hypotheses, plain_references, language, lowercase)


@dataclass(frozen=True)
class Result:
    """The report on one system: scores, the published numbers beside them, and how the translation was made."""

    scores: list[conventions.Score]
    sentences: int
    benchmark: str | None = None
    notes: list[str] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)

    def as_json(self, texts: Texts) -> str:
        """Everything, for programs."""
        others = published.TABLE.get(self.benchmark or "", [])
        content = {
            "benchmark": self.benchmark,
            "sentences": self.sentences,
            "language": texts.language,
            "lowercase": texts.lowercase,
            "scores": [asdict(score) for score in self.scores],
            "published": [number.as_json() for number in others],
            "notes": self.notes,
            "made": self.made,
        }
        return json.dumps(content, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        lines = []
        for score in self.scores:
            lines += [f"{score.score:6.2f}  {score.title}", f"        {score.line}", f"        {score.signature}"]
        others = published.TABLE.get(self.benchmark or "", [])
        if others:
            lines.append(f"published for {self.benchmark} (not measured here):")
            lines += [f"{number.score:>6}  {number.system}: {number.remark()}" for number in others]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def write(directory: Path, texts: Texts, result: Result) -> None:
    """The texts, scores.txt and, last, scores.json, which makes the directory a result."""
    write_lines(directory / "hyp.tok", texts.hypotheses)
    write_lines(directory / "hyp.detok", texts.plain_hypotheses)
    for kind, references in (("tok", texts.references), ("detok", texts.plain_references)):
        for number, lines in enumerate(references):
            write_lines(directory / f"ref.{kind}.{number}", lines)
    write_lines(directory / REPORT, [str(result)])
    with files.atomic(directory / SCORES, "w") as file:
        file.write(result.as_json(texts) + "\n")


def read(directory: Path) -> Texts:
    """The texts of a directory that write() made."""
    path = directory / SCORES
    text = "\n".join(read_lines(path))
    try:
        content = json.loads(text)
        language, lowercase = content["language"], content["lowercase"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} was not written by this project's score command: score the system again") from error
    count = len(list(directory.glob("ref.tok.*")))
    tokenized = [read_lines(directory / f"ref.tok.{number}") for number in range(count)]
    plain = [read_lines(directory / f"ref.detok.{number}") for number in range(count)]
    hypotheses, plain_hypotheses = read_lines(directory / "hyp.tok"), read_lines(directory / "hyp.detok")
    return Texts(hypotheses, tokenized, plain_hypotheses, plain, language, lowercase)
