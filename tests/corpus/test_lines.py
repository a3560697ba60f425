"""corpus/lines.py: order, alignment, where a line ends, the same bytes for any number of workers, bounded memory."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from rdrop_fairseq.corpus import lines, moses
from rdrop_fairseq.errors import UserError

# Everything that Python's str.splitlines takes for the end of a line and Perl does not.
NOT_ENDS = "a\rb\x0bc\x0cd\x1ce\x1df\x1eg\x85h\u2028i\u2029j"


def shout(line: str) -> str:
    return line.upper()


def keep_even(left: str, right: str) -> tuple[str, str] | None:
    return (right, left) if int(left.split()[0]) % 2 == 0 else None


def identity(line: str) -> str:
    return line


def die(line: str) -> str:
    os._exit(3)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_only_newline_ends_a_line(tmp_path: Path) -> None:
    source = write(tmp_path / "in", f"{NOT_ENDS}\n\nlast without end")
    counts = lines.map_files(shout, [source], [tmp_path / "out"])
    assert (tmp_path / "out").read_bytes().decode() == f"{NOT_ENDS.upper()}\n\nLAST WITHOUT END\n"
    assert counts.read == counts.written == 3


@pytest.mark.parametrize("workers", [2, 3])
def test_same_bytes_for_any_number_of_workers(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", 1000)
    left = write(tmp_path / "l", "".join(f"{i} {'x' * (i % 97)} {NOT_ENDS}\n" for i in range(3000)))
    right = write(tmp_path / "r", "".join(f"{i} {'y' * (i % 89)}\n" for i in range(3000)))
    expected = None
    for number in (1, workers):
        outputs = [tmp_path / f"{number}.r", tmp_path / f"{number}.l"]
        counts = lines.map_files(keep_even, [left, right], outputs, workers=number)
        written = [path.read_bytes() for path in outputs]
        expected = expected or (counts, written)
        assert (counts, written) == expected
    assert counts.read == 3000
    assert counts.written == counts.dropped == 1500
    assert written[0].startswith(b"0 \n2 yy\n4 yyyy\n")
    assert counts.tokens[0] == len(written[0].split())


@pytest.mark.parametrize(("left", "right"), [(5, 3), (3, 5), (0, 1), (4000, 3999)])
def test_misaligned_files_are_refused_with_both_counts(tmp_path: Path, left: int, right: int) -> None:
    one = write(tmp_path / "one.de", "0 x\n" * left)
    two = write(tmp_path / "two.en", "0 y\n" * right)
    outputs = [tmp_path / "out.1", tmp_path / "out.2"]
    with pytest.raises(UserError, match=f"one.de has {left} lines, .*two.en has {right} lines"):
        lines.map_files(keep_even, [one, two], outputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.de", "two.en"], "nothing half-written stays"


def test_bytes_that_are_not_utf8_are_refused_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "bad.fr").write_bytes(b"ok\n" * 41 + b"caf\xe9 noir\nok\n")
    with pytest.raises(UserError, match=r"line 42 of .*bad\.fr is not UTF-8 \(byte 0xe9 at 3\)"):
        lines.map_files(identity, [tmp_path / "bad.fr"], [tmp_path / "out"])


def test_missing_input_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*nowhere"):
        lines.map_files(identity, [tmp_path / "nowhere"], [tmp_path / "out"])


def test_killed_worker_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    source = write(tmp_path / "in", "x\n" * 100)
    with pytest.raises(UserError, match="worker process was killed"):
        lines.map_files(die, [source], [tmp_path / "out"], workers=2)


class Endless(io.RawIOBase):
    """A stream that counts what was read from it."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.left, self.taken = blocks, 0

    def read1(self, size: int) -> bytes:
        self.left -= 1
        self.taken += 1
        return b"word word\n" * 100 if self.left >= 0 else b""


def test_reads_no_further_ahead_than_the_backlog() -> None:
    source = Endless(200)
    ahead = []

    class Sink(io.BytesIO):
        def write(self, data: object) -> int:
            ahead.append(source.taken - len(ahead))
            return 0

    counts = lines.map_streams(identity, [source], [Sink()], workers=2)  # type: ignore[list-item]
    assert counts.read == 20_000
    assert counts.tokens == (40_000,)
    assert max(ahead) <= 2 * lines.BACKLOG + 1


def test_progress_adds_up_to_the_size_of_the_first_input(tmp_path: Path) -> None:
    source = write(tmp_path / "in", "äöü\nxyz\n\n" * 50_000)
    seen: list[int] = []
    with open(source, "rb") as reader:
        lines.map_streams(identity, [reader], [io.BytesIO()], progress=seen.append)
    assert sum(seen) == source.stat().st_size
    assert len(seen) > 1


SURROGATES = b"a\xed\xa0\x80b \xed\xa0\xbd\xed\xb8\x80 c\n"


def test_surrogates_become_blanks_as_in_the_moses_chain(tmp_path):
    """remove-non-printing-char.perl is binmode :utf8 and s/\\p{C}/ /g: run here by Perl itself."""
    (tmp_path / "in").write_bytes(SURROGATES)
    lines.map_files(moses.remove_nonprinting, [tmp_path / "in"], [tmp_path / "out"])
    script = 'binmode(STDIN, ":utf8"); binmode(STDOUT, ":utf8"); while (<STDIN>) { s/[^\\P{C}\\n]/ /g; print; }'
    original = subprocess.run(["perl", "-e", script], input=SURROGATES, capture_output=True, check=True).stdout
    assert (tmp_path / "out").read_bytes() == original == b"a b    c\n"


def test_a_surrogate_that_stays_is_an_error(tmp_path):
    (tmp_path / "in").write_bytes(b"fine\n" + SURROGATES)
    with pytest.raises(UserError, match=r"in, within 2 lines from line 1: half a UTF-16 pair \('\\ud800'\)"):
        lines.map_files(str, [tmp_path / "in"], [tmp_path / "out"])
    assert not (tmp_path / "out").exists()
