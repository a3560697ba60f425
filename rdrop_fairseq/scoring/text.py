"""Reading and writing the text that is scored: one sentence per line, a line ends at \\n only, UTF-8."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from rdrop_fairseq import files
from rdrop_fairseq.corpus.moses import Detokenizer
from rdrop_fairseq.errors import UserError

_SEGMENT = re.compile(r"<seg\b[^>]*>(.*)</seg>")


def read_lines(path: Path | None) -> list[str]:
    """The lines of a file or stdin, without their newlines; raises UserError if it cannot be read, is empty or not
    UTF-8."""
    name = path or "stdin"
    try:
        data = path.read_bytes() if path else sys.stdin.buffer.read()
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error
    if not data:
        raise UserError(f"{name} is empty: give a text file, one sentence a line")
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{name} line {line} is not UTF-8: convert the file first (iconv)") from error
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


def detokenize(lines: list[str], language: str | None) -> list[str]:
    """Moses-tokenized lines as people write them; unchanged without a language."""
    if language is None:
        return lines
    detokenizer = Detokenizer(language)
    return [detokenizer(line) for line in lines]
