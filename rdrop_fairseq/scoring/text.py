"""Reading and writing the text that is scored: one sentence per line, a line ends at \\n only, UTF-8."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rdrop_fairseq.corpus import files
from rdrop_fairseq.errors import UserError


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


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes the lines, each with a newline; the file is whole or not there."""
    with files.atomic(path, "w") as file:
        file.writelines(line + "\n" for line in lines)


def detokenize(lines: Iterable[str], language: str) -> list[str]:
    """Moses-tokenized lines as people write them."""
    from sacremoses import MosesDetokenizer

    detokenizer = MosesDetokenizer(lang=language)
    return [detokenizer.detokenize(line.split()) for line in lines]
