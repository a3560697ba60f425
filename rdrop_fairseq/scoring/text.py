"""Reading and writing the text that is scored: one sentence per line, a line ends at \\n only, UTF-8."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from rdrop_fairseq import files
from rdrop_fairseq.corpus.moses import Detokenizer
from rdrop_fairseq.errors import UserError

_SEGMENT = re.compile(r"<seg\b[^>]*>(.*)</seg>")


def read_lines(path: Path) -> list[str]:
    """The lines of a file without their newlines; UserError if it cannot be read, is empty or is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not data:
        raise UserError(f"{path} is empty: there is nothing to score")
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} line {line} is not UTF-8: convert the file first (iconv)") from error
    return lines[:-1] if lines[-1] == "" else lines


def read_reference(path: Path) -> list[str]:
    """References as people wrote them: lines of text, or (.sgm) the segments of a WMT test set.

    Segments are taken as sacreBLEU takes those of its own test sets: entities stay, runs of white space become a space.
    """
    lines = read_lines(path)
    if path.suffix != ".sgm":
        return lines
    found = (_SEGMENT.search(line) for line in lines)
    segments = [" ".join(segment[1].split()) for segment in found if segment]
    if not segments:
        raise UserError(f"{path} has no <seg ...>...</seg> line: is it a test set of WMT?")
    return segments


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes the lines, each with a newline; the file is whole or not there."""
    with files.atomic(path, "w") as file:
        file.writelines(line + "\n" for line in lines)


def detokenize(lines: Iterable[str], language: str) -> list[str]:
    """Moses-tokenized lines as people write them."""
    detokenizer = Detokenizer(language)
    return [detokenizer(line) for line in lines]
