"""corpus/clean.py: the rule of clean-corpus-n.perl, and the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.corpus.clean import Cleaner
from rdrop_fairseq.errors import UserError


def words(number: int) -> str:
    return " ".join(["w"] * number)


@pytest.mark.parametrize(
    ("left", "right", "kept"),
    [
        (1, 1, True),
        (0, 1, False),
        (1, 0, False),
        (2, 3, True),  # exactly 1.5 times is kept
        (3, 2, True),
        (3, 5, False),
        (5, 3, False),
        (10, 10, True),
        (10, 11, False),
        (11, 10, False),
    ],
)
def test_length_and_ratio(left: int, right: int, kept: bool) -> None:
    result = Cleaner(minimum=1, maximum=10, ratio=1.5)(words(left), words(right))
    assert result == ((words(left), words(right)) if kept else None)


def test_minimum_counts_on_both_sides() -> None:
    rule = Cleaner(minimum=2)
    assert rule(words(2), words(2)) is not None
    assert rule(words(1), words(2)) is None
    assert rule(words(2), words(1)) is None


def test_white_space_is_squeezed_as_perl_sees_it() -> None:
    assert Cleaner()(" a \t\xa0b\u2028c\r", "x\x0by\x85z\x1cz") == ("a b c", "x y z\x1cz")
    assert Cleaner()(" \xa0 ", "x") is None


def test_bars_are_deleted_or_are_factors() -> None:
    assert Cleaner()("a | b|c", "x") == ("a bc", "x")
    assert Cleaner(factored=True)("a|A b|B", "x|X") == ("a|A b|B", "x|X")
    with pytest.raises(UserError, match="factor is blank"):
        Cleaner(factored=True)("a |A", "x|X")


def test_overlong_words_drop_the_pair() -> None:
    assert Cleaner()("x" * 1000, "y") is not None
    assert Cleaner()("x" * 1001, "y") is None
    assert Cleaner()("y", "x" * 1001) is None


def test_lowercase_is_perls() -> None:
    assert Cleaner(lower=True)("ΣΑΣ", "AÄ") == ("σασ", "aä")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.de").write_bytes("a b c\n\nd e\x1ce\u2028\nx\n".encode())
    (tmp_path / "in.en").write_bytes(b"a b\nx\nd e f\nx y\n")
    paths = [str(tmp_path / name) for name in ("in.de", "in.en", "out.de", "out.en")]
    assert main(["clean", *paths, "--ratio", "1.5", "--workers", "2"]) == 0
    assert (tmp_path / "out.de").read_bytes().decode() == "a b c\nd e\x1ce\n"
    assert (tmp_path / "out.en").read_bytes().decode() == "a b\nd e f\n"
    assert "Input sentences: 4  Output sentences: 2" in capsys.readouterr().err


def test_command_refuses_files_that_do_not_match(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.de").write_text("a\nb\n")
    (tmp_path / "in.en").write_text("a\n")
    paths = [str(tmp_path / name) for name in ("in.de", "in.en", "out.de", "out.en")]
    assert main(["clean", *paths]) == 1
    assert "in.de has 2 lines" in capsys.readouterr().err
    assert not (tmp_path / "out.de").exists()
