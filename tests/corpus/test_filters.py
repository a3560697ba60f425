"""corpus/filters.py: the steps as commands, run as a person runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
COMMAND = [sys.executable, "-m", "rdrop_fairseq"]
ROOT = Path(__file__).parents[2]


def run(arguments: str, text: bytes) -> bytes:
    return subprocess.run([*COMMAND, *arguments.split()], input=text, capture_output=True, check=True, cwd=ROOT).stdout


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("tok-a", "--aggressive"),
        ("norm-tok-a", "--aggressive --normalize --workers 2"),
        ("tok-lower", "--lower"),
    ],
)
def test_tokenize_gives_the_golden_lines(mode: str, options: str) -> None:
    rows = json.loads((GOLDEN / "moses.de.json").read_text(encoding="utf-8"))
    raw = "".join(row["raw"] + "\n" for row in rows).encode()
    assert run(f"tokenize --lang de {options}", raw).decode() == "".join(row[mode] + "\n" for row in rows)


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        ("tokenize --lang en --no-escape", "a <b>\n", "a < b >\n"),
        ("tokenize --lang en", "\n \t\n\x0c\na\x1cb.\r\n", "\n \t\n\x0c\nab .\n"),
        ("normalize --lang en", "„a\xad“ ,b\n\n  \n", '"a\xad" ,b\n\n \n'),
        ("normalize --lang en --remove-nonprinting", "a\xadb\n", "a b\n"),
        ("lower", "ΟΔΟΣ İ\r\n\nlast", "οδοσ i\u0307\r\n\nlast\n"),
        ("detokenize --lang fr", "l&apos; homme @-@ orchestre , ça ?\n\n", "l'homme-orchestre, ça ?\n\n"),
    ],
)
def test_one_line_in_one_line_out(command: str, text: str, expected: str) -> None:
    assert run(command, text.encode()).decode() == expected


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        [*COMMAND, "tokenize", "--lang", "en"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"first line.\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"first line .\n", "a line comes out before the next one is there"
        process.stdout.close()
        try:
            process.stdin.write(b"more.\n" * 100_000)
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


def test_a_language_without_prefixes_is_told() -> None:
    result = subprocess.run(
        [*COMMAND, "tokenize", "--lang", "xx"], input=b"a.\n", capture_output=True, check=True, cwd=ROOT
    )
    assert result.stdout == b"a .\n"
    assert b"no non-breaking prefixes for xx" in result.stderr


def test_bytes_that_are_not_utf8_are_an_error() -> None:
    result = subprocess.run([*COMMAND, "lower"], input=b"ok\n\xff\n", capture_output=True, check=False, cwd=ROOT)
    assert result.returncode == 1
    assert b"error: line 2 of standard input is not UTF-8" in result.stderr
